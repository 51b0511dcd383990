"""What holds of the decoder for any image and any bytes."""

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from stages.imaging.decode import (
    Extent,
    Undecodable,
    decode,
    decode_chunk,
    grey_if_grey,
    pixel_hash,
    plain_png,
    quiet_decoding,
    read,
)
from stages.imaging.resize import Target, fit_square

SIDE = st.integers(1, 12)
GREY = arrays.arrays(np.uint8, st.tuples(SIDE, SIDE))
COLOUR = arrays.arrays(np.uint8, st.tuples(SIDE, SIDE, st.just(3)))
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}
TURNS: dict[int, Callable] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: np.rot90,
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip; how an upright image is stored for each EXIF orientation
quick = settings(max_examples=60, deadline=None)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)
    return file.getvalue()


@quick
@given(GREY | COLOUR, st.sampled_from(sorted(LOSSLESS)))
def test_lossless_formats_give_back_the_pixels(pixels, kind):
    found, _ = decode(encoded(pixels, kind, **LOSSLESS[kind]))
    np.testing.assert_array_equal(found, grey_if_grey(pixels))


@quick
@given(GREY | COLOUR, st.sampled_from(sorted(TURNS)), st.sampled_from(["PNG", "TIFF"]))
def test_every_orientation_ends_upright(pixels, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(TURNS[orientation](pixels), kind, exif=exif))[0], grey_if_grey(pixels))


@quick
@given(arrays.arrays(np.uint16, st.tuples(SIDE, SIDE)))
def test_16_bit_is_rounded_to_the_nearest_of_8(values):
    np.testing.assert_array_equal(decode(encoded(values))[0], np.floor(values / 257 + 0.5))


@quick
@given(COLOUR, st.integers(0, 255))
def test_alpha_never_brightens(pixels, alpha):
    found, _ = decode(encoded(np.dstack([pixels, np.full(pixels.shape[:2], alpha, np.uint8)])))
    expected = grey_if_grey(pixels)
    if found.ndim == expected.ndim:
        assert (found <= expected).all()
        assert np.abs(found - expected * (alpha / 255)).max() <= 1


@st.composite
def damaged(draw) -> bytes:
    """An image file with a few changed, missing or additional bytes."""
    kind = draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"]))
    data = bytearray(encoded(draw(GREY | COLOUR), kind))
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        data[start : start + length] = draw(st.binary(max_size=8))
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | damaged())
def test_any_bytes_are_pixels_or_a_reason(data):
    with quiet_decoding():
        try:
            pixels, mode = decode(data)
        except Undecodable as error:
            reason = str(error)
            assert 5 < len(reason) < 300
            assert "\n" not in reason
            assert "0x" not in reason
            return
    assert pixels.dtype == np.uint8
    assert pixels.size
    assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
    assert mode
    for fit in ("pad", "crop"):
        assert fit_square(pixels, Target(8, 3, fit)).shape[:2] == (8, 8)


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_the_short_way_forplain_png_says_nothing_that_pillow_would_not(data):
    short = plain_png(data)
    if short is None:
        return
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.asarray(image)
        except Exception:
            return
    np.testing.assert_array_equal(short, pixels)


@quick
@given(GREY | COLOUR, st.integers(8, 20), st.sampled_from([1, 3]), st.sampled_from(["pad", "crop"]))
def test_fitting_keeps_within_the_range_of_what_was_there(pixels, size, channels, fit):
    flat = np.full_like(pixels, pixels.flat[0])
    fitted = fit_square(flat, Target(size, channels, fit))
    assert fitted.shape[:2] == (size, size)
    assert set(np.unique(fitted)) <= {0, int(flat.flat[0])} if fit == "pad" else {int(flat.flat[0])}


@quick
@given(st.lists(GREY | COLOUR | st.just("a reason") | st.binary(max_size=9), max_size=8), st.integers(0, 8))
def test_how_images_are_divided_into_chunks_changes_nothing(tmp_path_factory, payloads, cut):
    folder = tmp_path_factory.mktemp("chunks")
    for index, payload in enumerate(payloads):
        if isinstance(payload, bytes):
            (folder / str(index)).write_bytes(payload)
            payloads[index] = Extent(str(folder / str(index)))
    target = Target(8, 3, "pad")
    images, facts = decode_chunk(payloads, target)
    parts = [decode_chunk(part, target) for part in (payloads[:cut], payloads[cut:])]
    np.testing.assert_array_equal(images, np.concatenate([part for part, _ in parts]))
    for name, values in facts._asdict().items():
        assert values == getattr(parts[0][1], name) + getattr(parts[1][1], name)
    assert [reason is None for reason in facts.reason] == [sha256 is not None for sha256 in facts.sha256]


@quick
@given(GREY, GREY)
def test_hashes_are_equal_when_the_pixels_are(one, other):
    assert (pixel_hash(one) == pixel_hash(other)) == np.array_equal(one, other)


@quick
@given(
    st.integers(-(2**70), 2**70) | st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 2**40),
    st.sampled_from([None, 0, 8]),
)
def test_any_piece_of_an_archive_is_bytes_or_a_reason(offset, stored, size, method):
    try:
        data = read(Extent(__file__, offset, stored, size, method))
    except Undecodable:
        return
    assert len(data) == size


def test_a_piece_outside_of_its_archive_is_a_reason():
    for offset in (-5, 2**62, 2**70):
        with pytest.raises(Undecodable, match=r"damaged archive member|cannot be read"):
            read(Extent(__file__, offset, 9, 9))
