"""A headless Chromium for MLflow's pages. Run as a program, it takes the screenshots mlflow_table.png and
mlflow_charts.png in docs, of the runs of the study moons that are in this repository's store."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
SETTLED_S = 10.0  # how long a page draws


@contextmanager
def chromium(width: int, height: int) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    with tempfile.TemporaryDirectory(prefix="bancada-browser-", ignore_cleanup_errors=True) as profile:
        for option in (*OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(option)
        with webdriver.Chrome(options=options, service=Service(DRIVER)) as opened:
            yield opened


def screenshots(root: Path) -> None:
    from servers import mlflow_server

    from bancada.tracking.store import open_store
    from bancada.tracking.views import pages

    address = pages(open_store(root))["moons"]
    with (
        tempfile.TemporaryDirectory() as name,
        mlflow_server(f"sqlite:///{root}/mlflow.db", Path(name) / "unused", Path(name) / "log") as port,
        chromium(1500, 1150) as page,
    ):
        for kind, more in {"table": "", "charts": "&compareRunsMode=CHART"}.items():
            page.get(f"http://127.0.0.1:{port}/{address}{more}")
            time.sleep(SETTLED_S)
            for opened in page.find_elements(By.CSS_SELECTOR, "[data-component-id*='chat_panel.close']"):
                page.execute_script("arguments[0].click()", opened)  # MLflow's assistant
            time.sleep(SETTLED_S)
            page.save_screenshot(str(root / "docs" / f"mlflow_{kind}.png"))


if __name__ == "__main__":
    screenshots(Path(__file__).resolve().parents[2])
