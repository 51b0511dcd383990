"""The preview of a data set: a few train images of every class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.lib.dataset import open_shards, read_labels
from stages.lib.pictures import image_grid
from stages.lib.survey import evenly

MAX_ROWS, MAX_CLASSES = 20, 100
PER_ROW = 12


def write_preview(folder: Path, classes: Sequence[str]) -> None:
    """Draws train images of the data set in `folder` to its preview.png: a row per class, or a tile per class when
    there are more than 20; the first 100 classes when there are more still."""
    path, labels = folder / "preview.png", read_labels(folder, "train")
    classes = list(classes)[:MAX_CLASSES]
    members = [np.flatnonzero(labels == label) for label in range(len(classes))]
    if len(classes) > MAX_ROWS:
        chosen = [positions[len(positions) // 2] for positions in members]
        image_grid(read_at(folder, chosen), path, 10, captions=classes, tile=84)
        return
    columns = min(PER_ROW, *(len(positions) for positions in members))
    chosen = [positions[index] for positions in members for index in evenly(len(positions), columns)]
    image_grid(read_at(folder, chosen), path, columns, row_labels=classes)


def read_at(folder: Path, positions: Sequence[int]) -> np.ndarray:
    """The train images [n, h, w, c] at these positions, whole shards never in memory."""
    shards = open_shards(folder, "train")
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    which = np.searchsorted(starts, positions, side="right") - 1
    return np.stack([shards[shard][position - starts[shard]] for shard, position in zip(which, positions, strict=True)])
