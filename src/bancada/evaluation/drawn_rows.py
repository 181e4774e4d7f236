"""The plot of the training rows: classes in the plane, or each target by each feature, as far as these are numbers."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bancada.base.tables import Table
from bancada.evaluation.sheets import COLUMNS, literal, marker, name_axes, of_class, sheet
from bancada.networks.unknown import counted

MAX_FEATURES, MAX_OF_SHAPE = 24, 8  # panels; more cannot be read, and of a sequence or a picture tell little


def drawn(rows: Table, study: str) -> Figure | None:
    """Draw the rows, or return None if no feature is a number. The title says what is left out."""
    shown, left_out = rows.only([name for name in rows.feature_names if name not in rows.words]), list[str]()
    empty = np.isnan(shown.features)
    if rows.words:
        left_out.append(counted(len(rows.words), "column") + " of words")
    if empty.any():  # classes are drawn by all features together
        shown = shown.take(np.flatnonzero(~empty.any(axis=1))) if rows.classes else shown
        what = counted(len(rows) - len(shown), "row") + " with empty cells"
        left_out.append(what if rows.classes else counted(int(empty.sum()), "empty cell"))
    if not shown.feature_names or (rows.classes and len(shown) < 2):
        return None
    title = f"{study}: the {len(rows)} training rows" + f", without {' and '.join(left_out)}" * bool(left_out)
    return (classes_in_the_plane if rows.classes else targets_by_feature)(shown, title)


def classes_in_the_plane(rows: Table, title: str) -> Figure:
    """Draw classes by their two features, or by the first two principal components of more than two features."""
    figure, (ax,) = sheet(1, title, height=4.2, entries=len(rows.classes))
    target = rows.target_names[0]
    points, axes = rows.features, list(rows.feature_names)
    if len(axes) == 1:
        points, axes = np.column_stack([points[:, 0], rows.targets[:, 0]]), [axes[0], f"class of {target}"]
    elif len(axes) > 2:
        points, shares = principal_components(points)
        axes = [f"principal component {i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares)]
    for i, name in enumerate(rows.classes):
        chosen = points[rows.targets[:, 0] == i]
        label = literal(f"{target} {of_class(name)} ({len(chosen)})")
        ax.plot(*chosen.T, linestyle="", label=label, **marker(i, len(points)))
    name_axes([ax], *axes)
    return figure


def principal_components(features: Float[np.ndarray, "row feature"]) -> tuple[Float[np.ndarray, "row 2"], list[float]]:
    """Return the first two principal components of the standardized features, and their shares of the variance."""
    varies = np.ptp(features, axis=0) > 0  # by rounding errors, the sd of a constant 0.1 is 4e-17
    scaled = np.where(varies, features - features.mean(axis=0), 0) / np.where(varies, features.std(axis=0), 1)
    _, strengths, directions = np.linalg.svd(scaled, full_matrices=False)
    largest = np.abs(directions[:2]).argmax(axis=1)
    signs = np.sign(directions[[0, 1], largest])  # both signs are right: make the largest loading positive
    shares = strengths**2 / ((strengths**2).sum() or 1)
    return scaled @ (directions[:2] * signs[:, None]).T, shares[:2].tolist()


def targets_by_feature(rows: Table, title: str) -> Figure:
    """Draw one panel for each feature, or for the first ones."""
    names = rows.feature_names[: MAX_OF_SHAPE if rows.row_shape else MAX_FEATURES]
    title += f" by the first {len(names)} of {len(rows.feature_names)} features" * (names != rows.feature_names)
    figure, panels = sheet(len(names), title, height=2.8, left=0.55)
    for ax, name, values in zip(panels, names, rows.features.T[: len(names)], strict=True):
        for i, target in enumerate(rows.target_names):
            ax.plot(values, rows.targets[:, i], linestyle="", label=literal(target), **marker(i, len(values)))
        ax.set_xlabel(literal(name))
    for ax in panels[::COLUMNS]:
        ax.set_ylabel(literal(rows.target_names[0]) if len(rows.target_names) == 1 else "targets")
    return figure
