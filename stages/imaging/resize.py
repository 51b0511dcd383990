"""Resizes decoded images to one size and one number of channels."""

from typing import NamedTuple

import numpy as np
from PIL import Image


class Target(NamedTuple):
    """The form of every resized image."""

    size: int  # px, height and width
    channels: int  # 1 or 3
    fit: str  # pad or crop


def fit_square(pixels: np.ndarray, target: Target) -> np.ndarray:
    """Resizes uint8 [h, w] or [h, w, 3] to [size, size, 1] or, for a colour target, 3; antialiased, aspect kept."""
    size = target.size
    if pixels.ndim == 3 and target.channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))  # luma of ITU-R 601
    height, width = pixels.shape[:2]
    if (height, width) != (size, size):
        image = Image.fromarray(pixels)
        if target.fit == "crop":
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            pixels = np.asarray(image.resize((size, size), resampling_filter(side, size), box))
        else:
            side = max(width, height)
            inner = max(1, round(width * size / side)), max(1, round(height * size / side))
            canvas = Image.new(image.mode, (size, size))
            resized = image.resize(inner, resampling_filter(side, size))
            canvas.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
            pixels = np.asarray(canvas)
    return pixels if pixels.ndim == 3 else pixels[..., None]  # broadcasts to three channels when assigned


def resampling_filter(side: int, size: int) -> Image.Resampling:
    """Lanczos to shrink `side` px to `size`; bicubic to enlarge, where Lanczos rings."""
    return Image.Resampling.LANCZOS if size < side else Image.Resampling.BICUBIC
