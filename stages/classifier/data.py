"""The training and validation data of the classifier."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.classifier.base.networks import SMALLEST_SIDE
from stages.core.dataset import Images, check_side, open_shards, read_classes, read_labels, require


class ClassifierData(NamedTuple):
    """Images are uint8 [n, height, width, channels], labels int32 [n]."""

    views: list[list[np.ndarray]]  # the shards of each augmented version of the train images
    labels: np.ndarray  # of the train images
    classes: int
    val_images: Images
    val_labels: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.views[0][0].shape[1:]


def read_classifier_data(data: Path, views: Path, arch: str) -> ClassifierData:
    """Opens the data set in `data` and the augmented versions in `views`. Raises UserError when they are missing, and
    when the images are too small for `arch`."""
    require(views)
    shards = [open_shards(view, "train") for view in sorted(views.glob("view-*"))]
    labels, classes = read_labels(data, "train"), read_classes(data)
    check_side(data, f"cnn.arch: {arch}", SMALLEST_SIDE.get(arch, 1))
    return ClassifierData(shards, labels, len(classes), Images(data, "val"), read_labels(data, "val"))
