"""Generates uint8 images from latents and labels."""

import numpy as np

IMAGES_AT_A_TIME = 4096  # as float32; a uint8 image takes a quarter of that


def draw_latents(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Standard normal latents, float32 [count, latent_dim]."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim)).astype(np.float32)


def circular_walk(start: np.ndarray, towards: np.ndarray, steps: int) -> np.ndarray:
    """Latents float32 [steps, n, latent_dim] on circles around the origin, from `start` [n, latent_dim] in the
    direction of `towards` and back to `start`: all at the same distance from the origin, like random latents, whose
    distances are nearly equal (White 2016)."""
    lengths = np.linalg.norm(start, axis=1, keepdims=True)
    across = towards - (towards * start).sum(axis=1, keepdims=True) / lengths**2 * start
    across *= lengths / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    angles = 2 * np.pi * np.arange(steps)[:, None, None] / steps
    return (np.cos(angles) * start + np.sin(angles) * across).astype(np.float32)


def generate(generator, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images uint8 [n, height, width, channels] for latents [n, latent_dim] and labels int [n]."""
    images = np.empty((len(labels), *generator.output_shape[1:]), np.uint8)
    for start in range(0, len(labels), IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        made = generator.predict([latents[part], labels[part].astype(np.int32)], batch_size=512, verbose=0)
        images[part] = np.clip(np.round((made + 1.0) * 127.5), 0, 255)
    return images


def is_conditional(generator) -> bool:
    """Whether the generator's images depend on the label."""
    return any(type(layer).__name__ == "Embedding" for layer in generator.layers)
