"""The report's pictures that show two states side by side."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from stages.core.outputs import LOOK_ALIKES
from stages.drawing.grids import INK, PAPER, load_font
from stages.drawing.plots import draw_confusion, saved_figure
from stages.drawing.text import printable, shortened

WIDTH = 1660  # px: twice the width of a comment on GitHub, so that it is sharp on high-resolution screens
INCHES = 8.3  # the same for matplotlib, which measures texts in points
GAP, LABEL = 20, 46  # px
MAX_COUNTED_CLASSES = 12  # with more classes, the cells of a confusion matrix have no room for numbers


def side_by_side(left: Path, right: Path, names: tuple[str, str], target: Path) -> None:
    """Combines two PNGs into one, each below its name and scaled to fit half the width."""
    font = load_font(26)
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
    """predictions.csv of evaluate_cnn, and the class names in the order of the labels."""

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
    """Draws two confusion matrices large enough to be readable in a comment on GitHub."""
    with saved_figure(INCHES, 4.6, target, dpi=WIDTH / INCHES) as figure:
        halves: Any = figure.subfigures(1, 2)
        for half, predictions, name in zip(halves, (left, right), names, strict=True):
            axis = half.subplots()
            matrix, classes = confusion_matrix(predictions)
            drawn = [shortened(printable(text), 14) for text in classes]
            step = max(1, len(classes) // 25)
            shown = drawn[::step]
            upright = max(map(len, shown)) * 0.07 > 3 / len(shown)  # wider than a cell, inches
            counts = len(classes) <= MAX_COUNTED_CLASSES
            draw_confusion(axis, matrix, drawn, step=step, upright=upright, counts=counts, fontsize=7.5)
            axis.set_xlabel("predicted class", fontsize=8.5)
            axis.set_ylabel("class", fontsize=8.5)
            axis.set_title(f"{name}: {np.trace(matrix):,} of {matrix.sum():,} test images correct", fontsize=9.5)
