"""What the registered classifier needs beside its network: a temperature, and how to tell images of another kind.

One `.npz` file: `temperature`; `threshold` of the outlier score, above which an image is of another kind; `bank`, the
features of training images that the score is the distance to, without rows where it is the energy of the logits; and
`neighbours`, which of the nearest counts.
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
        """How unlike the training images each image is, [n]; compare it with the threshold."""
        return neighbour_distance(features, self.bank, self.neighbours) if len(self.bank) else energy(logits)


def write_serving(path: Path, serving: Serving) -> None:
    """The same contents give the same bytes."""
    temperature, threshold, neighbours, bank = serving
    np.savez(path, temperature=temperature, threshold=threshold, neighbours=neighbours, bank=bank)
