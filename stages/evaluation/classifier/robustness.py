"""A classifier's predictions for corrupted test images."""

import numpy as np

from stages.evaluation.classifier.corruptions import CORRUPTIONS, corrupt
from stages.evaluation.classifier.features import ClassifierSpace


def corrupted_hits(
    space: ClassifierSpace, images: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Which of the uint8 images [n, h, w, c] are classified correctly, bool [n], without (`clean`) and under each
    corruption, and an example image of each."""
    hits, examples = {}, {}
    for name in ("clean", *CORRUPTIONS):
        corrupted = images if name == "clean" else corrupt(name, images, seed)
        hits[name] = space(corrupted)[1].argmax(axis=1) == labels
        examples[name] = corrupted[0]
    return hits, examples
