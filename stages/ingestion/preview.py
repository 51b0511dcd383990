"""The preview of a data set: a few train images of every class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.core.dataset import open_shards, pick, read_labels
from stages.drawing.grids import image_grid
from stages.ingestion.survey import evenly

MAX_ROWS, MAX_CLASSES = 20, 100
PER_ROW = 12


def write_preview(folder: Path, classes: Sequence[str]) -> None:
    """Draws train images of the data set in `folder` to its preview.png: a row per class, or a tile per class when
    there are more than 20 classes, of which at most the first 100 are shown."""
    path, shards, labels = folder / "preview.png", open_shards(folder, "train"), read_labels(folder, "train")
    classes = list(classes)[:MAX_CLASSES]
    members = [np.flatnonzero(labels == label) for label in range(len(classes))]
    if len(classes) > MAX_ROWS:
        chosen = [positions[len(positions) // 2] for positions in members]
        image_grid(pick(shards, chosen), path, 10, captions=classes, tile=84)
        return
    columns = min(PER_ROW, *(len(positions) for positions in members))
    chosen = [positions[index] for positions in members for index in evenly(len(positions), columns)]
    image_grid(pick(shards, chosen), path, columns, row_labels=classes)
