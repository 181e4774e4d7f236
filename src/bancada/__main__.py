from bancada.cli import app

app()
