"""The page of the report: as files, and in a real browser as a person sees it, prints it or lets it be read aloud."""

import base64
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from evaluated import MOONS, classifier, given, main, write_model, write_split
from selenium import webdriver

from bancada.base import BadInput, files, tables
from bancada.base.params_file import ParamsFile
from bancada.base.tables import Table
from bancada.evaluation import report

MARKUP = """</script><b id=z>x</b>&\""""
SEEDS = 6
VARIANTS = ("base", "v" * 97 + "_first", "v" * 97 + "_second")
TWELVE = (*VARIANTS, *(f"variant_{i}" for i in range(9)))
CLASSES = ["k" * 87, f"日本 {MARKUP}"]
MOST_BYTES = 3_000_000
A4_PX = 688  # 182 mm between the margins, at 96 px an inch


def asked(seeds: int, variants: Sequence[str]) -> ParamsFile:
    split = {"train": 4, "test": 4}
    return given(MOONS, [1, "tanh"], split, "error_rate_percent", num_seeds=seeds, variants=variants)


def make(seeds: int, variants: Sequence[str] = VARIANTS) -> Path:
    params = asked(seeds, variants)
    rng = np.random.default_rng(0)
    rows = Table(rng.normal(size=(40, 2)), rng.integers(0, 2, (40, 1)), [MARKUP, "y" * 87], ["moon"], CLASSES)
    write_split(rows, test=rows)
    tables.write(rows, files.raw("study"))
    for variant in variants:
        losses = np.exp(rng.normal(size=(seeds, 30))).tolist()
        write_model(params, variant, rows, classifier((rng.random(seeds) < 0.7).tolist()), losses)
    Path("dvc.yaml").write_text("- data/evaluation/${key}/svg: {cache: true}")
    main(params, "study")
    report.main(params, "")
    return files.REPORT.absolute()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BANCADA_TRACKING", "off")
        patch.chdir(tmp_path_factory.mktemp("report"))
        yield make(SEEDS)


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[webdriver.Chrome]:
    with chromium(1100, 1400) as opened:
        opened.get(page.as_uri())
        yield opened


def seen_as(browser: webdriver.Chrome, width: int, media: str = "screen", scheme: str = "light") -> None:
    screen = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def test_ids_are_unique_and_each_plot_refers_to_its_own(page: Path) -> None:
    text = page.read_text()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 20
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 5
    for plot in plots:
        own = set(re.findall(r'\sid="([^"]+)"', plot))
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', plot)) <= own


@pytest.mark.long
def test_the_same_results_give_the_same_bytes_and_a_missing_one_is_named(page: Path) -> None:
    before = page.read_bytes()
    params = asked(SEEDS, VARIANTS)
    main(params, "study")
    report.main(params, "")
    assert page.read_bytes() == before
    with pytest.raises(BadInput, match=r"data/evaluation/gone: no leaderboard; `dvc repro evaluate@gone` makes it"):
        report.main(ParamsFile(params.raw | {"studies": {"gone": params.raw["studies"]["study"]}}), "")


def test_nothing_is_asked_of_any_other_place_and_the_page_is_small(browser: webdriver.Chrome, page: Path) -> None:
    text = page.read_text()
    assert len(text.encode()) < MOST_BYTES
    assert not re.search(r"(?:src|href)=\"(?!#|data:image/png)|url\((?!#)|@import|<script(?!&)|<link", text)
    assert not browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")


def test_names_are_texts_and_whole(browser: webdriver.Chrome) -> None:
    assert browser.execute_script("return document.querySelector('#z, body b[id]')") is None
    heads = browser.execute_script("return [...document.querySelectorAll('th')].map(one => one.textContent)")
    assert set(VARIANTS) <= set(heads)
    labels = browser.execute_script("return [...document.querySelectorAll('svg text')].map(one => one.textContent)")
    assert any(MARKUP in label for label in labels)
    assert any(label.startswith("日本") for label in labels)
    assert {label[-5:] for label in labels if "vvv" in label} == {"first", "econd"[-5:]}
    assert max(map(len, labels)) < 100


@pytest.mark.long
def test_headings_are_in_order_and_plots_and_tables_are_told(browser: webdriver.Chrome) -> None:
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    plots = [name for role, name in told if role in ("image", "img")]
    assert len(plots) == 5
    assert any(f"error rate (%) on the test rows, {SEEDS} seeds on one data set" in name for name in plots)
    boards = [name for role, name in told if role == "table"]
    assert len(boards) == 6 and all(boards)  # the numbers of plots are folded
    assert "columnheader" in dict(told) and "rowheader" in dict(told)


def test_a_phone_shows_it_without_scrolling_sideways(browser: webdriver.Chrome) -> None:
    seen_as(browser, 375)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('svg text')].map(one => one.getBoundingClientRect().height)"
    )
    assert min(sizes) > 8  # pixels: the plot is wider than the phone, in a box of its own
    assert browser.execute_script(BROKEN_WORDS) == []


BROKEN_WORDS = """
const lines = (text, found) => {
  const range = document.createRange();
  range.setStart(text, found.index);
  range.setEnd(text, found.index + found[0].length);
  return new Set([...range.getClientRects()].map(one => Math.round(one.top))).size;
};
return [...document.querySelectorAll('.texts th, .texts td')].flatMap(cell => {
  const text = (cell.firstElementChild || cell).firstChild;
  const found = text ? [...text.data.matchAll(/(?<![^ ])[a-z_0-9]{1,24}(?![^ ])/g)] : [];
  return found.filter(one => lines(text, one) > 1).map(one => one[0]);
});
"""
CONTRAST = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = rgb => rgb.slice(0, 3).map(c => c / 255)
  .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = one => {
  for (let at = one; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length == 3) return color;
  }
};
const onPicture = one => ['rgb(0, 0, 1)', 'rgb(255, 255, 255)'].includes(getComputedStyle(one).fill) &&
  one.closest('svg').querySelector('image');
return [...document.querySelectorAll('h1, h2, h3, p, td, th, li, summary, caption, a, svg text')]
  .filter(one => one.tagName != 'text' || !onPicture(one))
  .map(one => {
    const style = getComputedStyle(one);
    const [a, b] = [light(parse(one.tagName == 'text' ? style.fill : style.color)), light(behind(one))].sort();
    return (b + 0.05) / (a + 0.05);
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_read_on_their_ground(browser: webdriver.Chrome, scheme: str) -> None:
    seen_as(browser, 1100, scheme=scheme)
    dark = "rgb(20, 23, 27)"
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == dark) == (scheme == "dark")
    assert min(browser.execute_script(CONTRAST)) > 4.5


@pytest.mark.long
def test_without_one_plot_the_others_look_the_same(browser: webdriver.Chrome) -> None:
    seen_as(browser, 1100)
    last = "document.querySelectorAll('svg')[4]"
    picture = browser.execute_script(f"return {last}").screenshot_as_png
    in_its_place = "box.style.height = `${box.getBoundingClientRect().height}px`; box.firstElementChild.remove()"
    browser.execute_script(f"const box = document.querySelector('svg').parentElement; {in_its_place}")
    assert browser.execute_script("return document.querySelectorAll('svg')[3]").screenshot_as_png == picture
    browser.refresh()


@pytest.mark.long
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("seeds", [60, 200])
def test_twelve_variants_on_a4_have_every_column_and_every_row_and_the_page_is_small(seeds: int) -> None:
    """A page of its own for each study; the table of 12 columns is in what is folded on a screen."""
    page = make(seeds, TWELVE)
    assert page.stat().st_size < MOST_BYTES
    with chromium(1100, 1400) as browser:
        browser.get(page.as_uri())
        seen_as(browser, A4_PX, media="print")
        lost = "[...document.querySelectorAll('table, svg')].filter(one => one.getBoundingClientRect().right > 690)"
        assert browser.execute_script(f"return {lost}.map(one => one.outerHTML.slice(0, 200))") == []
        heights = "[...document.querySelectorAll('tr')].map(one => one.getBoundingClientRect().height)"
        assert min(browser.execute_script(f"return {heights}")) > 0
        assert browser.execute_script("return document.querySelectorAll('details tr').length") > seeds
        before = "return getComputedStyle(document.querySelector('section.study')).breakBefore"
        assert browser.execute_script(before) == "page"
        printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 5
