"""From latents and labels to uint8 images."""

import numpy as np


def draw_latents(count: int, latent_dim: int, seed: int) -> np.ndarray:
    """Standard normal latents, float32 [count, latent_dim]."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim)).astype(np.float32)


def generate(generator, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images uint8 [n, height, width, channels] for latents [n, latent_dim] and labels int [n]."""
    images = generator.predict([latents, labels.astype(np.int32)], batch_size=512, verbose=0)
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)
