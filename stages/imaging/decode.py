"""Decodes the bytes of an image file to uint8 pixels and facts about them; runs in the worker processes of ingest.

Imports numpy and Pillow only, so that workers start quickly.
"""

import hashlib
import io
import math
import os
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from stages.imaging.resize import Target, fit_square

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP")
EXTENSIONS = frozenset(("png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "gif", "tif", "tiff", "webp"))
MAX_BYTES = 256 * 2**20  # of one file
MAX_PIXELS = 89_000_000  # of one image: a decoded RGBA of this size takes 340 MiB
MAX_SCANS = 200  # of one JPEG, which usually has 10: each visits all pixels, and takes only a few bytes of the file
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_IGNORED = {b"pHYs", b"tIME", b"gAMA", b"sRGB", b"cHRM", b"sBIT", b"bKGD"}  # chunks that change no pixel


class Undecodable(Exception):
    """The reason why an image cannot be used, as the manifest states it."""


class Extent(NamedTuple):
    """The location of an encoded image: a whole file, or a part of an archive."""

    path: str
    offset: int = 0
    stored: int = -1  # bytes in the file; -1 is the whole file
    size: int = -1  # bytes when inflated
    zip_method: int | None = None  # 0 stored, 8 deflated; None outside zip archives
    crc: int = 0


Payload = Extent | np.ndarray | str  # a string is the reason why the image cannot be decoded


class Facts(NamedTuple):
    """Facts about some images, one list per fact; None where an image cannot be decoded."""

    sha256: list[bytes | None]  # of the pixels before resizing, and their shape
    width: list[int | None]  # px, upright
    height: list[int | None]
    mode: list[str | None]  # of the file, as Pillow names it
    colour: list[bool]
    mean: list[float | None]  # of the image as resized, 0 to 255
    std: list[float | None]
    reason: list[str | None]  # why it cannot be decoded


def read(extent: Extent) -> bytes:
    """The bytes of one encoded image. Raises Undecodable when they cannot be read, are damaged, or are too many."""
    if max(extent.stored, extent.size) > MAX_BYTES:
        raise Undecodable(f"larger than {MAX_BYTES >> 20} MiB")
    try:
        with open(extent.path, "rb", buffering=0) as file:  # noqa: PTH123 - Path.open costs as much as a small read
            if extent.stored < 0:
                if os.fstat(file.fileno()).st_size > MAX_BYTES:
                    raise Undecodable(f"larger than {MAX_BYTES >> 20} MiB")
                return file.read()
            offset = extent.offset
            if extent.zip_method is not None:
                header = os.pread(file.fileno(), 30, offset)
                if len(header) < 30 or header[:4] != b"PK\3\4":
                    raise Undecodable("damaged archive member")
                offset += 30 + sum(struct.unpack("<HH", header[26:30]))
            data = os.pread(file.fileno(), extent.stored, offset)
    except OSError as error:
        raise Undecodable(f"cannot be read: {error.strerror}") from None
    except OverflowError:  # an offset that no file can have
        raise Undecodable("damaged archive member") from None
    if extent.zip_method == 8:
        try:
            data = zlib.decompressobj(-15).decompress(data, extent.size + 1)
        except zlib.error:
            raise Undecodable("damaged archive member") from None
    if len(data) != extent.size or (extent.zip_method is not None and zlib.crc32(data) != extent.crc):
        raise Undecodable("damaged archive member")
    return data


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decodes one image file in one of FORMATS.

    Returns uint8 [h, w] when the image is grey (even if stored as colour), else [h, w, 3]: upright by its EXIF
    orientation, alpha on black, 16 bit scaled to 8, the first frame of an animation; and its mode, in Pillow's terms.

    Raises Undecodable. Pillow may print warnings: `quiet_decoding` suppresses them.
    """
    if (pixels := plain_png(data)) is not None:
        return grey_if_grey(pixels), "L" if pixels.ndim == 2 else "RGB"
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if not image.width * image.height:
                raise Undecodable("no pixels")
            if image.width * image.height > MAX_PIXELS:
                raise Undecodable(f"{image.width}x{image.height} px: more than {MAX_PIXELS:,} pixels")
            if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
                raise Undecodable(f"a JPEG of more than {MAX_SCANS} scans")
            mode = image.mode
            image.load()
            return grey_if_grey(_array(_upright_8_bit(image))), mode
    except Undecodable:
        raise
    except Image.UnidentifiedImageError:
        raise Undecodable(
            "not an image in PNG, JPEG, BMP, GIF, TIFF or WebP format" if data else "empty file"
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Undecodable(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        # The address of an object would differ from run to run.
        text = re.sub(r"<[^>]* at 0x[0-9a-f]+>", "file", " ".join(str(error).split()))[:200]
        raise Undecodable(f"damaged: {text or type(error).__name__}") from None


def plain_png(data: bytes) -> np.ndarray | None:
    """The pixels of a PNG of 8-bit grey or RGB without transparency or orientation, by far the most frequent kind, in
    half the time of Image.open; None for anything else, and for a damaged file."""
    if not data.startswith(PNG_START):
        return None
    try:
        width, height, *kind = struct.unpack_from(">IIBBBBB", data, 16)
        if not 0 < width * height <= MAX_PIXELS or kind not in ([8, 0, 0, 0, 0], [8, 2, 0, 0, 0]):
            return None
        pieces, position, name = [], 33, b""
        while name != b"IEND":
            length, name = struct.unpack_from(">I4s", data, position)
            if name == b"IDAT":
                pieces.append(data[position + 8 : position + 8 + length])
            elif name not in PNG_IGNORED and name != b"IEND":
                return None
            position += 12 + length
        mode = "L" if kind[1] == 0 else "RGB"
        return _array(Image.frombytes(mode, (width, height), b"".join(pieces), "zip", mode))
    except (struct.error, ValueError, OSError):
        return None


def _upright_8_bit(image: Image.Image) -> Image.Image:
    """The image upright, in mode L or RGB."""
    with suppress(Exception):  # the pixels may be fine when the EXIF data is damaged
        image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Undecodable("32-bit values outside 0 to 65535: convert to 8 or 16 bit")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise Undecodable("floating-point pixels have no fixed range: convert to 8 or 16 bit")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _array(image: Image.Image) -> np.ndarray:
    width, height = image.size
    shape = (height, width) if image.mode == "L" else (height, width, 3)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(shape)


def grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w] when all channels are equal, else the pixels as they are."""
    if pixels.ndim == 3:
        red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
        if np.array_equal(red, green) and np.array_equal(green, blue):
            return np.ascontiguousarray(red)
    return pixels


def pixel_hash(pixels: np.ndarray) -> bytes:
    """sha256 of the pixels and their shape."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.digest()


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Suppresses Pillow's warnings about damaged files, but turns those about too many pixels into errors. Redirects
    file descriptor 2, to which libtiff writes directly."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def decode_chunk(payloads: Sequence[Payload], target: Target) -> tuple[np.ndarray, Facts]:
    """Decodes some images.

    Returns uint8 [k, size, size, channels] of the k decodable ones, in order, and the facts about all of them.
    """
    images = np.empty((len(payloads), target.size, target.size, target.channels), np.uint8)
    facts = Facts(*([None] * len(payloads) for _ in Facts._fields))  # type: ignore[arg-type]
    decodable: list[int] = []
    with quiet_decoding():
        for index, payload in enumerate(payloads):
            try:
                if isinstance(payload, str):
                    raise Undecodable(payload)
                pixels, mode = decode(read(payload)) if isinstance(payload, Extent) else _from_array(payload)
            except Undecodable as error:
                facts.reason[index] = str(error)
                continue
            images[len(decodable)] = fit_square(pixels, target)
            decodable.append(index)
            facts.sha256[index] = pixel_hash(pixels)
            facts.height[index], facts.width[index] = pixels.shape[:2]
            facts.mode[index], facts.colour[index] = mode, pixels.ndim == 3
    images = images[: len(decodable)]
    for index, mean, std in zip(decodable, *_mean_std(images), strict=True):
        facts.mean[index], facts.std[index] = mean, std
    return images, facts


def _from_array(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    return grey_if_grey(pixels), "L" if pixels.ndim == 2 else "RGB"


def _mean_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each image. Sums of integers are exact: the same on every processor."""
    count = math.prod(images.shape[1:])
    flat = images.reshape(len(images), count)
    total = flat.sum(axis=1, dtype=np.int64)
    squares = np.square(flat, dtype=np.uint32).sum(axis=1, dtype=np.int64)
    return (total / count).tolist(), (np.sqrt(count * squares - total**2) / count).tolist()
