"""Labelled images with an official split, for the comparisons."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stages.running.terminal import UserError


class Images(NamedTuple):
    """uint8 [n, height, width, 1] each, labels int32 [n] in alphabetical order of the classes."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    def few(self, per_class: int, seed: int) -> "Images":
        """So many random train images of each class, and all test images."""
        order = np.random.default_rng(seed).permutation(len(self.train))
        labels = self.train_labels[order]
        chosen = np.concatenate([order[labels == label][:per_class] for label in np.unique(labels)])
        return self._replace(train=self.train[chosen], train_labels=self.train_labels[chosen])


def read_images(archive: Path) -> Images:
    """All grey images of an archive with files `train/CLASS/NAME` and `test/CLASS/NAME`, duplicates included."""
    arrays = []
    with zipfile.ZipFile(archive) as opened:
        for split in ("train", "test"):
            names = [name for name in sorted(opened.namelist()) if name.startswith(f"{split}/") and name[-1] != "/"]
            if not names:
                raise UserError(f"{archive} has no files {split}/CLASS/NAME")
            classes = sorted({name.split("/")[1] for name in names})
            files = (np.frombuffer(opened.read(name), np.uint8) for name in names)
            images = [np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)) for file in files]
            arrays.append(np.stack(images)[..., None])
            arrays.append(np.array([classes.index(name.split("/")[1]) for name in names], np.int32))
    return Images(*arrays)
