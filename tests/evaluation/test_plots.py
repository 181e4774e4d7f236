"""Which plots an evaluation has, and what stands in them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from evaluated import TABLE, changed, given, main, read, scored, two_classes, write_model, write_split
from fontTools.ttLib import TTFont
from matplotlib import get_data_path
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from bancada.base import files
from bancada.base.tables import Table
from bancada.evaluation import drawn_rows, sheets, svg
from bancada.evaluation.sheets import sheet, write
from bancada.evaluation.words import format_leaderboard

pytestmark = pytest.mark.usefixtures("workspace")
REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_out_is_there_and_has_the_same_bytes_when_made_again(moons):
    def outs():
        folder = files.evaluation("study")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    main(moons, "study")
    first = outs()
    (files.evaluation("study") / "metrics/gone.json").write_text("left over")
    main(moons, "study")
    assert outs() == first
    assert set(first) == {
        *("scores.csv", "per_seed.csv", "leaderboard.csv", "reference.csv", "predictions.csv", "loss.csv"),
        *(f"metrics/{name}.json" for name in ("base", "mixed", "diverged")),
        *(f"plots/{name}.png" for name in ("loss", "leaderboard", "data", "decision_regions", "confusion")),
    }
    for name in first:
        if name.endswith(".png"):
            with Image.open(files.evaluation("study") / name) as picture:
                assert picture.width == 880
                assert picture.info.keys() <= {"dpi"}


def test_a_metric_that_is_not_defined_is_called_so_and_nothing_has_diverged(monkeypatch):
    """R2 of one row."""
    params = given(TABLE, [1], {"train": 4, "test": 1}, "r2")
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows, test=rows.take(np.array([0])))
    for variant, weight in (("base", 1.0), ("other", 2.0)):
        write_model(params, variant, rows, {"0.weight": [[[weight]]] * 4, "0.bias": [[0.0]] * 4})
    texts = []
    monkeypatch.setattr("bancada.evaluation.sheets.write", lambda figure, path: texts.extend(words(figure)) or set())
    main(params, "study")
    assert "base\n4 of 4 not defined" in texts
    assert not [text for text in texts if "diverged" in text]
    board = read("leaderboard.csv")
    for row in board:
        assert {row[name] for name in ("rank", "mean", "median", "min", "failed_seeds", "p_holm")} == {""}
        assert (row["diverged_seeds"], row["best_seed"]) == ("0", "7")
        assert row["note"].startswith("r2 is not defined on these rows, for 4 of 4 seeds")
    assert {row["variant"]: row["verdict"] for row in board} == {"base": "baseline", "other": "not defined"}
    (mse,) = scored("base", "mse", "test")
    assert mse["mean"] == "0"
    table = format_leaderboard(board, "study")
    assert "n. d." in table and "nan" not in table and "diverged" not in table


def words(figure):
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(Text)]


def test_names_are_drawn_as_they_are_written():
    """matplotlib takes what stands between two $ for a formula, and lists in no legend what begins with _."""
    features, classes = np.array([[0.0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [0]])
    table = Table(features, classes, ["$\\price$", "_y"], ["_k"], ["$a$", "b"])
    figure = drawn_rows.classes_in_the_plane(table, "$title$")
    write(figure, Path("names.png"))
    (legend,) = figure.legends
    shown = [text._preprocess_math(text.get_text()) for text in legend.get_texts()]
    assert shown == [(" _k $a$ (2)", False), (" _k b (1)", False)]
    across = figure.axes[0].xaxis.label
    assert across._preprocess_math(across.get_text()) == ("$\\price$", False)


def test_a_long_title_stays_on_its_sheet_and_above_its_panel() -> None:
    line = "orchard: mean squared error on the training rows (nothing is held out), 10 training seeds on one data set"
    figure, (panel,) = sheet(1, f"{line}\n{line}", height=0.5)
    figure.draw_without_rendering()
    title = figure._suptitle
    assert title.get_text().split() == 2 * line.split()
    place = title.get_window_extent()
    assert place.x0 > 0 and place.x1 < figure.bbox.width and place.y1 < figure.bbox.height
    assert place.y0 > panel.get_window_extent().y1


def test_a_title_is_shortened_only_where_it_is_wider_than_its_panel() -> None:
    figure, panels = sheet(3, "title", height=0.5, shared=True)
    narrow, wide = "99 % of its fall by epoch 1997", "W" * 30  # as many letters
    for panel, title in zip(panels, (narrow, wide, ""), strict=True):
        panel.set_title(title)
    write(figure, Path("titles.png"))
    assert [panel.get_title() for panel in panels][0::2] == [narrow, ""]
    assert "…" in panels[1].get_title()


def test_a_constant_feature_has_no_share_of_the_variance():
    rows = np.full((7, 3), 0.1)  # whose standard deviation is 1e-17 in binary numbers, not 0
    rows[:4, 0], rows[::2, 1] = 5, 3
    expected = np.linalg.svd(scipy.stats.zscore(rows[:, :2]), compute_uv=False) ** 2
    assert drawn_rows.principal_components(rows)[1] == pytest.approx(list(expected / expected.sum()))


def test_the_numbers_of_a_plot_are_told_for_every_panel_by_its_name() -> None:
    """Of panels that share their axes, the outer ones alone show names."""
    figure, panels = sheet(4, "title", height=0.5, columns=2, shared=True)
    for i, ax in enumerate(panels):
        ax.imshow(np.zeros((2, 2)))
        for (y, x), _ in np.ndenumerate(np.zeros((2, 2))):
            ax.text(x, y, f"{i}{y}{x}")
        ax.set(title=f"variant {i}")
        ax.set_xticks([0, 1], ["no", "yes"])
        ax.set_yticks([0, 1], ["no", "yes"])
    told = [["panel", "observed", "no", "yes"]]
    told += [[f"variant {i}", name, f"{i}{y}0", f"{i}{y}1"] for i in range(4) for y, name in enumerate(("no", "yes"))]
    assert list(svg.numbers(figure)) == told
    rows = Table(np.array([[1.0, 5], [2, 3]]), np.array([[7.0], [8]]), ["rooms", "age"], ["price"], [])
    assert list(svg.numbers(drawn_rows.drawn(rows, "own"))) == [
        ["panel", "what", "points", "from", "to", "price: first", "last", "lowest", "highest"],
        ["rooms", "price", "2", "1", "2", "7", "8", "7", "8"],
        ["age", "price", "2", "3", "5", "7", "8", "7", "8"],
    ]


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_one_feature_and_one_target_also_get_a_plot_of_the_fit(num_seeds):
    params = given(TABLE, [1], {"train": 4, "test": 2}, "mae", num_seeds=num_seeds)
    rows = Table(np.array([[1.0], [2], [3], [4]]), np.array([[1.0], [2], [3], [5]]), ["rooms"], ["price"], [])
    write_split(rows, test=rows.take(np.array([0, 3])))
    for variant in ("base", "other"):
        weights = {"0.weight": [[[1.0]]] * num_seeds, "0.bias": [[0.0]] * num_seeds}
        write_model(params, variant, rows, weights, [[3.0 / (e + 1) for e in range(1000)]] * num_seeds)
    main(params, "study")
    assert scored("base", "mae", "test")[0]["mean"] == "0.5"
    assert not scored("base", "mae", "validation")
    pictures = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert pictures == {"loss", "leaderboard", "data", "predicted_vs_observed", "fit"}
    epochs = [int(row["epoch"]) for row in read("loss.csv") if row["variant"] == "base"]
    assert (epochs[0], epochs[-1]) == (0, 999)
    assert len(set(epochs)) == len(epochs) <= 200
    assert epochs == sorted(epochs)
    (row,) = [row for row in read("leaderboard.csv") if row["variant"] == "other"]
    assert (row["verdict"], "1 seed: " in row["reason"]) == (
        "equivalent" if num_seeds > 1 else "undecided",
        num_seeds == 1,
    )


def test_many_features_and_classes_of_long_texts_are_drawn_by_principal_components():
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "classification", "targets": ["kind"]}
    params = given(source, [3], {"train": 9}, "error_rate_percent", variants=("base",), loss="cross_entropy")
    rng = np.random.default_rng(0)
    index = np.repeat([0, 1, 2], 3)[:, None]
    rows = Table(rng.normal(size=(9, 4)), index, list("abcd"), ["kind"], ["ash", "beech", "oak " * 25])
    write_split(rows)
    write_model(params, "base", rows, {"0.weight": rng.normal(size=(4, 3, 4)), "0.bias": np.zeros((4, 3))})
    main(params, "study")
    pictures = {path.stem for path in (files.evaluation("study") / "plots").iterdir()}
    assert pictures == {"loss", "leaderboard", "data", "confusion"}


def test_dvcs_own_renderer_fills_the_template_of_loss_csv():
    from dvc_render.vega import VegaRenderer

    rows = [{"variant": "v", "epoch": "0", "loss": "1", "validation_loss": "", "rev": "workspace"}]
    folder = str(REPOSITORY / ".dvc/plots")
    filled = VegaRenderer(rows, "loss", x="epoch", y="loss", template="loss", template_dir=folder).get_filled_template()
    assert "DVC_METRIC" not in json.dumps(filled)
    assert filled["spec"]["encoding"]["color"]["field"] == "variant"


@pytest.mark.long
def test_six_hundred_features_and_classes_have_a_picture_of_bounded_size_that_says_what_it_leaves_out(monkeypatch):
    source = {"kind": "csv", "path": "data/sources/t.csv", "task": "classification", "targets": ["kind"]}
    params = given(source, [600], {"train": 1200}, "error_rate_percent", variants=("base",), loss="cross_entropy")
    rng = np.random.default_rng(0)
    names, index = [f"n{i}" for i in range(600)], np.arange(1200)[:, None] // 2
    rows = Table(rng.normal(size=(1200, 3)), index, ["x", "y", "z"], ["kind"], names)
    write_split(rows)
    write_model(params, "base", rows, {"0.weight": rng.normal(size=(4, 600, 3)), "0.bias": np.zeros((4, 600))})
    drawn, write_png = {}, sheets.write

    def write_and_read(figure, path):
        drawn[path.stem] = words(figure)
        return write_png(figure, path)

    monkeypatch.setattr(sheets, "write", write_and_read)
    monkeypatch.setattr("bancada.evaluation.evaluate.references", lambda *_: [])  # which takes seconds
    main(params, "study")
    for path in (files.evaluation("study") / "plots").iterdir():
        with Image.open(path) as picture:
            assert picture.height < 2000
    assert "the first 24 of 600 classes" in " ".join(" ".join(drawn["confusion"]).split())
    numbers = Table(rng.normal(size=(5, 600)), rng.normal(size=(5, 1)), names, ["price"], [])
    figure = drawn_rows.drawn(numbers, "study")
    assert figure.get_size_inches()[1] * 110 < 4000
    assert "the first 24 of 600 features" in figure.get_suptitle()


def test_a_long_name_keeps_its_ends_and_a_formula_stays_a_text():
    assert sheets.shortened("short", 5) == "short"
    assert sheets.shortened(f"moons_{'x' * 90}_adam\nnext", 15) == "moons_xxx…_adam\nnext"
    assert sheets.shortened(r"\$a\$", 3) == r"\$a\$"


def installed(monkeypatch, *files):
    """Let these fonts be installed, and those that come with matplotlib."""
    monkeypatch.setattr(fontManager, "ttflist", [one for one in fontManager.ttflist if get_data_path() in one.fname])
    for file in files:
        fontManager.addfont(file)


def pictured(title):
    """The pixels of a picture with this title, the letters that are boxes in it, and it as the report shows it."""
    figure, _ = sheet(1, title, height=0.5)
    boxes = write(figure, Path("drawn.png"))
    svg.write(figure, [], "study", Path("drawn"))
    with Image.open("drawn.png") as picture:
        return np.asarray(picture.convert("RGB")), boxes, Path("drawn.svg").read_bytes()


@pytest.mark.filterwarnings("ignore:Glyph")  # of boxes, which are told by what write returns
def test_a_letter_is_drawn_with_an_installed_font_that_has_it_and_others_as_before(monkeypatch):
    """A font in which 高 looks like DejaVu Sans's A, and A like its B: which font draws what can be seen."""
    font = TTFont(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    for table in font["cmap"].tables:
        table.cmap |= {ord("A"): "B"} | ({ord("高"): "A"} if table.isUnicode() else {})
    for record in font["name"].names:
        if record.nameID in (1, 4, 16):
            record.string = "Own"
    font.save("own.ttf")
    installed(monkeypatch)
    expected, no_boxes, _ = pictured("A Б A")
    without, boxes, in_report = pictured("高 Б A")
    assert (no_boxes, boxes) == (set(), {"高"})
    assert (without != expected).any()
    installed(monkeypatch, "own.ttf")
    drawn, no_boxes, in_report_too = pictured("高 Б A")
    np.testing.assert_array_equal(drawn, expected)
    assert (no_boxes, in_report_too) == (set(), in_report)  # the reader's browser chooses the font


def test_letters_that_no_font_has_are_told_in_one_line(moons, capsys, monkeypatch):
    """DejaVu Sans has the Cyrillic alphabet, and no font of matplotlib's has Chinese characters."""
    installed(monkeypatch)
    rows = two_classes((1, 1, 1), (2, 1, 1), (-1, 1, 0), (-2, 1, 0))
    write_split(*[replace(rows, feature_names=["высота", "高さ"])] * 3)
    for variant in ("base", "mixed", "diverged"):
        path = files.model("study", variant) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"feature_names": ["высота", "高さ"]}))
    main(changed(moons, predict=[]), "study")
    told = [line for line in capsys.readouterr().err.splitlines() if "font" in line]
    why = "no font that is installed here has さ 高, and the PNG files show boxes instead"
    assert told == [f"study: {why}; tables and the report have these letters"]
