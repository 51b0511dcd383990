"""One shard of one augmented version of the train set: a task for any worker that sees the files."""

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stages.augmentation.operations import BLOCK, Operation, augment

PIECE = 2**23  # bytes of images augmented at a time

Recipe = Sequence[Callable[[], Operation]]  # factories with their strengths: operations cannot be sent to a worker


class ViewShard(NamedTuple):
    """What to write, with absolute paths."""

    source: str  # the shard of the train set
    folder: str  # for the new one, until it is complete
    first: int  # number of the shard's first image in the train set
    view: int


def write_view_shard(task: ViewShard, recipe: Recipe, seed: int) -> str:
    """Writes the augmented shard, of which little is in memory at a time, under a name that nobody else uses, and
    returns its path. A worker that was given up for lost may write as well: to a file, or a folder, that is no longer
    asked for."""
    cv2.setNumThreads(1)  # an image is too small to share
    operations = [make() for make in recipe]
    images = np.load(task.source, mmap_mode="r", allow_pickle=False)
    step = max(1, PIECE // (BLOCK * int(np.prod(images.shape[1:])))) * BLOCK
    path = Path(task.folder) / f"{task.view}-{Path(task.source).stem}-{uuid.uuid4().hex}.npy"
    with path.open("wb") as file:
        # As np.save does, which wants the whole array.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(images))
        for start in range(0, len(images), step):
            piece = np.asarray(images[start : start + step])
            file.write(augment(piece, task.first + start, seed, task.view, operations).data)
    return str(path)
