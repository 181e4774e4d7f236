"""Made-up rows in the form of tables that people bring: which keys each needs, and what is said without them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ROWS = 60
PREPARED = {
    "numbers": {"impute": "median", "standardize": True},
    "words": {"encode": "one_hot", "impute": "most_frequent", "unknown": "ignore"},
}


@dataclass(frozen=True)
class RealTable:
    """`steps`: what a refusal says, and the keys of `source` to add then, one after the other until it is read."""

    text: str
    source: dict[str, Any]  # with the keys of `steps`, the whole source, without kind and path
    outputs: int
    features: list[str]  # as the raw table has them
    steps: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    train: dict[str, Any] = field(default_factory=lambda: {"prepare": PREPARED})

    def whole_source(self, path: str) -> dict[str, Any]:
        """Return `source` of params.yaml."""
        added = {key: value for _, keys in self.steps for key, value in keys.items()}
        return {"kind": "csv", "path": path, **self.source, **added}


def _text(header: str, row: Callable[[np.random.Generator, int], str]) -> str:
    rng = np.random.default_rng(1)
    return "\n".join([*([header] if header else []), *(row(rng, i) for i in range(ROWS))]) + "\n"


def _one(rng: np.random.Generator, *words: str) -> str:
    return words[rng.integers(len(words))]


def _classification(target: str, **more: Any) -> dict[str, Any]:
    return {"task": "classification", "targets": [target], **more}


def iris() -> RealTable:
    """Plain numbers, an Id in front."""
    kinds = ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    names = ["SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm"]
    text = _text(
        f"Id,{','.join(names)},Species",
        lambda rng, i: (
            f"{i + 1},{5 + i % 3 + rng.random():.1f},{3 + rng.random():.1f},"
            f"{1 + 2 * (i % 3) + rng.random():.1f},{0.2 + i % 3:.1f},{kinds[i % 3]}"
        ),
    )
    return RealTable(text, _classification("Species", ignore=["Id"]), 3, names, train={"standardize": True})


def penguins() -> RealTable:
    """Words, empty cells, and NA for a number that is missing."""
    kinds = ("Adelie", "Chinstrap", "Gentoo")
    names = ["island", "bill_length_mm", "flipper_length_mm", "sex"]
    text = _text(
        f"species,{','.join(names)}",
        lambda rng, i: (
            f"{kinds[i % 3]},{_one(rng, 'Biscoe', 'Dream')},"
            f"{'NA' if i == 3 else round(38 + 5 * (i % 3) + rng.random(), 1)},"
            f"{'NA' if i == 3 else 185 + 15 * (i % 3) + rng.integers(9)},"
            f"{'' if i % 11 == 3 else _one(rng, 'male', 'female')}"
        ),
    )
    return RealTable(text, _classification("species"), 3, names, [('add missing: ["NA", ""]', {"missing": ["NA", ""]})])


def titanic() -> RealTable:
    """Quotes with commas inside names; Age and Cabin are often empty."""
    text = _text(
        "PassengerId,Survived,Pclass,Name,Sex,Age,Ticket,Fare,Cabin,Embarked",
        lambda rng, i: (
            f'{i + 1},{i % 2},{1 + i % 3},"Doe, Mr. J. ""Jack"" {i}",{"female" if i % 2 else "male"},'
            f"{'' if i % 5 == 0 else 20 + rng.integers(40)},A/5 {2000 + i},{7 + 60 * rng.random():.4f},"
            f"{f'C{i}' if i % 7 == 0 else ''},{'' if i == 4 else _one(rng, 'S', 'C', 'Q')}"
        ),
    )
    ignore = ["PassengerId", "Name", "Ticket", "Cabin"]
    features = ["Pclass", "Sex", "Age", "Fare", "Embarked"]
    return RealTable(text, _classification("Survived", ignore=ignore), 2, features)


def winequality_red() -> RealTable:
    """Semicolons, and quotes in the header alone."""
    names = ["fixed acidity", "volatile acidity", "pH", "alcohol"]
    text = _text(
        ";".join(f'"{name}"' for name in [*names, "quality"]),
        lambda rng, i: (
            f"{7 + rng.random():.1f};{rng.random():.2f};{3 + rng.random():.2f};"
            f"{9 + i % 3 + rng.random():.1f};{5 + i % 3}"
        ),
    )
    return RealTable(
        text,
        _classification("quality"),
        3,
        names,
        [('add separator: ";"', {"separator": ";"})],
        {"standardize": True},
    )


def auto_mpg() -> RealTable:
    """A question mark for a number that is missing, and names of cars."""
    names = ["cylinders", "horsepower", "weight", "origin"]
    text = _text(
        "mpg,cylinders,horsepower,weight,origin,car name",
        lambda rng, i: (
            f"{15 + 5 * rng.random():.1f},{4 + 2 * (i % 3)},{'?' if i % 20 == 7 else f'{60 + rng.integers(90)}.0'},"
            f"{2000 + rng.integers(2000)}.,{1 + i % 3},{_one(rng, 'ford pinto', 'vw 1131 deluxe sedan')}"
        ),
    )
    source = {"task": "regression", "targets": ["mpg"], "ignore": ["car name"]}
    return RealTable(text, source, 1, names, [('add missing: ["?", ""]', {"missing": ["?", ""]})])


def auto_mpg_of_uci() -> RealTable:
    """As the archive keeps it: columns apart by spaces, a tab before the name in quotes, no header, ? for missing."""
    names = ["mpg", "cylinders", "horsepower", "weight", "car_name"]
    text = _text(
        "",
        lambda rng, i: (
            f"{15 + 5 * rng.random():.1f}   {4 + 2 * (i % 3)}   {'?' if i % 20 == 7 else f'{60 + rng.integers(90)}.0'}"
            f'      {2000 + rng.integers(2000)}.\t"{_one(rng, "ford pinto", "vw  1131 deluxe", "amc")}"  '
        ),
    )
    steps = [
        ('add separator: " "', {"separator": " "}),
        ("add header: [...] with the names of its 5 columns", {"header": names}),
        ('add missing: ["?", ""]', {"missing": ["?", ""]}),
    ]
    return RealTable(text, {"task": "regression", "targets": ["mpg"]}, 1, names[1:], steps)


def abalone() -> RealTable:
    """No header; the sex is M, F or I, for infant."""
    names = ["Sex", "Length", "Diameter", "Height", "Rings"]
    text = _text(
        "",
        lambda rng, i: (
            f"{_one(rng, 'M', 'F', 'I')},{rng.random():.3f},{rng.random():.3f},"
            f"{rng.random():.4g},{5 + rng.integers(10)}"
        ),
    )
    source = {"task": "regression", "targets": ["Rings"]}
    return RealTable(
        text, source, 1, names[:-1], [("add header: [...] with the names of its 5 columns", {"header": names})]
    )


def adult() -> RealTable:
    """No header, a space after each comma, and a question mark for a missing word."""
    names = ["age", "workclass", "education", "hours", "native_country", "income"]
    text = _text(
        "",
        lambda rng, i: (
            f"{20 + rng.integers(50)}, {'?' if i % 13 == 5 else _one(rng, 'Private', 'State-gov')}, "
            f"{_one(rng, 'Bachelors', 'HS-grad', '11th')}, {20 + rng.integers(30)}, "
            f"{'?' if i % 17 == 5 else 'United-States'}, {'<=50K' if i % 3 else '>50K'}"
        ),
    )
    steps = [
        ("add header: [...] with the names of its 6 columns", {"header": names}),
        ('add missing: ["?", ""]', {"missing": ["?", ""]}),
    ]
    return RealTable(text, _classification("income"), 2, names[:-1], steps)


def wdbc() -> RealTable:
    """No header; an id, then M or B, then numbers."""
    text = _text(
        "",
        lambda rng, i: (
            f"{842302 + i},{'MB'[i % 2]},{10 + 8 * (i % 2) + rng.random():.2f},"
            f"{rng.random():.5f},{100 * rng.random():.1f}"
        ),
    )
    names = ["id", "diagnosis", "radius", "smoothness", "area"]
    steps = [("add header: [...] with the names of its 5 columns", {"header": names})]
    source = _classification("diagnosis", ignore=["id"])
    return RealTable(text, source, 2, names[2:], steps, {"standardize": True})


MADE = (iris, penguins, titanic, winequality_red, auto_mpg, auto_mpg_of_uci, abalone, adult, wdbc)
TABLES = {made.__name__: made() for made in MADE}
