"""The feature space in which generated images are scored: the penultimate layer of the reference network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.training.network_files import load_network
from stages.training.scores import softmax
from stages.training.tensorflow import keras


class ReferenceSpace:
    """Features and class probabilities of uint8 images [n, height, width, channels]."""

    def __init__(self, path: str | Path):
        network = load_network(path)
        self.network = keras.Model(network.input, [network.get_layer("features").output, network.output])

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float64 features [n, d] and probabilities [n, classes]."""
        features, logits = self.network.predict(images, batch_size=512, verbose=0)
        return features.astype(np.float64), softmax(logits)
