"""Plots, as PNG files whose bytes depend only on what they show."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.drawing.text import printable, shortened_in_the_middle

WIDTH, HEIGHT, DPI = 4.2, 3.2, 110  # of a panel in inches; dots per inch
COLOURS = ["#1f77b4", "#d1495b", "#3c9d6b", "#8a6fb3"]


def learning_curves(
    history: Sequence[Mapping[str, float]], x: str, panels: Mapping[str, Sequence[str]], path: Path, mark: float
) -> None:
    """One panel per entry of `panels` (axis label: columns of `history`) over the column `x`; a dotted line at `mark`,
    where the best network was."""
    steps = [row[x] for row in history]
    with panel_axes(len(panels), path) as axes:
        for axis, (label, columns) in zip(axes, panels.items(), strict=True):
            for colour, column in zip(COLOURS, columns, strict=False):
                marker = "o" if len(steps) < 30 else None
                values = [row[column] for row in history]
                axis.plot(steps, values, color=colour, label=column, marker=marker, markersize=3)
            axis.axvline(mark, color="grey", linestyle=":", linewidth=1, label=f"best {x}")
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axis.set(xlabel=x, ylabel=label)
            axis.legend(fontsize=8)


def confusion_picture(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows are labels and add up to 100%; the cells show counts when there are up to 20 classes."""
    from matplotlib.ticker import PercentFormatter

    count = len(classes)
    names = [short_name(name) for name in classes]
    longest = 0.07 * max(map(len, names))  # inches
    side = min(12.0, 1.8 + 0.42 * count + longest)
    step = max(1, count // 50)
    upright = longest > step * (side - 1.2 - longest) / count  # the width of a cell
    with saved_figure(side + 0.8, side, path) as figure:
        axis = figure.subplots()
        image = draw_confusion(axis, matrix, names, step=step, upright=upright, counts=count <= 20)
        axis.set(xlabel="predicted class", ylabel="class")
        axis.set_title(f"{np.trace(matrix):,} of {matrix.sum():,} test images right", fontsize=10)
        figure.colorbar(
            image,
            ax=axis,
            label="share of the class",
            shrink=0.8,
            ticks=[0, 0.02, 0.1, 0.3, 0.6, 1],
            format=PercentFormatter(1),
        )


def draw_confusion(
    axis: Any, matrix: np.ndarray, names: Sequence[str], *, step: int, upright: bool, counts: bool, fontsize: float = 8
) -> Any:
    """Draws int [classes, classes], rows are labels, as shares of its rows; returns the image, for a colour bar.

    step: between the classes whose names are drawn. upright: whether the names below the columns are rotated. counts:
    whether the cells show counts. fontsize: of the names.
    """
    from matplotlib.colors import PowerNorm

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # The root makes mistakes of a few percent visible.
    image = axis.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    if counts:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.3 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
    ticks = range(0, len(names), step)
    # Class names come from data: a `$` in one must not start mathematics.
    style = {"fontsize": fontsize, "parse_math": False}
    axis.set_xticks(ticks, names[::step], rotation=90 if upright else 0, **style)
    axis.set_yticks(ticks, names[::step], **style)
    return image


def reliability_picture(confidence: np.ndarray, share: np.ndarray, count: np.ndarray, error: float, path: Path) -> None:
    """Accuracy against confidence per bin, and the number of images in each; arrays as from calibration_bins."""
    used = count > 0
    with panel_axes(2, path) as (axis, below):
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
        axis.plot(confidence[used], share[used], marker="o", markersize=4, color=COLOURS[0], label="this classifier")
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        axis.set_title(f"calibration, expected error {error:.3f}", fontsize=10)
        axis.legend(fontsize=8)
        edges = (np.arange(len(count)) + 0.5) / len(count)
        below.bar(edges, count, width=0.9 / len(count), color=COLOURS[0])
        below.set(xlim=(0, 1), xlabel="confidence", ylabel="test images")
        below.set_title("images per bin of confidence", fontsize=10)
        if count.max() > 50:
            below.set_yscale("log")
            below.set_ylim(0.8, 2 * count.max())
            below.yaxis.set_minor_formatter("")
            below.yaxis.set_major_formatter("{x:,.0f}")
        else:
            below.yaxis.get_major_locator().set_params(integer=True)


@contextmanager
def panel_axes(count: int, path: Path) -> Iterator[list]:
    """Yields `count` axes side by side, and writes their figure to `path`."""
    with saved_figure(WIDTH * count, HEIGHT, path) as figure:
        axes = list(figure.subplots(1, count, squeeze=False)[0])
        for axis in axes:
            axis.grid(alpha=0.3)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        yield axes


@contextmanager
def saved_figure(width: float, height: float, path: Path, dpi: float = DPI) -> Iterator[Any]:
    """Yields a figure of `width` by `height` inches and writes it to `path`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the user's style must not affect the bytes, nor may the version, see `metadata`
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn instead
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=dpi, metadata={"Software": None})


def short_name(name: str, length: int = 24) -> str:
    """A name from data in a form to draw: printable, and at most `length` characters long."""
    return shortened_in_the_middle(printable(name), length)
