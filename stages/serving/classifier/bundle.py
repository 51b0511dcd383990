"""The data that the registered classifier needs in addition to its network: a temperature and an outlier detector.

One `.npz` file: `temperature`; `threshold` of the outlier score, above which an image is an outlier; `bank`, the
features of training images to which the score is the distance, or no rows when the score is the energy of the logits;
and `neighbours`, the k of the k-th nearest neighbour.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.serving.classifier.outlier_scores import energy, neighbour_distance


class Serving(NamedTuple):
    """The contents of the file."""

    temperature: float
    threshold: float
    neighbours: int
    bank: np.ndarray  # float32 [m, d], rows of length 1; [0, d] for the energy

    @property
    def score_name(self) -> str:
        return "distance to the training images" if len(self.bank) else "energy"

    def scores(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The outlier score of each image, [n], to compare with the threshold."""
        return neighbour_distance(features, self.bank, self.neighbours) if len(self.bank) else energy(logits)


def write_serving(path: Path, serving: Serving) -> None:
    """Writes the file; the same contents give the same bytes."""
    temperature, threshold, neighbours, bank = serving
    np.savez(path, temperature=temperature, threshold=threshold, neighbours=neighbours, bank=bank)
