"""The report's pictures that show two states beside each other."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.lib.outputs import LOOK_ALIKES
from stages.lib.pictures import INK, PAPER

WIDTH = 1660  # px: twice the width of a comment on GitHub, so that it is sharp on dense screens
GAP, LABEL = 20, 46  # px
COUNTED_CLASSES = 12  # up to which the cells of a confusion matrix have room for a number


def side_by_side(left: Path, right: Path, names: tuple[str, str], target: Path) -> None:
    """Writes two PNGs into one, each under its name, and reduced to half its width where it is wider."""
    from matplotlib import get_data_path

    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 26, layout_engine=ImageFont.Layout.BASIC)
    half = (WIDTH - GAP) // 2
    pictures = []
    for path in (left, right):
        with Image.open(path, formats=["PNG"]) as image:
            picture = image.convert("RGB")
        scale = half / picture.width
        if scale < 1:
            picture = picture.resize((half, max(1, round(picture.height * scale))), Image.Resampling.LANCZOS)
        elif scale >= 2:
            picture = picture.resize(
                (picture.width * int(scale), picture.height * int(scale)), Image.Resampling.NEAREST
            )
        pictures.append(picture)
    canvas = Image.new("RGB", (WIDTH, LABEL + max(picture.height for picture in pictures)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, name, picture in zip((0, half + GAP), names, pictures, strict=True):
        draw.text((x + half / 2, LABEL / 2), name, INK, font, "mm")
        canvas.paste(picture, (x + (half - picture.width) // 2, LABEL))
    canvas.save(target, "PNG", optimize=True)


class Predictions(NamedTuple):
    """evaluate's predictions.csv, and the class names in the order of the labels."""

    table: Path
    classes: list[str]


def confusion_matrix(predictions: Predictions) -> tuple[np.ndarray, list[str]]:
    """int [classes, classes], rows are classes and columns predictions, and the class names."""
    with predictions.table.open(encoding="utf-8", newline="") as file:
        pairs = [(row["class"], row["predicted"]) for row in csv.DictReader(file)]
    names = [name.replace("<", "<".translate(LOOK_ALIKES)) for name in predictions.classes]  # as write_table does
    index = {name: position for position, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), int)
    for true, predicted in pairs:
        matrix[index[true], index[predicted]] += 1
    return matrix, names


def confusion_pair(left: Predictions, right: Predictions, names: tuple[str, str], target: Path) -> None:
    """Draws two confusion matrices at a size at which they can be read in a comment on GitHub."""
    import matplotlib
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands in for it
        figure = Figure(figsize=(8.3, 4.6), layout="constrained")
        halves: Any = figure.subfigures(1, 2)
        for half, predictions, name in zip(halves, (left, right), names, strict=True):
            axis = half.subplots()
            matrix, classes = confusion_matrix(predictions)
            shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
            # The root makes mistakes of a few percent visible.
            axis.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
            if len(classes) <= COUNTED_CLASSES:
                for row, column in np.argwhere(matrix > 0):
                    colour = "white" if shares[row, column] > 0.3 else "black"
                    axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
            step = max(1, len(classes) // 25)
            ticks, labels = range(0, len(classes), step), _short(classes[::step])
            # Class names come from data: a `$` in one must not start mathematics.
            upright = max(map(len, labels)) * 0.07 > 3 / len(labels)  # wider than a cell, in
            axis.set_xticks(ticks, labels, rotation=90 if upright else 0, fontsize=7.5, parse_math=False)
            axis.set_yticks(ticks, labels, fontsize=7.5, parse_math=False)
            axis.set_xlabel("predicted class", fontsize=8.5)
            axis.set_ylabel("class", fontsize=8.5)
            axis.set_title(f"{name}: {np.trace(matrix):,} of {matrix.sum():,} test images right", fontsize=9.5)
        figure.savefig(target, dpi=WIDTH / 8.3, metadata={"Software": None})


def _short(names: Sequence[str], length: int = 14) -> list[str]:
    printable = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name) for name in names]
    return [name if len(name) <= length else f"{name[: length - 1]}…" for name in printable]
