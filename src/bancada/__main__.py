"""Run `python -m bancada`."""

from bancada.cli import app

app()
