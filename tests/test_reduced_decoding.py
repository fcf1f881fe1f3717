"""JPEGs decoded at reduced size, and the fast way to decode them against the plain one."""

from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nnst import images
from nnst.errors import ImageError
from nnst.images import Limits, decode, decoding

SMALLER = (2, 4, 8)
HW = (97, 130)


def photo() -> Image.Image:
    """Colours with noise, so that every block holds coded data; no side is a multiple of 2."""
    rng = np.random.default_rng(8)
    coarse = cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), HW[::-1])
    pixels = coarse.astype(int) + rng.integers(-20, 21, coarse.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


JPEGS = {
    "baseline": jpeg(photo()),
    "whole chroma": jpeg(photo(), quality=97, subsampling=0),
    "half chroma": jpeg(photo(), subsampling=1),
    "progressive": jpeg(photo(), progressive=True),
    "restarts": jpeg(photo(), restart_marker_blocks=3),
    "grey": jpeg(photo().convert("L")),
    "CMYK": jpeg(photo().convert("CMYK")),
    "progressive CMYK": jpeg(photo().convert("CMYK"), progressive=True),
}
HAS_FAULT = {
    "no end marker": JPEGS["baseline"][:-2],
    "bytes too many": JPEGS["baseline"][:-2] + bytes(range(1, 100)) + JPEGS["baseline"][-2:],
    "odd sampling": re.sub(rb"\x01\x22\x00\x02\x11", b"\x01\x22\x00\x02\x21", JPEGS["baseline"]),
}


def reason_of(data: bytes, reduction: int = 1) -> str | None:
    """The reason why these bytes are refused, or None."""
    try:
        decode(data, Limits(max_pixels=10**7), reduction)
    except ImageError as error:
        return error.reason
    return None


def reasons_of(data: bytes) -> set[str | None]:
    """What each of the reductions says; one thing, as it should be."""
    return {reason_of(data, reduction) for reduction in images.REDUCTIONS}


def block_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """(ceil(H / side), ceil(W / side), 3) float: the mean of each square, of what lies inside."""
    height, width = (-(-length // side) * side for length in pixels.shape[:2])
    rows, columns = height - pixels.shape[0], width - pixels.shape[1]
    padded = np.pad(pixels.astype(np.float32), ((0, rows), (0, columns), (0, 0)), "edge")
    return padded.reshape(height // side, side, width // side, side, 3).mean(axis=(1, 3))


# ---- what comes back ----


@pytest.mark.parametrize("reduction", SMALLER)
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_has_fewer_pixels_and_the_header_of_its_stored_size(name, reduction):
    picture = decode(JPEGS[name], reduction=reduction)
    assert picture.pixels.shape == (-(-HW[0] // reduction), -(-HW[1] // reduction), 3)
    assert picture.header == images.read_header(JPEGS[name])
    assert (picture.header.height, picture.header.width) == HW
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert not picture.pixels.flags.writeable


def test_sides_are_rounded_up_whatever_they_are():
    for height in range(1, 20):
        for width in (1, 2, 7, 8, 9, 16, 17):
            data = images.encode_jpeg(np.full((height, width, 3), 90, np.uint8))
            for reduction in SMALLER:
                shape = decode(data, reduction=reduction).pixels.shape
                assert shape == (-(-height // reduction), -(-width // reduction), 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_another_format_is_decoded_at_full_size_whatever_is_wished(format):
    file = io.BytesIO()
    photo().save(file, format)
    whole = decode(file.getvalue()).pixels
    for reduction in SMALLER:
        assert np.array_equal(decode(file.getvalue(), reduction=reduction).pixels, whole)


@pytest.mark.parametrize("name", HAS_FAULT)
def test_a_jpeg_with_a_fault_that_does_no_harm_comes_at_full_size(name):
    data = HAS_FAULT[name]
    whole = decode(data)
    for reduction in SMALLER:
        assert np.array_equal(decode(data, reduction=reduction).pixels, whole.pixels)
    assert whole.pixels.shape == (*HW, 3)


@pytest.mark.parametrize("reduction", [0, 3, 16, -1])
def test_a_reduction_that_no_decoder_knows_is_a_mistake_of_the_caller(reduction):
    for data in (JPEGS["baseline"], images.encode_png(np.zeros((8, 8, 3), np.uint8))):
        with pytest.raises(ValueError, match="reduction"):
            decode(data, reduction=reduction)


def test_limits_hold_for_the_stored_size():
    with pytest.raises(ImageError) as caught:
        decode(JPEGS["baseline"], Limits(max_pixels=HW[0] * HW[1] - 1), 8)
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_not_applied_at_reduced_size_either(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    for reduction in SMALLER:
        picture = decode(jpeg(photo(), exif=tags), reduction=reduction)
        assert picture.header.orientation == orientation
        assert np.array_equal(picture.pixels, decode(JPEGS["baseline"], reduction=reduction).pixels)


def test_reduced_photographs_look_like_the_whole_ones_shrunk_by_area(shared_data):
    """Measured: 0.5 of 255 in the mean at each reduction; 1.0, 1.7 and 2.2 at the worst."""
    paths = sorted((shared_data / "negatives" / "photos").glob("*.JPEG"))[::5]
    assert len(paths) >= 40
    for reduction in SMALLER:
        differences = []
        for path in paths:
            data = path.read_bytes()
            small = decode(data, reduction=reduction).pixels
            differences.append(np.abs(small - block_means(decode(data).pixels, reduction)).mean())
        assert np.mean(differences) < 0.7
        assert max(differences) < 3


# ---- what is refused ----


def test_no_hostile_file_is_judged_otherwise_at_reduced_size(shared_data):
    files = [path for path in sorted((shared_data / "hostile").rglob("*")) if path.is_file()]
    pictures = [path for path in files if path.suffix not in (".zip", ".tar", ".xml")]
    assert len(pictures) > 50
    for path in pictures:
        assert len(reasons_of(path.read_bytes())) == 1, path.name


@pytest.mark.parametrize("end", [b"", b"\xff\xd9", bytes(300)], ids=["cut", "ended", "padded"])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_cut_anywhere_is_judged_alike_at_every_size(name, end):
    data = JPEGS[name]
    for cut in {*range(2, len(data), len(data) // 25), *range(len(data) - 6, len(data) - 2)}:
        reasons = reasons_of(data[:cut] + end)
        assert len(reasons) == 1, cut
        if not end and cut < len(data) - 4:
            assert reasons == {"truncated"}, cut


@pytest.mark.parametrize("grey_corner", [False, True])
def test_a_progressive_jpeg_that_ends_before_its_last_scans_is_truncated_at_every_size(grey_corner):
    """No decoder complains of it. A grey corner looks like what is shown where data is missing."""
    pixels = np.array(photo())
    pixels[-40:, -40:] = 128 if grey_corner else pixels[-40:, -40:]
    data = jpeg(Image.fromarray(pixels), progressive=True)
    assert reasons_of(data) == {None}
    for scan in list(re.finditer(rb"\xff\xda", data))[1:]:
        assert reasons_of(data[: scan.start()] + b"\xff\xd9") == {"truncated"}


@given(st.sampled_from(sorted(JPEGS)), st.data())
@settings(max_examples=150, deadline=None)
def test_a_jpeg_with_flipped_bits_is_judged_alike_at_every_size(name, data):
    changed = bytearray(JPEGS[name])
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(2, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert len(reasons_of(bytes(changed))) == 1


# ---- the fast way and the plain one ----


def plain(data: bytes) -> np.ndarray | str:
    """What OpenCV alone makes of it, or the reason why it does not."""
    try:
        return decoding.decode_plainly(data, images.check(data, Limits(max_pixels=10**7)))
    except ImageError as error:
        return error.reason


def fast(data: bytes) -> np.ndarray | str:
    return reason_of(data) or decode(data).pixels


@pytest.mark.parametrize("quality", [30, 75, 98])
@pytest.mark.parametrize("name", JPEGS)
def test_both_decoders_give_the_same_pixels(name, quality):
    data = jpeg(Image.open(io.BytesIO(JPEGS[name])), quality=quality)
    assert np.array_equal(decode(data).pixels, plain(data))


@pytest.mark.parametrize(
    ("reduction", "flag"),
    [
        (2, cv2.IMREAD_REDUCED_COLOR_2),
        (4, cv2.IMREAD_REDUCED_COLOR_4),
        (8, cv2.IMREAD_REDUCED_COLOR_8),
    ],
)
@pytest.mark.parametrize("name", JPEGS)
def test_both_decoders_give_the_same_reduced_pixels(name, reduction, flag):
    bgr = cv2.imdecode(np.frombuffer(JPEGS[name], np.uint8), flag)
    assert np.array_equal(decode(JPEGS[name], reduction=reduction).pixels, bgr[..., ::-1])


def test_both_decoders_give_the_same_pixels_of_real_photographs(shared_data):
    paths = sorted((shared_data / "negatives" / "photos").glob("*.JPEG"))[::20]
    assert len(paths) >= 10
    for path in paths:
        assert np.array_equal(decode(path.read_bytes()).pixels, plain(path.read_bytes())), path.name


@given(st.sampled_from(sorted(JPEGS)), st.data())
@settings(max_examples=150, deadline=None)
def test_both_decoders_see_the_same_in_a_changed_file(name, data):
    changed = bytearray(JPEGS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(2, len(changed) - 1))] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(len(changed) // 2, len(changed))) :]
    assert np.array_equal(fast(bytes(changed)), plain(bytes(changed)))


@pytest.mark.parametrize("name", JPEGS)
def test_the_fastest_decode_shows_the_same_picture_a_little_coarser(name):
    difference = np.abs(images.fastest_full_decode(JPEGS[name]) - decode(JPEGS[name]).pixels * 1.0)
    assert difference.mean() < 3


def test_the_fastest_decode_falls_back_where_the_fast_one_does():
    data = HAS_FAULT["no end marker"]
    assert np.array_equal(images.fastest_full_decode(data), decode(data).pixels)
    with pytest.raises(ImageError):
        images.fastest_full_decode(b"")
