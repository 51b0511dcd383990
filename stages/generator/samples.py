"""Sample images of a generator during training: fixed latents, one row for each of the first classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.drawing.films import write_film
from stages.drawing.grids import grid_picture, image_grid
from stages.generator.sampling import draw_latents, generate

SAMPLES_PER_CLASS, SHOWN_CLASSES = 12, 20


class Samples:
    """The latents and labels of the samples, and how they are drawn; without class names when not conditional."""

    def __init__(self, classes: Sequence[str], *, latent_dim: int, conditional: bool, seed: int):
        shown = np.arange(min(len(classes), SHOWN_CLASSES), dtype=np.int32)
        self.labels = np.repeat(shown, SAMPLES_PER_CLASS)
        self.latents = draw_latents(len(self.labels), latent_dim, seed)
        self.row_labels = classes[:SHOWN_CLASSES] if conditional else ()

    def generate(self, generator) -> np.ndarray:
        """uint8 [n, height, width, channels]."""
        return generate(generator, self.latents, self.labels)

    def draw(self, folder: Path, step: int, images: np.ndarray) -> Path:
        """Writes the picture of the images after a step to `folder`/samples, and returns its path."""
        path = folder / "samples" / f"step-{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        image_grid(images, path, SAMPLES_PER_CLASS, row_labels=self.row_labels)
        return path

    def draw_film(self, path: Path, steps: Sequence[int], samples: Sequence[np.ndarray]) -> None:
        """Writes an animation of the images after each of the steps."""
        frames = [
            grid_picture(images, SAMPLES_PER_CLASS, row_labels=self.row_labels, title=f"step {step:,} of {steps[-1]:,}")
            for step, images in zip(steps, samples, strict=True)
        ]
        write_film(frames, path, milliseconds=500, rest=2000)
