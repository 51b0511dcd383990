"""Ways between two images of a generator: through the latents of one class, or from one class to another."""

from collections.abc import Callable

import numpy as np


def spherical(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Latents float32 [steps, d] from `first` to `last` [d] along a great circle, so that those between are as far from
    the origin as random ones are (White 2016, Sampling generative networks). The ends are exact."""
    shares = np.linspace(0, 1, steps)[:, None]
    a, b = first.astype(np.float64), last.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(a @ b / max(lengths, 1e-12), -1, 1))
    if np.sin(angle) < 1e-6:  # the same direction, or opposite ones, between which no circle is the shortest
        return ((1 - shares) * a + shares * b).astype(np.float32)
    return ((np.sin((1 - shares) * angle) * a + np.sin(shares * angle) * b) / np.sin(angle)).astype(np.float32)


def between_classes(
    network, images: Callable, latents: np.ndarray, first: int, last: int, steps: int
) -> list[np.ndarray]:
    """What a generator makes of latents [n, d] on the way from one label to another: `steps` arrays of n images.

    Labels are whole numbers, but a network knows a class by the vectors that its embeddings hold for it. So the way
    leads from the vectors of one to those of the other in a straight line, with the latents as they are (as Brock et
    al. 2019 show for BigGAN). images: from latents and labels to images. The ends are exact.
    """
    embeddings = [layer for layer in network.layers if type(layer).__name__ == "Embedding"]
    before = [layer.get_weights()[0] for layer in embeddings]
    labels, made = np.full(len(latents), first, np.int32), list[np.ndarray]()
    try:
        for share in np.linspace(0, 1, steps):
            for layer, table in zip(embeddings, before, strict=True):
                between = table.copy()
                between[first] = (1 - share) * table[first] + share * table[last]
                layer.set_weights([between])
            made.append(images(latents, labels))
    finally:
        for layer, table in zip(embeddings, before, strict=True):
            layer.set_weights([table])
    return made
