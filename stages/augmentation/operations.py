"""Random changes to images that keep their class.

Each factory takes strengths and returns a pure function of (images, key): uint8 [n, height, width, channels] in, the
same shape out. The key determines the random numbers, so that neither the order nor the number of threads matters.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import cv2
import numpy as np

Border = Literal["black", "edge", "mirror"]

PADDINGS: dict[Border, Literal["constant", "edge", "reflect"]] = {
    "black": "constant",
    "edge": "edge",
    "mirror": "reflect",
}
BORDERS = {"black": cv2.BORDER_CONSTANT, "edge": cv2.BORDER_REPLICATE, "mirror": cv2.BORDER_REFLECT_101}
BLOCK = 128  # images per key: many enough for numpy, few enough for the processor's cache

# Each operation has its own random numbers: switching one on does not change the others.
FLIP, MOVE, CONTRAST, BRIGHTNESS, NOISE, ERASING = range(6)


class Key(NamedTuple):
    """Identifies BLOCK consecutive images in one augmented version of the set."""

    seed: int
    view: int
    block: int


Operation = Callable[[np.ndarray, Key], np.ndarray]


def augment(images: np.ndarray, first: int, seed: int, view: int, operations: list[Operation]) -> np.ndarray:
    """Applies the operations in order to the images number `first`, `first` + 1, ... of their set.

    The result for an image depends on its number, the seed and the view, not on the other images.
    """
    out = np.empty_like(images)
    start = first - first % BLOCK
    for block_start in range(start, first + len(images), BLOCK):
        # A block that is only partly in the array is padded: an image keeps its place, and so its random numbers.
        low, high = max(block_start, first), min(block_start + BLOCK, first + len(images))
        inside = slice(low - block_start, high - block_start)
        block = np.zeros((BLOCK, *images.shape[1:]), np.uint8)
        block[inside] = images[low - first : high - first]
        for operation in operations:
            block = operation(block, Key(seed, view, block_start // BLOCK))
        out[low - first : high - first] = block[inside]
    return out


def flip(share: float) -> Operation:
    """Mirrors each image left to right in `share` of the views, spread evenly over them.

    With 0.5 an image is mirrored in every other view, from a random start (airbench, Jordan 2024, arXiv:2404.00498).
    """

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        start = np.random.default_rng([FLIP, key.seed, key.block]).random(len(images))
        mirrored = (start + key.view * share) % 1 < share
        return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)

    return apply


def shift_rotate_zoom(shift: float, rotation: float, zoom: float, border: Border = "black") -> Operation:
    """Transforms each image by one affine map around its centre, with linear interpolation.

    Args:
        shift: up to this share of the side, in both directions; without rotation and zoom by whole px, at
            least 1, which leaves the image as sharp as it was.
        rotation: up to this many degrees, either way.
        zoom: a factor from 1 - zoom to 1 + zoom.
        border: how the uncovered rim is filled.
    """
    mode = BORDERS[border]
    if not (rotation or zoom):
        return _shift_by_whole_pixels(shift, border)

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        height, width = images.shape[1:3]
        random = _rng(MOVE, key).uniform(-1, 1, (len(images), 4))
        angle, factor = np.deg2rad(rotation) * random[:, 0], 1 + zoom * random[:, 1]
        cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2  # the centre, which only the shift moves
        matrices = np.empty((len(images), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = cosine, sine
        matrices[:, 1, 0], matrices[:, 1, 1] = -sine, cosine
        matrices[:, 0, 2] = x - cosine * x - sine * y + shift * width * random[:, 2]
        matrices[:, 1, 2] = y + sine * x - cosine * y + shift * height * random[:, 3]
        out = np.empty_like(images)
        for image, matrix, target in zip(images, matrices, out, strict=True):
            cv2.warpAffine(image, matrix, (width, height), dst=target, flags=cv2.INTER_LINEAR, borderMode=mode)
        return out

    return apply


def _shift_by_whole_pixels(shift: float, border: Border) -> Operation:
    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        count, height, width, _ = images.shape
        largest = [max(1, round(shift * side)) if shift else 0 for side in (height, width)]
        rims = [(0, 0), *((rim, rim) for rim in largest), (0, 0)]
        padded = np.pad(images, rims, mode=PADDINGS[border])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        y, x = (_rng(MOVE, key).random((count, 2)) * (2 * np.array(largest) + 1)).astype(int).T
        return np.ascontiguousarray(windows[np.arange(count), y, x].transpose(0, 2, 3, 1))

    return apply


def contrast(strength: float) -> Operation:
    """Multiplies each image's distance from its mean by a factor from 1 - strength to 1 + strength."""

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        factor = 1 + strength * _per_image(CONTRAST, key, images)
        mean = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
        return _to_uint8(mean + factor * (images - mean))

    return apply


def brightness(strength: float) -> Operation:
    """Adds a number from -255 * strength to 255 * strength to each image."""

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        return _to_uint8(images + 255 * strength * _per_image(BRIGHTNESS, key, images))

    return apply


def noise(sigma: float) -> Operation:
    """Adds Gaussian noise of standard deviation `sigma`, in units of 0 to 255, to each value."""

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        return _to_uint8(images + np.float32(sigma) * _rng(NOISE, key).standard_normal(images.shape, np.float32))

    return apply


def erasing(probability: float, max_area: float) -> Operation:
    """Replaces a rectangle by random values (random erasing, Zhong et al. 2017, arXiv:1708.04896).

    Args:
        probability: that an image is changed.
        max_area: of the rectangle, as a share of the image; at least 0.02. Its height is 0.3 to 3.3 times its width.
    """

    def apply(images: np.ndarray, key: Key) -> np.ndarray:
        height, width = images.shape[1:3]
        rng = _rng(ERASING, key)
        random = rng.random((len(images), 5))
        areas = height * width * (0.02 + (max_area - 0.02) * random[:, 1])
        ratios = np.exp(math.log(0.3) + (math.log(3.3) - math.log(0.3)) * random[:, 2])
        heights = np.clip(np.rint(np.sqrt(areas * ratios)), 1, height).astype(int)
        widths = np.clip(np.rint(areas / heights), 1, width).astype(int)
        tops = (random[:, 3] * (height - heights + 1)).astype(int)
        lefts = (random[:, 4] * (width - widths + 1)).astype(int)
        out = images.copy()
        for k in np.flatnonzero(random[:, 0] < probability):
            target = out[k, tops[k] : tops[k] + heights[k], lefts[k] : lefts[k] + widths[k]]
            target[:] = np.random.default_rng([ERASING, *key, int(k)]).integers(0, 256, target.shape, np.uint8)
        return out

    return apply


def _rng(operation: int, key: Key) -> np.random.Generator:
    return np.random.default_rng([operation, *key])


def _per_image(operation: int, key: Key, images: np.ndarray) -> np.ndarray:
    """float32 [n, 1, 1, 1], uniform from -1 to 1."""
    return _rng(operation, key).uniform(-1, 1, (len(images), 1, 1, 1)).astype(np.float32)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
