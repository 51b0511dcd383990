"""The 15 corruptions of MNIST-C (Mu & Gilmer 2019, arXiv:1906.02337), for grey and colour images of any size.

Strengths are the paper's; its lengths, which are for images of 28 px, scale with the side. Each corruption is a
function (images uint8 [n, side, side, channels], random generator) -> the same shape, and treats every image by itself.
"""

from collections.abc import Callable

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

MNIST_SIDE = 28  # px
BLOCK = 256  # images per random generator: few enough to hold float copies of photographs

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def corrupt(name: str, images: np.ndarray, seed: int) -> np.ndarray:
    """Applies the corruption `name` of CORRUPTIONS to uint8 images [n, side, side, channels]; the same arguments give
    the same bytes, and a whole block of images is corrupted independently of the images after it."""
    number, out = list(CORRUPTIONS).index(name), np.empty_like(images)
    for start in range(0, len(images), BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = CORRUPTIONS[name](images[part], np.random.default_rng([seed, number, start // BLOCK]))
    return out


# ---------------------------------------------------------------- noise


def shot_noise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Simulates photon noise where white is 3 photons."""
    return _to_uint8(random.poisson(images / 255 * 3) * (255 / 3))


def impulse_noise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Makes 17% of the values black or white."""
    drawn = random.random(images.shape, np.float32)
    return np.where(drawn < 0.17, np.where(drawn < 0.085, 0, 255), images).astype(np.uint8)


# ---------------------------------------------------------------- blur


def glass_blur(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blurs with a sigma of 0.7, swaps half of the pixels with a neighbour, twice, and blurs again."""
    unit = images.shape[1] / MNIST_SIDE
    reach, side = max(1, round(unit)), images.shape[1]
    blurred = _to_uint8(_blur(images, 0.7 * unit))
    # Pixels lie along the first axis and images along the second: a swap then moves neighbours in memory.
    pixels = np.ascontiguousarray(blurred.reshape(len(images), side * side, -1).swapaxes(0, 1))
    every = np.arange(len(images))
    for _ in range(2):
        for row in range(side - reach, reach, -1):
            shifts = random.integers(-reach, reach, (side + 1, 2, len(images)))
            swapped = random.random((side + 1, len(images))) < 0.5
            for column in range(side - reach, reach, -1):
                here = row * side + column
                down, right = shifts[column]
                there = np.where(swapped[column], here + down * side + right, here)
                held = pixels[here].copy()
                pixels[here] = pixels[there, every]
                pixels[there, every] = held
    return _to_uint8(_blur(pixels.swapaxes(0, 1).reshape(images.shape), 0.7 * unit))


def motion_blur(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Smears in a direction between -45 and 45 degrees, with a one-sided Gaussian of sigma 3."""
    sigma = 3 * images.shape[1] / MNIST_SIDE
    steps = np.arange(int(np.ceil(3 * sigma)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    out = np.empty_like(images)
    for image, target, angle in zip(images, out, random.uniform(-np.pi / 4, np.pi / 4, len(images)), strict=True):
        kernel = np.zeros((2 * len(steps) - 1,) * 2, np.float32)
        down, right = np.rint(steps * np.sin(angle)).astype(int), np.rint(steps * np.cos(angle)).astype(int)
        np.add.at(kernel, (down + len(steps) - 1, right + len(steps) - 1), weights / weights.sum())
        target[:] = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE).reshape(image.shape)
    return out


# ---------------------------------------------------------------- geometry, around the centre, with a black border


def shear(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shears rows by 0.4 of their distance from the centre, in either direction."""
    strength = 0.4 * _random_signs(random, len(images))
    return _warp(images, [[[1, k], [0, 1]] for k in strength])


def scale(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrinks to 70% of the side."""
    return _warp(images, [np.eye(2) / 0.7] * len(images))


def rotate(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rotates by 0.4 radians, in either direction."""
    sine = np.sin(0.4) * _random_signs(random, len(images))
    return _warp(images, [[[np.cos(0.4), -s], [s, np.cos(0.4)]] for s in sine])


def translate(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Moves by 3 px along both axes."""
    shift = max(1, round(3 * images.shape[1] / MNIST_SIDE))
    moves = np.stack([_random_signs(random, len(images)), _random_signs(random, len(images))], axis=1) * shift
    return _warp(images, [np.eye(2)] * len(images), moves)


# ---------------------------------------------------------------- light and weather


def brightness(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds half of the full range to the value (V) of HSV."""
    value = images.max(axis=3, keepdims=True).astype(np.float32)
    brighter = np.minimum(value + 127.5, 255)
    return _to_uint8(np.where(value > 0, images * (brighter / np.maximum(value, 1)), brighter))


def stripe(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Inverts the left and the right quarter."""
    out, quarter = images.copy(), images.shape[2] // 4
    out[:, :, :quarter] = 255 - out[:, :, :quarter]
    out[:, :, -quarter:] = 255 - out[:, :, -quarter:]
    return out


def fog(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds plasma three times as bright as white, and divides by the new range.

    The plasma is a sum of noise of ever finer grain. Its strength falls by 1.4 squared per halving of the grain, as in
    the paper's diamond-square algorithm, and it varies as much within and between images as theirs.
    """
    side = images.shape[1]
    total, reach, grain, strength = np.zeros((len(images), side, side), np.float32), 0.0, 3.0 * side, 1.0
    while grain >= 1:
        knots = int(np.ceil(side / grain)) + 2
        noise = random.uniform(-1, 1, (len(images), knots, knots)).astype(np.float32)
        place = np.clip((np.arange(side) + 0.5) / grain, 0, knots - 1.001)
        between = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(knots))).astype(np.float32)
        total += strength * (between @ noise @ between.T)
        reach, grain, strength = reach + strength, grain / 2, strength / 1.96
    plasma = np.clip(0.5 + total / (1.3 * reach), 0, 1)[..., None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True) / np.float32(255)
    return _to_uint8(255 * (images / np.float32(255) + 3 * plasma) * (brightest / (brightest + 3)))


def spatter(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Covers parts with drops of dark grey mud."""
    unit = images.shape[1] / MNIST_SIDE
    liquid = _blur(random.normal(0.65, 0.3, (*images.shape[:3], 1)).astype(np.float32), unit)
    drops = _blur((liquid > 0.65).astype(np.float32), 1.5 * unit)
    drops = np.where(drops < 0.8, 0, drops)
    return _to_uint8(images * (1 - drops) + 63 * drops)


# ---------------------------------------------------------------- lines


def dotted_line(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds a white line from the left to the right edge, with gaps."""
    side = images.shape[1]
    left, right = random.uniform(0, side - 1, (2, len(images), 1, 1))
    rows, columns = np.mgrid[:side, :side]
    distance = np.abs(rows - left - (right - left) * columns / (side - 1))
    drawn = (columns * MNIST_SIDE // side) // 2 % 2 == 1
    return _add_line(images, distance, drawn)


def zigzag(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Adds a white zigzag line from left to right, with an amplitude of 2 px and a period of 8 px."""
    side = images.shape[1]
    unit = side / MNIST_SIDE
    start = random.uniform(0, side - 1, (len(images), 1, 1))
    rise = random.uniform(-5, 5, (len(images), 1, 1)) * unit
    rows, columns = np.mgrid[:side, :side]
    angle = np.arctan(rise / (23 * unit))
    x, y = columns - 2 * unit, rows - start
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    phase = (along / (8 * unit) + 0.75) % 1  # 0 at the top of a tooth, half at the bottom
    teeth = 2 * unit * (1 - 4 * np.abs(phase - 0.5))
    return _add_line(images, np.abs(across - teeth), (along >= 0) & (along <= 23 * unit / np.cos(angle)))


def canny_edges(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Replaces the image by white edges on black (Canny 1986): sigma 1, thresholds of 0.1 and 0.2 of the full range."""
    blurred = _to_uint8(_blur(images, images.shape[1] / MNIST_SIDE))
    out = np.empty_like(images)
    for image, target in zip(blurred, out, strict=True):
        grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        target[:] = cv2.Canny(np.ascontiguousarray(grey), 25.5, 51, L2gradient=True)[..., None]
    return out


CORRUPTIONS: dict[str, Corruption] = {
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "shear": shear,
    "scale": scale,
    "rotate": rotate,
    "brightness": brightness,
    "translate": translate,
    "stripe": stripe,
    "fog": fog,
    "spatter": spatter,
    "dotted_line": dotted_line,
    "zigzag": zigzag,
    "canny_edges": canny_edges,
}


# ---------------------------------------------------------------- shared steps


def _warp(images: np.ndarray, maps, moves: np.ndarray | None = None) -> np.ndarray:
    """Warps each image by its linear map [2, 2] of (x, y) from output to input, which fixes the centre except for a
    move [n, 2] in px; interpolates linearly."""
    side, out = images.shape[1], np.empty_like(images)
    centre = np.full(2, (side - 1) / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for k, (image, linear) in enumerate(zip(images, maps, strict=True)):
        shift = centre - np.asarray(linear) @ centre + (0 if moves is None else moves[k])
        cv2.warpAffine(image, np.column_stack([linear, shift]), (side, side), dst=out[k], flags=flags)
    return out


def _add_line(images: np.ndarray, distance: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Adds white that fades with the distance [n, side, side] from the line, as in the paper."""
    width = 2.3 * images.shape[1] / MNIST_SIDE
    near = np.clip(distance / width, 0, 1 - 1e-6)
    return _to_uint8(images + 255 * (np.maximum(np.log(1 - near) + 1, 0) * drawn)[..., None])


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """float32 images [n, height, width, channels], blurred by a Gaussian of `sigma` px."""
    rows = gaussian_filter1d(images.astype(np.float32), sigma, axis=1, mode="nearest")
    return gaussian_filter1d(rows, sigma, axis=2, mode="nearest")


def _random_signs(random: np.random.Generator, count: int) -> np.ndarray:
    """Random -1 or 1, [count]."""
    return random.integers(0, 2, count) * 2 - 1


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
