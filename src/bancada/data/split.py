"""Stage split@STUDY: data/raw/STUDY.parquet -> data/split/STUDY/{train,validation,test}.parquet."""

import numpy as np

from bancada.base import files, params_file, refusals, settings, stage, tables
from bancada.data.settings import Split


def main(params: params_file.ParamsFile, study: str) -> None:
    """Split the rows as `studies.STUDY.split` says. Raise BadInput if that is impossible."""
    key = f"studies.{study}.split"
    parts = parts_of(tables.read(files.raw(study)), settings.checked(Split, params.value(key), key), key)
    with files.whole(files.split(study)) as folder:
        folder.mkdir()
        for part, rows in parts.items():
            tables.write(rows, folder / f"{part}.parquet")


def parts_of(table: tables.Table, split: Split, key: str) -> dict[str, tables.Table]:
    """Return `divide(table, split)`. If the split is impossible, raise BadInput that names `key` of params.yaml."""
    try:
        return divide(table, split)
    except ValueError as error:
        raise refusals.BadInput(f"{refusals.PARAMS_FILE}: {key}: {error}") from None


def divide(table: tables.Table, split: Split) -> dict[str, tables.Table]:
    """Return train, validation and test: each row is in one of them; with `validation: test` the test rows are both.

    scikit-learn's train_test_split takes the test rows first, then the validation rows from the rows that are left, so
    that the test rows do not depend on the number of validation rows. Raise ValueError if the split is impossible.
    """
    _, validation, test = split.counts(len(table))
    if split.stratify and not table.classes:
        raise ValueError("only classes can be stratified")
    labels = table.targets[:, 0] if split.stratify else None
    left, part = np.arange(len(table)), dict.fromkeys(files.PARTS, np.arange(0))
    for name, rows in (("test", test), ("validation", validation)):
        if rows:
            from sklearn.model_selection import train_test_split  # takes seconds: only if it is needed

            try:
                left, part[name] = train_test_split(
                    left, test_size=rows, random_state=split.seed, stratify=None if labels is None else labels[left]
                )
            except ValueError as error:
                raise ValueError(f"{name} rows cannot be stratified: {' '.join(str(error).split())}") from None
    part["train"] = left
    if split.validation == "test":
        part["validation"] = part["test"]
    left_out = [str(label) for index, label in enumerate(table.classes) if index not in table.targets[left, 0]]
    if left_out:
        raise ValueError(f"leaves no training row of class {', '.join(left_out)}")
    kept = table.only([name for name in table.feature_names if name not in table.asides]) if table.asides else table
    return {name: kept.take(part[name]) for name in files.PARTS}


if __name__ == "__main__":
    stage.run(main, of="studies")
