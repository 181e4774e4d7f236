"""The `bancada` command, as `python -m bancada`."""

from bancada.cli import app

app()
