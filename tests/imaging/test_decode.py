"""Image files of every supported kind to pixels, and damaged ones to a reason."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from stages.imaging.decode import Extent, Payload, Undecodable, decode, decode_chunk, pixel_hash, plain_png, read
from stages.imaging.resize import Target

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # grey [3, 4], all values different
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_lossless_formats_give_the_pixels_that_went_in():
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(RAMP), kind))[0], RAMP)
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(COLOUR), kind, **options))[0], COLOUR)


def test_jpeg_is_close_to_the_pixels_that_went_in():
    smooth = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    pixels, mode = decode(encoded(Image.fromarray(smooth), "JPEG", quality=95))
    assert mode == "L"
    assert np.abs(pixels.astype(int) - smooth).max() <= 3


def test_grey_stored_as_colour_is_grey_and_has_the_same_pixel_hash():
    grey, colour = (decode(encoded(Image.fromarray(RAMP).convert(mode)))[0] for mode in ("L", "RGB"))
    assert colour.ndim == 2
    assert pixel_hash(grey) == pixel_hash(colour)


def test_pixel_hash_tells_shapes_apart():
    assert pixel_hash(RAMP) != pixel_hash(RAMP.reshape(4, 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_to_8(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    pixels, mode = decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(pixels, [[0, 0, 1, 1, 128, 255]])
    assert mode == "I;16"


def test_32_bit_is_accepted_only_where_its_range_is_known():
    pixels, _ = decode(encoded(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF"))
    np.testing.assert_array_equal(pixels, [[0, 255]])
    for values in (np.array([[0, 65536]], np.int32), np.array([[-1, 0]], np.int32), np.array([[0.5]], np.float32)):
        with pytest.raises(Undecodable, match="convert to 8 or 16 bit"):
            decode(encoded(Image.fromarray(values), "TIFF"))


def test_one_bit_is_black_and_white():
    image = Image.fromarray(RAMP > 100)
    np.testing.assert_array_equal(decode(encoded(image))[0], np.where(RAMP > 100, 255, 0))


def test_palette_becomes_its_colours_and_its_transparency_black():
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    np.testing.assert_array_equal(decode(encoded(image))[0], [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    for transparency in (1, bytes([255, 0, 255])):
        pixels, mode = decode(encoded(image, transparency=transparency))
        np.testing.assert_array_equal(pixels, [[[255, 0, 0], [0, 0, 0], [0, 0, 255]]])
        assert mode == "P"


def test_alpha_is_composited_on_black():
    rgba = np.dstack([COLOUR, np.full(RAMP.shape, 51, np.uint8)])  # 20% opaque
    pixels, _ = decode(encoded(Image.fromarray(rgba)))
    assert np.abs(pixels - COLOUR * 0.2).max() <= 1
    grey_alpha = np.dstack([RAMP, np.where(RAMP > 100, 255, 0).astype(np.uint8)])
    pixels, mode = decode(encoded(Image.fromarray(grey_alpha)))
    np.testing.assert_array_equal(pixels, np.where(RAMP > 100, RAMP, 0))
    assert mode == "LA"


def test_a_transparent_colour_becomes_black():
    pixels, _ = decode(encoded(Image.fromarray(RAMP), transparency=220))
    np.testing.assert_array_equal(pixels, np.where(RAMP == 220, 0, RAMP))


def test_cmyk_becomes_rgb():
    cmyk = Image.fromarray(np.full((8, 8, 4), (0, 255, 255, 0), np.uint8), "CMYK")
    for kind in ("TIFF", "JPEG"):
        pixels, mode = decode(encoded(cmyk, kind))
        assert mode == "CMYK"
        assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # the upper left quarter is white
    turned: dict[int, Callable] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        6: np.rot90,
        8: lambda a: np.rot90(a, -1),
    }
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels, _ = decode(encoded(Image.fromarray(np.ascontiguousarray(stored(upright))), kind, exif=exif))
        assert pixels.shape[:2] == (16, 32), orientation
        assert pixels[:8, :16].mean() > 250, orientation
        assert pixels[8:].mean() < 5, orientation


def test_an_animation_gives_its_first_frame():
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data)[0], np.full((4, 4), 10))


def test_what_is_no_image_says_why():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    png, jpeg = encoded(noise), encoded(noise, "JPEG")
    for data, reason in (
        (b"", "empty file"),
        (b"this is a text", "not an image"),
        (png[: len(png) // 2], "damaged"),
        (jpeg[: len(jpeg) // 2], "damaged: image file is truncated"),
        (encoded(Image.fromarray(COLOUR), "PPM"), "not an image"),
    ):
        with pytest.raises(Undecodable, match=reason) as caught:
            decode(data)
        assert "0x" not in str(caught.value)


@pytest.mark.parametrize("pixels", [RAMP, COLOUR])
def test_the_short_way_forplain_png_gives_what_pillow_gives(pixels):
    data = encoded(Image.fromarray(pixels))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(plain_png(data), np.asarray(image))
    for cut in range(len(data) - 12):  # the last chunk is empty
        assert plain_png(data[:cut]) is None


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    with pytest.raises(Undecodable, match=r"more than .* pixels"):
        decode(data)


def test_channels_follow_the_target():
    images, facts = decode_chunk([COLOUR, RAMP], Target(4, 3, "pad"))
    assert images.shape == (2, 4, 4, 3)
    assert facts.colour == [True, False]
    np.testing.assert_array_equal(images[1, ..., 0], images[1, ..., 2])
    grey, _ = decode_chunk([COLOUR], Target(4, 1, "pad"))
    assert grey.shape == (1, 4, 4, 1)


def test_facts_agree_with_the_stored_images(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(RAMP)))
    payloads: list[Payload] = [
        Extent(str(tmp_path / "a.png")),
        "a reason",
        Extent(str(tmp_path / "missing.png")),
        COLOUR,
    ]
    images, facts = decode_chunk(payloads, Target(6, 3, "pad"))
    assert len(images) == 2
    assert facts.reason == [None, "a reason", "cannot be read: No such file or directory", None]
    assert facts.sha256 == [pixel_hash(RAMP), None, None, pixel_hash(COLOUR)]
    assert (facts.width, facts.height) == ([4, None, None, 4], [3, None, None, 3])
    for image, mean, std in zip(images, facts.mean[::3], facts.std[::3], strict=True):
        assert mean == pytest.approx(image.mean())
        assert std == pytest.approx(image.std())


def test_pieces_of_archives_are_checked(tmp_path):
    path = tmp_path / "piece"
    path.write_bytes(b"....abcdef")
    assert read(Extent(str(path), 4, 3, 3)) == b"abc"
    with pytest.raises(Undecodable, match="damaged archive member"):
        read(Extent(str(path), 8, 3, 3))
    with pytest.raises(Undecodable, match="larger than 256 MiB"):
        read(Extent(str(path), 0, 10, 2**40, 8))
