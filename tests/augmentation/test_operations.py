"""Closed forms and statistics of the augmentations."""

import cv2
import numpy as np
import pytest

from stages.augmentation.operations import (
    BLOCK,
    BORDERS,
    Border,
    Key,
    augment,
    brightness,
    contrast,
    erasing,
    flip,
    noise,
    shift_rotate_zoom,
)

EVERYTHING = [flip(0.5), shift_rotate_zoom(0.1, 20, 0.1), contrast(0.3), brightness(0.1), noise(5), erasing(0.5, 0.3)]


@pytest.fixture(params=[(28, 28, 1), (16, 24, 3)], ids=str)
def images(request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (300, *request.param), dtype=np.uint8)


@pytest.mark.parametrize(
    "operation",
    [flip(0), shift_rotate_zoom(0, 0, 0), contrast(0), brightness(0), noise(0), erasing(0, 0.3)],
    ids=["flip", "shift_rotate_zoom", "contrast", "brightness", "noise", "erasing"],
)
def test_no_strength_leaves_images_as_they_are(images: np.ndarray, operation) -> None:
    np.testing.assert_array_equal(operation(images, Key(0, 3, 1)), images)


@pytest.mark.parametrize("operation", EVERYTHING)
def test_operations_are_pure_and_keep_the_shape(images: np.ndarray, operation) -> None:
    before = images.copy()
    once, again = operation(images, Key(0, 3, 1)), operation(images, Key(0, 3, 1))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(once, again)
    assert once.shape == images.shape
    assert once.dtype == np.uint8


@pytest.mark.parametrize("operation", EVERYTHING)
@pytest.mark.parametrize("other", [Key(1, 3, 1), Key(0, 4, 1), Key(0, 3, 2)], ids=["seed", "view", "block"])
def test_another_key_changes_the_result(images: np.ndarray, operation, other: Key) -> None:
    assert (operation(images, Key(0, 3, 1)) != operation(images, other)).any()


@pytest.mark.parametrize("cuts", [(1,), (BLOCK,), (100, 101, 290)], ids=str)
def test_the_cut_into_shards_changes_nothing(images: np.ndarray, cuts: tuple[int, ...]) -> None:
    whole = augment(images, 0, 7, 2, EVERYTHING)
    parts = np.split(images, cuts)
    firsts = (0, *cuts)
    pieces = [augment(part, first, 7, 2, EVERYTHING) for part, first in zip(parts, firsts, strict=True)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_an_operation_has_random_numbers_of_its_own(images: np.ndarray) -> None:
    alone = augment(images, 0, 7, 2, [erasing(0.5, 0.3)])
    mirrored = augment(images, 0, 7, 2, [erasing(0.5, 0.3), flip(1)])
    np.testing.assert_array_equal(mirrored[:, :, ::-1], alone)


def test_flip_alternates_between_views_from_a_random_start(images: np.ndarray) -> None:
    mirrored = np.stack([(flip(0.5)(images, Key(0, view, 0)) != images).any(axis=(1, 2, 3)) for view in range(4)])
    np.testing.assert_array_equal(mirrored[0], ~mirrored[1])
    np.testing.assert_array_equal(mirrored[:2], mirrored[2:])
    assert 0.4 < mirrored[0].mean() < 0.6


@pytest.mark.parametrize(("share", "views"), [(0.25, 4), (0.75, 4), (1.0, 3)])
def test_flip_mirrors_each_image_in_its_share_of_views(images: np.ndarray, share: float, views: int) -> None:
    count = sum((flip(share)(images, Key(0, view, 0)) != images).any(axis=(1, 2, 3)) for view in range(views))
    np.testing.assert_array_equal(count, round(share * views))


def test_flip_twice_is_the_identity(images: np.ndarray) -> None:
    np.testing.assert_array_equal(flip(1)(flip(1)(images, Key(0, 0, 0)), Key(0, 0, 0)), images)


@pytest.mark.parametrize(("shift", "most"), [(0.001, 1), (1 / 28, 1), (0.1, 3)])
def test_a_shift_alone_is_by_whole_px_all_equally_often(shift: float, most: int) -> None:
    images = np.zeros((4096, 28, 28, 1), np.uint8)
    images[:, 14, 14] = 255
    y, x = np.argwhere(augment(images, 0, 0, 0, [shift_rotate_zoom(shift, 0, 0)])[..., 0] == 255)[:, 1:].T - 14
    for offset in (y, x):
        values, counts = np.unique(offset, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(-most, most + 1))
        np.testing.assert_allclose(counts, 4096 / len(values), rtol=0.25)  # 5 standard errors of the rarest


@pytest.mark.parametrize("border", ["black", "edge", "mirror"])
def test_a_shift_alone_fills_the_rim_as_opencv_does(images: np.ndarray, border: Border) -> None:
    """Each image is what OpenCV makes of it for some shift by whole px."""
    shifted = shift_rotate_zoom(0.07, 0, 0, border)(images, Key(0, 0, 0))
    for image, moved in zip(images[:50], shifted, strict=False):
        height, width = image.shape[:2]
        candidates = [
            cv2.warpAffine(image, np.array([[1, 0, x], [0, 1, y]], float), (width, height), borderMode=BORDERS[border])
            for x in range(-2, 3)
            for y in range(-2, 3)
        ]
        assert any((candidate.reshape(moved.shape) == moved).all() for candidate in candidates)


def test_a_shift_moves_a_dot_by_no_more_than_its_share_of_the_side() -> None:
    images = np.zeros((BLOCK, 41, 41, 1), np.uint8)
    images[:, 20, 20] = 255
    y, x = _centres(shift_rotate_zoom(0.2, 0, 0)(images, Key(0, 0, 0)))
    for offset in (y - 20, x - 20):
        assert np.abs(offset).max() <= 0.2 * 41 + 0.05
        assert np.abs(offset).max() > 0.9 * 0.2 * 41
        assert abs(offset.mean()) < 1.5  # 5 standard errors of a uniform mean would be 2.1


def test_a_rotation_keeps_the_distance_from_the_centre_and_the_angle_in_bounds() -> None:
    images = np.zeros((BLOCK, 41, 41, 1), np.uint8)
    images[:, 20, 35] = 255
    y, x = _centres(shift_rotate_zoom(0, 30, 0)(images, Key(0, 0, 0)))
    np.testing.assert_allclose(np.hypot(y - 20, x - 20), 15, atol=0.1)
    angle = np.rad2deg(np.arctan2(y - 20, x - 20))
    assert np.abs(angle).max() <= 30.5
    assert angle.min() < -25
    assert angle.max() > 25


def test_zoom_scales_the_distance_from_the_centre() -> None:
    images = np.zeros((BLOCK, 41, 41, 1), np.uint8)
    images[:, 19:22, 29:32] = 255
    y, x = _centres(shift_rotate_zoom(0, 0, 0.3)(images, Key(0, 0, 0)))
    np.testing.assert_allclose(y, 20, atol=0.05)
    assert 6.9 < (x - 20).min() < 7.5
    assert 12.5 < (x - 20).max() < 13.1


@pytest.mark.parametrize(("border", "rim"), [("black", 0), ("edge", 200), ("mirror", 200)])
def test_the_border_fills_what_a_shift_uncovers(border, rim: int) -> None:
    images = np.full((BLOCK, 16, 16, 1), 200, np.uint8)
    assert shift_rotate_zoom(0.3, 0, 0, border)(images, Key(0, 0, 0)).min() == rim


def test_contrast_keeps_the_mean_and_scales_the_deviation() -> None:
    images = np.random.default_rng(0).integers(100, 156, (BLOCK, 16, 16, 1), dtype=np.uint8)
    changed = contrast(0.5)(images, Key(0, 0, 0))
    np.testing.assert_allclose(changed.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), atol=0.1)
    ratio = changed.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert 0.49 < ratio.min() < 0.55
    assert 1.45 < ratio.max() < 1.51


def test_brightness_adds_one_number_to_an_image_and_saturates() -> None:
    images = np.random.default_rng(0).integers(100, 156, (BLOCK, 16, 16, 1), dtype=np.uint8)
    difference = brightness(0.2)(images, Key(0, 0, 0)).astype(int) - images
    assert (np.ptp(difference, axis=(1, 2, 3)) == 0).all()
    assert np.abs(difference).max() <= 0.2 * 255
    assert brightness(1)(images, Key(0, 0, 0)).min() == 0
    assert brightness(1)(images, Key(0, 0, 0)).max() == 255


def test_noise_has_the_standard_deviation_asked_for() -> None:
    images = np.full((BLOCK, 28, 28, 1), 128, np.uint8)
    difference = noise(10)(images, Key(0, 0, 0)).astype(float) - 128
    assert abs(difference.mean()) < 0.2  # 100352 values: 5 standard errors are 0.16
    assert difference.std() == pytest.approx(np.sqrt(10**2 + 1 / 12), rel=0.02)  # rounding adds 1/12


def test_erasing_touches_the_share_of_images_and_area_asked_for() -> None:
    images = np.zeros((40 * BLOCK, 32, 32, 1), np.uint8)
    changed = augment(images, 0, 0, 0, [erasing(0.5, 0.4)])
    touched = changed.any(axis=(1, 2, 3))
    assert touched.mean() == pytest.approx(0.5, abs=0.035)  # 5 standard errors of 5120 draws
    rows, columns = changed.any(axis=(2, 3)).sum(1)[touched], changed.any(axis=(1, 3)).sum(1)[touched]
    area = rows * columns / 32**2
    assert area.max() < 0.42
    assert area.min() < 0.03
    assert area.mean() == pytest.approx(0.21, abs=0.02)  # uniform between 0.02 and 0.4
    assert np.median(rows / columns) == pytest.approx(1, abs=0.1)
    filled = changed[touched]
    assert filled[filled > 0].mean() == pytest.approx(128, abs=1)


def _centres(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre of mass of each image, y and x in px."""
    weights = images[..., 0].astype(float)
    total = weights.sum(axis=(1, 2))
    rows, columns = np.arange(weights.shape[1]), np.arange(weights.shape[2])
    return (weights.sum(axis=2) @ rows) / total, (weights.sum(axis=1) @ columns) / total
