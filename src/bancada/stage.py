"""The door of every stage: one name as the argument, all of params.yaml checked, bad input told in one line."""

import gc
import sys
from collections.abc import Callable
from typing import Literal

from bancada.config import load
from bancada.model import did_you_mean
from bancada.refusals import BadInput
from bancada.schema import Params


def run(main: Callable[[Params, str], None], of: Literal["studies", "variants"]) -> None:
    """Call `main` with params and the study or variant that the command line names; exit status 2 for bad input."""
    try:
        if len(sys.argv) != 2:
            raise BadInput(f"usage: python -m bancada.STAGE NAME, with NAME one of the {of} of params.yaml")
        params, name = load(), sys.argv[1]
        known = params.studies if of == "studies" else params.variants
        if name not in known:
            raise BadInput(f"params.yaml: {of}.{name}: there is none{did_you_mean(name, known)}")
        main(params, name)
        gc.freeze()  # spares Python a last search for garbage, half a second with torch
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
