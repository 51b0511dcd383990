"""Writes one shard of one augmented version of the train set: a task for any worker with access to the files."""

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stages.augmentation.operations import BLOCK, Operation, augment

BYTES_AT_A_TIME = 2**23  # of the images augmented

Recipe = Sequence[Callable[[], Operation]]  # factories with their strengths: operations cannot be pickled


class ViewShard(NamedTuple):
    """The task of writing one shard, with absolute paths."""

    source: str  # the shard of the train set
    folder: str  # of the new shard, until it is complete
    first: int  # number of the shard's first image in the train set
    view: int


def write_view_shard(task: ViewShard, recipe: Recipe, seed: int) -> str:
    """Writes the augmented shard in small parts under a unique name, and returns its path. A worker that is considered
    lost may still write, but to a file or folder that is no longer used."""
    cv2.setNumThreads(1)  # an image is too small to share
    operations = [make() for make in recipe]
    images = np.load(task.source, mmap_mode="r", allow_pickle=False)
    step = max(1, BYTES_AT_A_TIME // (BLOCK * int(np.prod(images.shape[1:])))) * BLOCK
    path = Path(task.folder) / f"{task.view}-{Path(task.source).stem}-{uuid.uuid4().hex}.npy"
    with path.open("wb") as file:
        # As np.save does, which needs the whole array.
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(images))
        for start in range(0, len(images), step):
            part = np.asarray(images[start : start + step])
            file.write(augment(part, task.first + start, seed, task.view, operations).data)
    return str(path)
