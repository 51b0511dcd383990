"""Logits and features of images from a saved classifier; images that look alike to it have close features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from stages.training.network_files import load_network
from stages.training.tensorflow import keras


class ClassifierSpace:
    """Maps uint8 images [n, height, width, channels] to features, the outputs of the network's layer `features`, and to
    logits.

    A network that averages over several views contains the network that it applies to each of them: `trunk`, also from
    images to logits. The features are those of the image itself.
    """

    def __init__(self, path: str | Path):
        self.network = load_network(path)
        self.trunk = next(network for network in _networks(self.network) if _has_features(network))
        features = keras.Model(self.trunk.input, self.trunk.get_layer("features").output)
        self._features_and_logits = keras.Model(self.network.input, [features(self.network.input), self.network.output])

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 features [n, d] and logits [n, classes]."""
        features, logits = self._features_and_logits.predict(images, batch_size=512, verbose=0)
        return features, logits

    def nearest(self, features: np.ndarray, shards: Sequence[np.ndarray], count: int) -> np.ndarray:
        """The positions, int [k, count] in the concatenated shards, of the `count` images nearest to each of `features`
        [k, d], nearest first. Reads one shard at a time."""
        positions, distances = np.zeros((len(features), 0), int), np.zeros((len(features), 0))
        start = 0
        for shard in shards:
            here = np.tile(start + np.arange(len(shard)), (len(features), 1))
            positions = np.concatenate([positions, here], axis=1)
            distances = np.concatenate([distances, cdist(features, self(shard)[0])], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")[:, :count]
            positions, distances = (np.take_along_axis(values, order, axis=1) for values in (positions, distances))
            start += len(shard)
        return positions


def _networks(network):
    """The network and the networks nested in it, outermost first."""
    yield network
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            yield from _networks(layer)


def _has_features(network) -> bool:
    return any(layer.name == "features" for layer in network.layers)
