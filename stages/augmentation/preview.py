"""Draws images before and after augmentation."""

from pathlib import Path

import numpy as np

from stages.core.dataset import open_shards, pick, read_classes
from stages.drawing.grids import image_grid

SHOWN_VIEWS, SHOWN_CLASSES = 8, 20


def draw_before_after(data: Path, views: Path, labels: np.ndarray, path: Path) -> None:
    """Writes a picture with a row for each of the first classes of `data`: its first train image, and the same image in
    the first views (folders `view-*` in `views`). labels: int [n] of the train images."""
    folders = sorted(views.glob("view-*"))[:SHOWN_VIEWS]
    names = read_classes(data)
    shown = np.unique(labels)[:SHOWN_CLASSES]
    first = [int(np.argmax(labels == label)) for label in shown]
    columns = [pick(open_shards(folder, "train"), first) for folder in (data, *folders)]
    image_grid(
        np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:]),
        path,
        columns=len(columns),
        row_labels=[names[label] for label in shown],
        column_labels=["original", *(f"view {view}" for view in range(len(folders)))],
        tile=72,
        font_size=11,
    )
