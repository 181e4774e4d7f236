"""The `bancada` command. Works from any folder of the repository; wrong input is told in one line, exit status 2."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, show_default="all cores", help="Stages at a time.")]
REMOVED = "the temporary clone is removed, and nothing here was changed"
GOES_ON = "what was finished is kept, and the next run goes on from there"


@app.callback()
def bancada() -> None:
    """A workbench for PyTorch experiments whose figures hold twice."""


@app.command()
def repro(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Stages, as for dvc repro; all where none is named.")
    ] = None,
    jobs: Jobs = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run every stage, up to date or not.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="BANCADA_QUIET", help="No leaderboards at the end.")
    ] = False,
) -> None:
    """Run what is stale of the pipeline, independent stages side by side: `dvc repro`, only faster."""
    with at_the_root(kept="" if quiet else GOES_ON):
        from bancada.pipeline import params
        from bancada.pipeline.repro import repro, show_results

        status = repro(targets or [], jobs or cores(), force, logs_stay=not quiet)
        if status == 0 and not quiet:
            show_results(params.load())
    raise typer.Exit(status)


@app.command()
def track(
    all_exps: Annotated[bool, typer.Option("--all-exps", help="Also the results of every DVC experiment.")] = False,
) -> None:
    """Write to MLflow what the pipeline's files hold and MLflow does not, and nothing twice."""
    with at_the_root():
        from bancada.tracking.catch_up import track

        status = track(all_exps)
    raise typer.Exit(status)


@app.command()
def ui() -> None:
    """MLflow's pages, with all results that are here: bancada track, then mlflow ui."""
    with at_the_root():
        from bancada.tracking.catch_up import show, track

        if track(all_experiments=False) == 1:
            raise typer.Exit(1)
        uri = show()
    if uri:  # told in the environment, for on the command line everybody could read its password
        os.environ |= {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui"])


@app.command()
def check(
    prune: Annotated[bool, typer.Option("--prune", help="Take stages that are gone out of dvc.lock first.")] = False,
    hook: Annotated[
        bool, typer.Option("--hook", help="Bring data/code up to date first, and git add it: for the pre-commit hook.")
    ] = False,
) -> None:
    """Compare dvc.lock with dvc.yaml, params.yaml, the code and the results that are here. Runs no stage.

    Exit status: 0 all is as dvc.lock says; 1 not, a line each; 2 it could not be looked at.
    """
    with at_the_root():
        from bancada.pipeline.check import add_code, check

        found = (add_code() if hook else []) + check(prune)
        print("\n".join(map(str, found)) or "all that is here is as dvc.lock says")
    raise typer.Exit(1 if found else 0)


@app.command()
def verify(
    stages: Annotated[
        list[str] | None, typer.Option("--stages", help="Only these and what they depend on: train@line_sgd,...")
    ] = None,
    jobs: Jobs = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write a summary there.")] = None,
) -> None:
    """Run every stage of HEAD in a temporary clone, without a cache, and hold the results against the committed ones.

    Exit status: 0 all same bits; 3 within tolerance; 1 different; 2 could not be run.
    """
    json_file, markdown_file = (path and path.absolute() for path in (json_file, markdown_file))
    with no_verdict_but_by_name(), at_the_root(kept=REMOVED):
        from bancada.pipeline.verify import verify

        named = [name.strip() for names in stages or () for name in names.split(",") if name.strip()]
        status = verify(named, jobs or cores(), json_file, markdown_file)
    raise typer.Exit(status)


@app.command()
def reproduce(
    run_id: Annotated[str, typer.Argument(help="Of a run in MLflow's store.")],
    jobs: Jobs = None,
) -> None:
    """Train again what an MLflow run holds, at its commit and with its parameters, in a temporary clone.

    Exit status: 0 the weights that the run recorded; 3 within tolerance; 1 different; 2 could not be run.
    """
    with no_verdict_but_by_name(), at_the_root(kept=REMOVED):
        from bancada.pipeline.reproduce import reproduce

        status = reproduce(run_id, jobs or cores())
    raise typer.Exit(status)


@contextmanager
def no_verdict_but_by_name() -> Iterator[None]:
    """A defect of ours would end with Python's 1, which says `different`: here with 2."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception:  # whatever it is, its traceback is shown
        traceback.print_exc()
        raise typer.Exit(2) from None


@contextmanager
def at_the_root(kept: str = GOES_ON) -> Iterator[None]:
    """In the repository's root. BadInput ends the program with its line and 2, Ctrl-C with 130, SIGTERM with 143.

    `kept`: what Ctrl-C leaves, in words.
    """
    from bancada.base.refusals import BadInput

    signal.signal(signal.SIGTERM, _terminate)
    try:
        here = Path.cwd()
        root = next((folder for folder in (here, *here.parents) if (folder / "dvc.yaml").exists()), None)
        if root is None:
            raise BadInput(f"{here}: neither this folder nor one above it holds a dvc.yaml")
        os.chdir(root)
        yield
    except BadInput as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if kept:
            print(f"interrupted; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None


def _terminate(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
