"""Grids of images with class names, as PNG files whose bytes depend only on what they show."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.drawing.text import printable

INK, PAPER = (32, 32, 32), (255, 255, 255)
GAP = 4  # px between tiles


def image_grid(images: np.ndarray, path: str | Path, columns: int, **options: Any) -> None:
    """Writes the picture that `grid_picture` returns."""
    grid_picture(images, columns, **options).save(path, "PNG", optimize=True)


def grid_picture(
    images: np.ndarray,
    columns: int,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    title: str = "",
    tile: int = 56,
    font_size: int = 14,
) -> Image.Image:
    """Draws uint8 images [n, h, w, 1 or 3] in reading order, `columns` to a row.

    Small images are enlarged by a whole number to about `tile` px, large ones reduced to it. `row_labels` stand to the
    left, `column_labels` above, `captions` below each image; texts that are too long are cut.
    """
    count, height, width, channels = images.shape
    scale = max(1, tile // max(height, width))
    if max(height, width) > 2 * tile:
        shown = max(1, round(width * tile / max(height, width))), max(1, round(height * tile / max(height, width)))
    else:
        shown = width * scale, height * scale
    font = load_font(font_size)
    line = font_size + 6
    rows = -(-count // columns)
    cell = shown[0] + GAP, shown[1] + GAP + (line if captions else 0)
    left = GAP + (min(220, max(_width(font, printable(text)) for text in row_labels)) + GAP if row_labels else 0)
    top = GAP + (line + 4 if title else 0) + (line if column_labels else 0)
    total = max(left + columns * cell[0], GAP * 2 + _width(font, printable(title)))
    canvas = Image.new("RGB", (total, top + rows * cell[1]), PAPER)
    draw = ImageDraw.Draw(canvas)

    def write(x: float, y: float, text: str, space: int, anchor: str) -> None:
        draw.text((x, y), _cut(font, printable(text), space), INK, font, anchor)

    if title:
        write(GAP, GAP + line / 2, title, total - 2 * GAP, "lm")
    for index, pixels in enumerate(images):
        row, column = divmod(index, columns)
        x, y = left + column * cell[0], top + row * cell[1]
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).convert("RGB")
        enlarged = shown[0] >= width
        method = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
        canvas.paste(picture.resize(shown, method), (x, y))
        if captions:
            write(x + shown[0] / 2, y + shown[1] + line / 2, captions[index], shown[0] + GAP - 2, "mm")
    for row, text in enumerate(row_labels):
        write(left - 2 * GAP, top + row * cell[1] + shown[1] / 2, text, left - 3 * GAP, "rm")
    for column, text in enumerate(column_labels):
        write(left + column * cell[0] + shown[0] / 2, top - line / 2, text, shown[0] + GAP - 2, "mm")
    return canvas


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of `size` px, from the files of matplotlib, which takes long to import."""
    package = find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def _width(font: ImageFont.FreeTypeFont, text: str) -> int:
    return int(np.ceil(font.getlength(text))) + GAP


def _cut(font: ImageFont.FreeTypeFont, text: str, space: int) -> str:
    if font.getlength(text) <= space:
        return text
    while text and font.getlength(text + "…") > space:
        text = text[:-1]
    return text + "…"
