"""Films show their pictures without loss, in order, and are the same bytes each time."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stages.drawing.films import MAX_FRAMES, spread, write_film


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (12, 20, 3), np.uint8)) for _ in range(count)]


def test_a_film_shows_each_picture_as_it_is_and_starts_over(tmp_path):
    shown = pictures(5)
    write_film(shown, tmp_path / "film.webp", milliseconds=70, rest=500)
    with Image.open(tmp_path / "film.webp") as film:
        assert film.info["loop"] == 0
        durations = []
        for frame, picture in zip(ImageSequence.Iterator(film), shown, strict=True):
            np.testing.assert_array_equal(np.asarray(frame.convert("RGB")), np.asarray(picture))
            durations.append(frame.info["duration"])
    assert durations == [70, 70, 70, 70, 570]


def test_equal_pictures_make_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_film(pictures(3), tmp_path / name, milliseconds=50)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_long_film_is_cut_to_pictures_evenly_spread(tmp_path):
    write_film(pictures(200), tmp_path / "film.webp", milliseconds=50)
    with Image.open(tmp_path / "film.webp") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == MAX_FRAMES


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 60, [0]), (3, 60, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_spread_takes_the_first_and_the_last(count, most, expected):
    assert spread(count, most) == expected


def test_no_pictures_make_no_film(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_film([], tmp_path / "film.webp", milliseconds=50)
    assert not (tmp_path / "film.webp").exists()
