"""Stage generate@STUDY: the study's source -> data/raw/STUDY.parquet."""

from bancada.base import compiled_code, files, params_file, stage, tables
from bancada.data import sources


def main(params: params_file.ParamsFile, study: str) -> None:
    """Make the table that `studies.STUDY.source` describes. Raise BadInput if that is impossible."""
    compiled_code.begin()
    key = f"studies.{study}.source"
    source = sources.of_study(params, study)
    table = source.table(key)
    source.refuse_changing(table, key)
    tables.write(table, files.raw(study))


if __name__ == "__main__":
    stage.run(main, of="studies")
