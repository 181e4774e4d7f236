"""Stage split@STUDY: data/raw/STUDY.parquet -> data/split/STUDY/{train,validation,test}.parquet."""

import numpy as np

from bancada.base import files, stage, tables
from bancada.base.params_file import ParamsFile
from bancada.base.refusals import PARAMS_FILE, BadInput
from bancada.base.settings import checked
from bancada.base.tables import Table
from bancada.data.settings import Split


def main(params: ParamsFile, study: str) -> None:
    """Split the rows of data/raw/STUDY.parquet as `studies.STUDY.split` says."""
    key = f"studies.{study}.split"
    parts = parts_of(tables.read(files.raw(study)), checked(Split, params.value(key), key), key)
    with files.whole(files.split(study)) as folder:
        folder.mkdir()
        for part, rows in parts.items():
            tables.write(rows, folder / f"{part}.parquet")


def parts_of(table: Table, split: Split, key: str) -> dict[str, Table]:
    """Return `divide(table, split)`. Raise BadInput, which names `key` of params.yaml, for an impossible split."""
    try:
        return divide(table, split)
    except ValueError as error:
        raise BadInput(f"{PARAMS_FILE}: {key}: {error}") from None


def divide(table: Table, split: Split) -> dict[str, Table]:
    """Each row in exactly one of train, validation and test; with `validation: test` the test rows are both.

    scikit-learn's train_test_split parts the test rows from the others, then the validation rows from those that are
    left: so the test rows do not change with the share of the others. ValueError where the split is impossible.
    """
    _, validation, test = split.counts(len(table))
    if split.stratify and not table.classes:
        raise ValueError("only classes can be stratified")
    if validation or test:  # seconds of imports, which a study that holds nothing out does without
        from sklearn.model_selection import train_test_split
    labels = np.array(table.classes)[table.targets[:, 0]] if split.stratify else None
    left, part = np.arange(len(table)), dict.fromkeys(files.PARTS, np.arange(0))
    for name, rows in (("test", test), ("validation", validation)):
        if rows:
            try:
                left, part[name] = train_test_split(
                    left, test_size=rows, random_state=split.seed, stratify=None if labels is None else labels[left]
                )
            except ValueError as error:
                raise ValueError(f"{name} rows cannot be stratified: {' '.join(str(error).split())}") from None
    part["train"] = left
    if split.validation == "test":
        part["validation"] = part["test"]
    seen = set(table.targets[left, 0].tolist())
    left_out = [str(label) for index, label in enumerate(table.classes) if index not in seen]
    if left_out:
        raise ValueError(f"leaves no training row of class {', '.join(left_out)}")
    return {name: table.take(part[name]) for name in files.PARTS}


if __name__ == "__main__":
    stage.run(main, of="studies")
