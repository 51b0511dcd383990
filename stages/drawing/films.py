"""Animated pictures, as WebP files whose bytes depend only on what they show."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

MAX_FRAMES = 60  # of a film: of more pictures, this many are shown, evenly spaced


def write_film(pictures: Sequence[Image.Image], path: Path, milliseconds: int, rest: int = 0) -> None:
    """Writes pictures of equal size as a looping film, `milliseconds` each; the last one stays for `rest` more.

    Raises ValueError when there are no pictures.
    """
    if not pictures:
        raise ValueError("a film needs at least one picture")
    first, *others = (pictures[k] for k in spread(len(pictures), MAX_FRAMES))
    durations = [milliseconds] * len(others) + [milliseconds + rest]
    options = {"lossless": True, "quality": 60, "method": 4}  # quality: of the search for the smallest file
    first.save(path, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, **options)


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced, including the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
