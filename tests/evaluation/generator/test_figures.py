"""stages.evaluation.generator.figures: each picture is drawn, whatever there is to show, and nothing is cut off."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stages.evaluation.generator import figures
from stages.generator.networks import build_generator

RANDOM = np.random.default_rng(0)


def test_samples_have_a_row_per_class(tmp_path):
    generator = build_generator("conv", (8, 8, 1), 3, 4, 4, True)
    figures.draw_samples(tmp_path / "samples.png", generator, ["a", "b", "c"], 0)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.height == 4 + 3 * (64 + 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_walk_is_a_film_with_a_row_per_class(tmp_path, channels):
    generator = build_generator("conv", (8, 8, channels), 3, 4, 4, True)
    figures.draw_walk(tmp_path / "walk.webp", generator, ["a", "b", "c"], 0)
    with Image.open(tmp_path / "walk.webp") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == figures.WALK_FRAMES
        film.seek(0)
        assert film.height == 4 + 3 * (64 + 4)
        first = np.asarray(film.convert("RGB"))
        film.seek(figures.WALK_FRAMES // 2)
        assert (np.asarray(film.convert("RGB")) != first).any()


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (200, 200, 3)])
def test_pairs_stand_side_by_side(tmp_path, shape):
    black, white = np.zeros((8, *shape), np.uint8), np.full((8, *shape), 255, np.uint8)
    figures.draw_pairs(tmp_path / "pairs.png", black, white, np.linspace(0, 12, 8), "as plain pixels")
    with Image.open(tmp_path / "pairs.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    row = pixels[45]  # through the images of the first row
    dark = np.diff(np.concatenate([[0], (row < 50).astype(int), [0]]))
    assert (dark == 1).sum() == 6
    widths = np.flatnonzero(dark == -1) - np.flatnonzero(dark == 1)
    assert len(set(widths)) == 1
    figures.draw_neighbours(tmp_path / "neighbours.png", black, white)


def rows(count: int, measured: int) -> list[dict[str, Any]]:
    return [
        {
            "class": f"class ${k}$",
            "images": 50,
            "fd": 2.0 + k if k < measured else "",
            "fd_floor": 1.5 if k < measured else "",
        }
        for k in range(count)
    ]


def few_classes(path):
    figures.draw_class_distances(path, rows(5, 3))


def many_classes(path):
    figures.draw_class_distances(path, rows(40, 40))


def no_class(path):
    figures.draw_class_distances(path, rows(4, 0))


def distances(path):
    spaces = {"distance": (RANDOM.gamma(4, 1, 300), RANDOM.gamma(5, 1, 300), 1.5), "same": (np.ones(9), np.ones(9), 1)}
    figures.draw_distances(path, spaces, 0.01)


@pytest.mark.parametrize("draw", [few_classes, many_classes, no_class, distances])
def test_nothing_is_cut_off(draw, tmp_path):
    draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (rim == 255).all()
    assert len(np.unique(pixels)) > 2
