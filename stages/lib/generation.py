"""From latents and labels to uint8 images."""

import numpy as np

IMAGES_AT_A_TIME = 4096  # as float32; a finished image takes a quarter


def draw_latents(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Standard normal latents, float32 [count, latent_dim]."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim)).astype(np.float32)


def generate(generator, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images uint8 [n, height, width, channels] for latents [n, latent_dim] and labels int [n]."""
    images = np.empty((len(labels), *generator.output_shape[1:]), np.uint8)
    for start in range(0, len(labels), IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        made = generator.predict([latents[part], labels[part].astype(np.int32)], batch_size=512, verbose=0)
        images[part] = np.clip(np.round((made + 1.0) * 127.5), 0, 255)
    return images


def is_conditional(generator) -> bool:
    """Whether the class that it is asked for makes a difference."""
    return any(type(layer).__name__ == "Embedding" for layer in generator.layers)
