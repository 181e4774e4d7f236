"""Stage generate@STUDY: the study's source -> data/raw/STUDY.parquet."""

from bancada import files, sources, stage, tables
from bancada.config import check_predict
from bancada.schema import Params


def main(params: Params, name: str) -> None:
    study = params.studies[name]
    table = sources.make(study.source, name)
    check_predict(name, study, table.feature_names)
    tables.write(table, files.raw(name))


if __name__ == "__main__":
    stage.run(main, of="studies")
