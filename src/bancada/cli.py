"""The `bancada` command. It works from any folder of the repository; wrong input is one line and exit status 2."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


REMOVED = "the temporary clone is removed, and nothing here was changed"
GOES_ON = "what was finished is kept, and the next run goes on from there"


@app.callback()
def bancada() -> None:
    """Run, check and verify PyTorch experiments over many seeds: a DVC pipeline with MLflow tracking."""


@app.command()
def repro(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages, as for dvc repro; none: all.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run every stage, up to date or not.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", envvar="BANCADA_QUIET", help="Show no leaderboards.")] = False,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", envvar="BANCADA_RAY", help="Train on a Ray cluster: HOST:PORT, or auto.")
    ] = "",
    recheck: Annotated[
        str, typer.Option(metavar="K", envvar="BANCADA_RECHECK", help="Train one in K there twice, on two nodes: 20.")
    ] = "",
) -> None:
    """Check params.yaml and the data, run what is stale of the pipeline as `dvc repro` does, show leaderboards."""
    os.environ |= {"BANCADA_RAY": ray, "BANCADA_RECHECK": recheck}
    with at_the_root(kept="" if quiet else GOES_ON):
        from bancada.pipeline.repro import repro

        raise typer.Exit(repro(targets or [], force, quiet))


@app.command()
def track(
    all_exps: Annotated[bool, typer.Option("--all-exps", help="Also the results of every DVC experiment.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Bring back what was deleted in MLflow.")] = False,
    seeds: Annotated[
        str, typer.Option(metavar="VARIANT", help="Also a nested run for each seed of this variant, with its curves.")
    ] = "",
) -> None:
    """Write to MLflow what the pipeline's files hold and MLflow does not, and nothing twice.

    Exit status: 0 all is recorded; 1 something is not, with a line for each cause; 2 there is no store to write to.
    """
    with at_the_root():
        from bancada.tracking.catch_up import track

        raise typer.Exit(track(all_exps, restore, seeds))


@app.command()
def ui(
    host: Annotated[str, typer.Option("--host", envvar="MLFLOW_HOST", help="0.0.0.0: all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", envvar="MLFLOW_PORT", min=1, max=65535)] = 5000,
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            "--allowed-hosts",
            envvar="MLFLOW_SERVER_ALLOWED_HOSTS",
            help="Names by which browsers may ask for it: bench.example,10.0.0.7; without it, this machine's own and "
            "private addresses.",
        ),
    ] = None,
) -> None:
    """Show MLflow's pages with all results that are here: bancada track, then mlflow ui, until Ctrl-C."""
    with at_the_root(kept=""):
        from bancada.tracking.ui import show

        raise typer.Exit(show(host, port, allowed_hosts))


@app.command()
def check(
    prune: Annotated[
        bool, typer.Option("--prune", help="First remove what is left of variants that are gone.")
    ] = False,
    hook: Annotated[bool, typer.Option("--hook", help="First run the stage code and git add its result.")] = False,
) -> None:
    """Compare dvc.lock with dvc.yaml, params.yaml, the code and the results that are here. Run no other stage.

    Exit status: 0 all is as dvc.lock says; 1 not, a line each; 2 it could not be compared.
    """
    with at_the_root():
        from bancada.pipeline.check import add_code, check

        found = (add_code() if hook else []) + check(prune)
        print("\n".join(map(str, found)) or "all that is here is as dvc.lock says")
        raise typer.Exit(1 if found else 0)


@app.command()
def report(file: Annotated[Path, typer.Argument(metavar="FILE.html", help="A new file, or one to replace.")]) -> None:
    """Write a copy of data/report.html, all results on a page, with commit and verdict of `bancada check` on top."""
    file = file.resolve()
    with at_the_root():
        from bancada.pipeline.report import report

        print(report(file), f"\nwritten: {file}", sep="")


@app.command()
def compare(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXP]...", help="Of DVC, commits or `workspace`; none: the workspace and all of DVC's."
        ),
    ] = None,
) -> None:
    """Print how the results of experiments differ from those of the commit they began at, and what was asked."""
    with at_the_root(kept=""):
        from bancada.pipeline.compare import compare

        compare(experiments or [])


@app.command()
def verify(
    stages: Annotated[
        list[str] | None, typer.Option("--stages", help="Only these and what they depend on: train@line_sgd,...")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write a summary there.")] = None,
) -> None:
    """Run every stage of HEAD in a temporary clone, without a cache, and compare the results with the committed ones.

    Exit status: 0 all same bits; 3 within tolerance; 1 different; 2 could not be run.
    """
    json_file, markdown_file = (path and path.absolute() for path in (json_file, markdown_file))
    with at_the_root(kept=REMOVED):
        from bancada.pipeline.verify import verify

        named = [name.strip() for names in stages or () for name in names.split(",") if name.strip()]
        raise typer.Exit(verify(named, json_file, markdown_file))


@app.command()
def reproduce(
    run_id: Annotated[str, typer.Argument(help="Of a run in MLflow's store; its first letters will do.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run also code that came from the store.")] = False,
) -> None:
    """Train again what an MLflow run holds, at its commit and with its parameters, in a temporary clone.

    What was not committed came from the store: it is shown first, where it is more than params.yaml.
    Exit status: 0 the weights that the run recorded; 3 within tolerance; 1 different; 2 could not be run.
    """
    with at_the_root(kept=REMOVED):
        from bancada.pipeline.reproduce import reproduce

        raise typer.Exit(reproduce(run_id, yes))


@app.command()
def clean() -> None:
    """Empty the store of replicas: the next training of a variant begins anew. Results stay as they are."""
    with at_the_root():
        from bancada.training.store import FOLDER, clean

        print(f"{FOLDER}: {clean()} entries removed")


@app.command()
def predict(
    variant: Annotated[str, typer.Argument(help="Of params.yaml, trained and evaluated.")],
    table: Annotated[Path, typer.Argument(metavar="FILE.csv", help="With a column for each feature, in any order.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", show_default="stdout", help="Write them there.")] = None,
    seeds: Annotated[
        Literal["best", "all"],
        typer.Option(help="best: by validation rows; all: mean and spread, or shares."),
    ] = "best",
) -> None:
    """Write a CSV table with a trained variant's predictions for the rows of another."""
    table, out = table.absolute(), out and out.resolve()  # of a link, the file is replaced
    with at_the_root(kept=""):
        from bancada.pipeline.predict import predict

        predict(variant, table, out, seeds)


@app.command()
def new(
    folder: Annotated[Path | None, typer.Argument(help="To make, with a git repository of its own.")] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Bring the project around the current folder to this bancada.")
    ] = False,
) -> None:
    """Make a project of your own, with an example study to replace. It depends on this bancada, and holds a copy of it.

    Exit status of --upgrade: 0 done; 1 done, but a file has to be looked at; 2 nothing was changed.
    """
    with at_the_root(kept="") if upgrade else in_one_line(kept="nothing was made"):
        from bancada.pipeline import new as project

        if upgrade:
            raise typer.Exit(project.upgrade(folder))
        project.new(folder)


@app.command()
def search(variant: Annotated[str, typer.Argument(help="Of params.yaml, with train.search, and trained.")]) -> None:
    """Print the trials of a variant's search that are here, best first, with the score of each seed."""
    with at_the_root(kept=""):
        from bancada.base import params_file
        from bancada.evaluation.trials import table

        print(table(params_file.read(), variant))


@contextmanager
def at_the_root(kept: str = GOES_ON) -> Iterator[None]:
    """Run the block in the repository's root, and let it end as `in_one_line` says."""
    from bancada.base import files

    with in_one_line(kept):
        os.chdir(files.root())
        yield


@contextmanager
def in_one_line(kept: str) -> Iterator[None]:
    """Run the block, whose errors end the program with one line. `kept` says what Ctrl-C leaves.

    BadInput, and an error of DVC or of the system, ends the program with its line and status 2, Ctrl-C with 130,
    SIGTERM with 143, a closed terminal with 129. An error in bancada itself ends it with a traceback and 2, because
    Python's own 1 is the verdict `different`.
    """
    from bancada.base import BadInput, signals
    from bancada.base.variables import variables

    for number in signals.ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        variables()  # a wrong one is refused before any work
        yield
    except BadInput as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if kept:
            print(f"interrupted; {kept}", file=sys.stderr)
        raise typer.Exit(130) from None
    except typer.Exit:
        raise
    except Exception as error:  # whatever it is, it is shown: in one line, or with its traceback
        from bancada.base.dvc_errors import told

        print(told(error) or traceback.format_exc(), file=sys.stderr)
        raise typer.Exit(2) from None
