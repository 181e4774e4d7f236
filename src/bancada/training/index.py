"""Stage index@STUDY: data/models/STUDY -> data/index/STUDY.json, the study's variants and hashes of their files.

evaluate@STUDY depends on this one file: a variant that is taken out of params.yaml changes it, and a model that is left
over does not.
"""

import json
from collections.abc import Mapping

from bancada.base import files, index, params_file, stage
from bancada.base.refusals import bad
from bancada.base.settings import checked
from bancada.training.settings import Variant


def main(params: params_file.ParamsFile, study: str) -> None:
    """Write the index of the study. Raise BadInput where no variant belongs to it, or one is not trained."""
    every = params.value("variants")
    names = every if isinstance(every, Mapping) else ()
    variants = [name for name in names if checked(Variant, every[name], f"variants.{name}").study == study]
    if not variants:
        raise bad(f"studies.{study}", None, "no variant belongs to it")
    with files.whole(files.index(study)) as unfinished:
        unfinished.write_text(json.dumps(index.of_models(study, variants), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main, of="studies")
