"""Interpolation between two images of a generator: between latents of one class, or between classes."""

from collections.abc import Callable

import numpy as np


def spherical(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Latents float32 [steps, d] from `first` to `last` [d] along a great circle, so that they have the typical length
    of random latents (White 2016, Sampling generative networks). The ends are exact."""
    fractions = np.linspace(0, 1, steps)[:, None]
    a, b = first.astype(np.float64), last.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(a @ b / max(lengths, 1e-12), -1, 1))
    if np.sin(angle) < 1e-6:  # equal or opposite directions: the great circle is not unique
        return ((1 - fractions) * a + fractions * b).astype(np.float32)
    weights = np.sin((1 - fractions) * angle), np.sin(fractions * angle)
    return ((weights[0] * a + weights[1] * b) / np.sin(angle)).astype(np.float32)


def between_classes(
    network, images: Callable, latents: np.ndarray, first: int, last: int, steps: int
) -> list[np.ndarray]:
    """Images from latents [n, d] with a class that moves from one label to another: `steps` arrays of n images.

    Labels are integers, but inside the network an embedding vector represents a class. So the vectors of the classes
    are interpolated linearly, with constant latents (as Brock et al. 2019 show for BigGAN). images: a function from
    latents and labels to images. The ends are exact.
    """
    embeddings = [layer for layer in network.layers if type(layer).__name__ == "Embedding"]
    tables = [layer.get_weights()[0] for layer in embeddings]
    labels, generated = np.full(len(latents), first, np.int32), list[np.ndarray]()
    try:
        for fraction in np.linspace(0, 1, steps):
            for layer, table in zip(embeddings, tables, strict=True):
                mixed = table.copy()
                mixed[first] = (1 - fraction) * table[first] + fraction * table[last]
                layer.set_weights([mixed])
            generated.append(images(latents, labels))
    finally:
        for layer, table in zip(embeddings, tables, strict=True):
            layer.set_weights([table])
    return generated
