"""Resizing to a square: padding, cropping, filters and channels."""

import numpy as np

from stages.imaging.resize import Target, fit_square


def test_padding_keeps_all_and_cropping_keeps_the_centre():
    wide = np.full((10, 20), 255, np.uint8)
    padded = fit_square(wide, Target(20, 1, "pad"))[..., 0]
    assert padded.shape == (20, 20)
    np.testing.assert_array_equal(padded[5:15], 255)
    assert not padded[:5].any()
    assert not padded[15:].any()
    halves = np.hstack([np.zeros((10, 5)), np.full((10, 10), 9), np.zeros((10, 5))]).astype(np.uint8)
    np.testing.assert_array_equal(fit_square(halves, Target(10, 1, "crop"))[..., 0], 9)


def test_shrinking_antialiases():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(fit_square(stripes, Target(8, 1, "pad")).astype(int) - 127).max() < 40


def test_extreme_aspects_and_single_pixels_fit():
    for shape in ((1, 5000), (5000, 1), (1, 1), (3, 2000, 3)):
        for fit in ("pad", "crop"):
            assert fit_square(np.full(shape, 7, np.uint8), Target(16, 3, fit)).shape[:2] == (16, 16)
