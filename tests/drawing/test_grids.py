"""Grids of images: their layout, labels and bytes."""

import numpy as np
from PIL import Image

from stages.drawing.grids import image_grid


def test_tiles_are_enlarged_whole_and_in_reading_order(tmp_path):
    images = np.array([10, 90, 170, 250], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    image_grid(images, tmp_path / "grid.png", 2, tile=16)
    with Image.open(tmp_path / "grid.png") as image:
        picture = np.asarray(image.convert("L"))
    assert [int(picture[y, x]) for y in (10, 30) for x in (10, 30)] == [10, 90, 170, 250]
    assert (picture == 10).sum() == 16 * 16


def test_the_same_pictures_are_the_same_bytes(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (6, 300, 200, 3), np.uint8)
    for name in ("a.png", "b.png"):
        image_grid(images, tmp_path / name, 3, row_labels=["one", "two"], captions=list("abcdef"), title="A title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_labels_of_any_kind_fit(tmp_path):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    names = ["x" * 500, "<script>$\\frac{1}{2}$\n猫\0"]
    image_grid(images, tmp_path / "grid.png", 2, column_labels=names, captions=names, row_labels=names[:1], title="t")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width < 500
