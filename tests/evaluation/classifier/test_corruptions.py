"""stages.evaluation.classifier.corruptions: strength, randomness and shape of each corruption."""

import numpy as np
import pytest

from stages.evaluation.classifier.corruptions import CORRUPTIONS, corrupt

RANDOM = np.random.default_rng(0)
MNIST_C = [
    *("shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness"),
    *("translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges"),
]


def of(value: int, count: int = 40, side: int = 28, channels: int = 1) -> np.ndarray:
    return np.full((count, side, side, channels), value, np.uint8)


def square(count: int = 8, side: int = 28) -> np.ndarray:
    """A white square of 8 px in the middle."""
    images = of(0, count, side)
    images[:, side // 2 - 4 : side // 2 + 4, side // 2 - 4 : side // 2 + 4] = 255
    return images


def blob(count: int = 8, side: int = 28) -> np.ndarray:
    """A Gaussian of 3 px in the middle: smooth enough for sums over pixels to be integrals, wherever the pixels are."""
    squares = (np.arange(side) - (side - 1) / 2) ** 2
    grey = 255 * np.exp(-(squares[:, None] + squares) / (2 * 3**2))
    return np.broadcast_to(np.rint(grey).astype(np.uint8)[..., None], (count, side, side, 1)).copy()


def centre(image: np.ndarray) -> np.ndarray:
    """Of mass, (row, column)."""
    places = np.moveaxis(np.mgrid[: image.shape[0], : image.shape[1]], 0, -1)
    return (places * image[..., :1]).sum(axis=(0, 1)) / image[..., 0].sum()


def test_there_are_those_of_mnist_c():
    assert list(CORRUPTIONS) == MNIST_C


@pytest.mark.parametrize("name", MNIST_C)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (8, 3), (9, 1), (16, 1), (28, 3), (65, 3)])
def test_any_size_and_colour_stays_what_it_is(name, side, channels):
    images = RANDOM.integers(0, 256, (5, side, side, channels), dtype=np.uint8)
    before = images.copy()
    found = corrupt(name, images, seed=0)
    assert found.dtype == np.uint8
    assert found.shape == images.shape
    np.testing.assert_array_equal(images, before)
    assert (found != images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", MNIST_C)
def test_the_seed_alone_decides_and_later_images_change_nothing_before(name):
    images = RANDOM.integers(0, 256, (300, 12, 12, 1), dtype=np.uint8)
    found = corrupt(name, images, seed=3)
    np.testing.assert_array_equal(corrupt(name, images, seed=3), found)
    np.testing.assert_array_equal(corrupt(name, images[:256], seed=3), found[:256])
    same = name in ("brightness", "stripe", "scale", "canny_edges")
    assert (corrupt(name, images, seed=4) == found).all() == same


def test_noise_has_the_strength_of_the_paper():
    shot = corrupt("shot_noise", of(85), 0) / 255 * 3  # a mean of one photon
    assert set(np.unique(np.rint(shot))) <= {0, 1, 2, 3}
    assert (shot == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    impulse = corrupt("impulse_noise", of(100), 0)
    assert [(impulse == value).mean() for value in (0, 255, 100)] == pytest.approx([0.085, 0.085, 0.83], abs=0.01)


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur"])
def test_blurs_keep_what_is_even_and_soften_edges(name):
    assert (np.abs(corrupt(name, of(90), 0).astype(int) - 90) <= 1).all()
    blurred = corrupt(name, square(), 0)
    assert blurred.sum() == pytest.approx(square().sum(dtype=float), rel=0.03)
    assert ((blurred > 20) & (blurred < 235)).sum() > 100


def test_motion_blur_smears_to_one_side_in_a_direction_of_its_own():
    shifts = np.array([centre(image) - 13.5 for image in corrupt("motion_blur", square(60), 0)])
    assert (np.abs(shifts[:, 1]) > np.abs(shifts[:, 0]) - 0.2).all()
    assert len(np.unique(np.sign(shifts[:, 1]))) == 1
    assert len(np.unique(np.sign(shifts[:, 0]).round())) > 1


@pytest.mark.parametrize(("name", "area"), [("shear", 1), ("rotate", 1), ("scale", 0.49), ("translate", 1)])
def test_moves_around_the_centre_keep_the_area_that_they_should(name, area):
    moved = corrupt(name, blob(20), 0)
    assert moved.sum(axis=(1, 2, 3), dtype=float) == pytest.approx(area * blob(1).sum(dtype=float), rel=0.01)
    offset = np.array([centre(image) for image in moved]) - 13.5
    if name == "translate":
        assert {tuple(pair) for pair in np.rint(offset).astype(int)} == {(-3, -3), (-3, 3), (3, -3), (3, 3)}
    else:
        assert offset == pytest.approx(0, abs=0.05)


def test_shear_and_rotation_go_either_way_by_the_paper_s_strength():
    line = of(0, 20)
    line[:, :, 13:15] = 255
    for name, slope in (("shear", 0.4), ("rotate", np.tan(0.4))):
        moved = corrupt(name, line, 0)
        found = [(centre(image[18:22])[1] - centre(image[6:10])[1]) / 12 for image in moved]
        assert np.abs(found) == pytest.approx(slope, abs=0.02)
        assert len(set(np.sign(found))) == 2


def test_brightness_raises_the_value_and_keeps_the_hue():
    assert (corrupt("brightness", of(0), 0) == 128).all()
    assert (corrupt("brightness", of(200), 0) == 255).all()
    colour = np.full((1, 8, 8, 3), (100, 50, 0), np.uint8)
    np.testing.assert_array_equal(corrupt("brightness", colour, 0)[0, 0, 0], [228, 114, 0])


def test_stripe_inverts_the_outer_quarters():
    images = RANDOM.integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    found = corrupt("stripe", images, 0)
    np.testing.assert_array_equal(found[:, :, 7:21], images[:, :, 7:21])
    for side in (slice(0, 7), slice(21, 28)):
        np.testing.assert_array_equal(found[:, :, side], 255 - images[:, :, side])


def test_fog_varies_as_the_diamond_square_algorithm_does():
    white = of(0, 400)
    white[:, 0, 0] = 255
    plasma = corrupt("fog", white, 0)[:, 1:, 1:, 0] / 255 * 4 / 3
    assert plasma.mean() == pytest.approx(0.5, abs=0.03)
    assert plasma.std(axis=(1, 2)).mean() == pytest.approx(0.056, abs=0.01)  # within an image, of the paper's code
    assert plasma.mean(axis=(1, 2)).std() == pytest.approx(0.195, abs=0.03)  # between images


def test_fog_and_spatter_leave_black_images_as_the_paper_s_do():
    assert (corrupt("fog", of(0), 0) == 0).all()  # the range is that of the image
    mud = corrupt("spatter", of(0), 0)
    assert mud.max() <= 63
    assert 0.05 < (mud > 40).mean() < 0.4
    assert corrupt("spatter", of(255), 0).min() >= 63


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
@pytest.mark.parametrize("side", [28, 56])
def test_lines_are_white_thin_and_reach_from_side_to_side(name, side):
    drawn = corrupt(name, of(0, 30, side), 0)
    inside = drawn[(drawn > 200).any(axis=(1, 2, 3))]
    assert len(inside) > 25
    share = (inside > 128).mean(axis=(1, 2, 3))
    assert (share < 0.12).all()
    lit = (inside[..., 0] > 60).max(axis=1)  # per column
    spread = [np.flatnonzero(columns)[[0, -1]] for columns in lit]
    assert np.median([last - first for first, last in spread]) > 0.75 * side
    if name == "dotted_line":
        assert lit.mean() == pytest.approx(0.5, abs=0.1)


def test_canny_leaves_the_outline():
    edges = corrupt("canny_edges", square(1), 0)[0, ..., 0]
    assert set(np.unique(edges)) == {0, 255}
    assert edges[12:16, 12:16].max() == 0
    assert 24 <= (edges == 255).sum() <= 44
    assert corrupt("canny_edges", of(77), 0).max() == 0
