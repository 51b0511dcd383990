"""Plots, as PNG files whose bytes depend on nothing but what they show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, DPI = 4.2, 3.2, 110  # of a panel in inches; dots per inch
COLOURS = ["#1f77b4", "#d1495b", "#3c9d6b", "#8a6fb3"]


def learning_curves(
    history: Sequence[Mapping[str, float]], x: str, panels: Mapping[str, Sequence[str]], path: Path, mark: float
) -> None:
    """One panel per entry of `panels` (axis label: columns of `history`) over the column `x`; a dotted line at `mark`,
    where the best network was."""
    figure, axes = _panels(len(panels))
    steps = [row[x] for row in history]
    for axis, (label, columns) in zip(axes, panels.items(), strict=True):
        for colour, column in zip(COLOURS, columns, strict=False):
            marker = "o" if len(steps) < 30 else None
            axis.plot(steps, [row[column] for row in history], color=colour, label=column, marker=marker, markersize=3)
        axis.axvline(mark, color="grey", linestyle=":", linewidth=1, label=f"best {x}")
        axis.set_xlabel(x)
        axis.set_ylabel(label)
        axis.set_title(label)
        axis.legend(fontsize=8)
    _save(figure, path)


def confusion_picture(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows are labels and add up to 100%; counts stand in the cells of up to 20 classes."""
    import matplotlib.pyplot as plt

    count = len(classes)
    side = min(12.0, 2.6 + 0.42 * count)
    figure, axis = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 20:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
    names = [_short(name) for name in classes]
    step = max(1, count // 50)
    axis.set_xticks(range(0, count, step), names[::step], rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
    axis.set_yticks(range(0, count, step), names[::step], fontsize=8)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("class")
    axis.set_title(f"{np.trace(matrix):,} of {matrix.sum():,} test images right", fontsize=10)
    figure.colorbar(image, ax=axis, label="share of the class", shrink=0.8)
    _save(figure, path)


def reliability_picture(confidence: np.ndarray, share: np.ndarray, count: np.ndarray, error: float, path: Path) -> None:
    """Accuracy against confidence per bin, and how many images are in each; arrays as calibration_bins gives them."""
    figure, (axis, below) = _panels(2)
    full = count > 0
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfectly calibrated")
    axis.plot(confidence[full], share[full], marker="o", markersize=4, color=COLOURS[0], label="this classifier")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axis.set_title(f"calibration, expected error {error:.3f}")
    axis.legend(fontsize=8)
    edges = (np.arange(len(count)) + 0.5) / len(count)
    below.bar(edges, count, width=0.9 / len(count), color=COLOURS[0])
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="test images", title="images per bin of confidence")
    if count.max() > 50:
        below.set_yscale("log")
    _save(figure, path)


def _panels(count: int):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(WIDTH * count, HEIGHT), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def _save(figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    # Class names come from data: a `$` in one must not start mathematics, nor may the time get into the file.
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def _short(name: str, length: int = 18) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return printable if len(printable) <= length else printable[: length - 1] + "…"
