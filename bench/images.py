"""Labelled images with an official split, for the comparisons."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stages.running.terminal import UserError


class Images(NamedTuple):
    """Images uint8 [n, height, width, 1], labels int32 [n] in alphabetical order of the classes."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    def few(self, per_class: int, seed: int) -> "Images":
        """`per_class` random train images of each class, and all test images."""
        order = np.random.default_rng(seed).permutation(len(self.train))
        labels = self.train_labels[order]
        chosen = np.concatenate([order[labels == label][:per_class] for label in np.unique(labels)])
        return self._replace(train=self.train[chosen], train_labels=self.train_labels[chosen])


def read_images(archive: Path) -> Images:
    """All grey images of an archive with files `train/CLASS/NAME` and `test/CLASS/NAME`, duplicates included."""
    arrays = []
    with zipfile.ZipFile(archive) as file:
        for split in ("train", "test"):
            names = [name for name in sorted(file.namelist()) if name.startswith(f"{split}/") and name[-1] != "/"]
            if not names:
                raise UserError(f"{archive} has no files {split}/CLASS/NAME: expected a zip of such images")
            classes = sorted({name.split("/")[1] for name in names})
            files = (np.frombuffer(file.read(name), np.uint8) for name in names)
            images = [np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)) for content in files]
            arrays.append(np.stack(images)[..., None])
            arrays.append(np.array([classes.index(name.split("/")[1]) for name in names], np.int32))
    return Images(*arrays)
