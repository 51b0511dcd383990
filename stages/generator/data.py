"""The training and validation data of the generator."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.core.dataset import Images, check_side, open_shards, read_classes, read_labels
from stages.generator.networks import SMALLEST_SIDE, Arch


class GeneratorData(NamedTuple):
    """Images are uint8 [n, height, width, channels], labels int32 [n]."""

    shards: list[np.ndarray]  # of the train images
    labels: np.ndarray  # of the train images
    classes: list[str]
    val_images: Images
    val_labels: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.shards[0].shape[1:]


def read_generator_data(data: Path, arch: Arch) -> GeneratorData:
    """Opens the data set in `data`. Raises UserError when it is missing, or its images are too small for `arch`."""
    shards, labels, classes = open_shards(data, "train"), read_labels(data, "train"), read_classes(data)
    check_side(data, f"gan.arch: {arch}", SMALLEST_SIDE[arch])
    return GeneratorData(shards, labels, classes, Images(data, "val"), read_labels(data, "val"))
