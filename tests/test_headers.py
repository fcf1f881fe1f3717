"""Headers read by nnst.images.headers, judged by Pillow, and thrown at bytes of every sort."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nnst.errors import ImageError
from nnst.images.headers import READABLE, SUFFIXES, Header, reaches_end, read_header, sniff
from nnst.images.headers.jpeg import names_every_coefficient, next_restart, without_padding
from nnst.images.headers.kinds import REMEDIES
from nnst.records import REASONS

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]


def encoded(format: str, hw: tuple[int, int] = (30, 50), mode: str = "RGB", **options) -> bytes:
    """A drawn picture: a gradient, so that every format has something to keep."""
    ramp = np.add.outer(np.arange(hw[0]) * 3, np.arange(hw[1]) * 2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).convert("RGB").convert(mode).save(file, format, **options)
    return file.getvalue()


def header_of(data: bytes) -> Header | str:
    """The header, or the reason why there is none."""
    try:
        return read_header(data)
    except ImageError as error:
        return error.reason


def animated(format: str, frames: int) -> bytes:
    pages = [Image.new("RGB", (20, 10), (90 * i, 255 - 60 * i, 40)) for i in range(frames)]
    file = io.BytesIO()
    pages[0].save(file, format, save_all=True, append_images=pages[1:])
    return file.getvalue()


SAMPLES = {
    **{format.lower(): encoded(format) for format in FORMATS},
    **{f"animated {format.lower()}": animated(format, 3) for format in FORMATS[1:4]},
    "animated avif": animated("AVIF", 3),
    "two pages": animated("TIFF", 2),
    "progressive": encoded("JPEG", progressive=True),
    "lossless webp": encoded("WEBP", lossless=True),
    "bigtiff": encoded("TIFF", big_tiff=True),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (300, 7), (129, 64)])
def test_format_and_size_are_what_was_written(format, hw):
    expected = Header(format.lower(), width=hw[1], height=hw[0])
    assert read_header(encoded(format, hw)) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read_as_pillow_reads_it(name):
    header = read_header(SAMPLES[name])
    image = Image.open(io.BytesIO(SAMPLES[name]))
    assert (header.width, header.height) == image.size
    assert header.frames == getattr(image, "n_frames", 1)
    assert reaches_end(SAMPLES[name], header)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "avif"),  # a generic brand, AVIF among the rest
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", None),  # a film
        (b"\xff\x0a\xff\xff", "jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
        (b"8BPS\0\1", "psd"),
        (b"\0\0\1\0\1\0", "ico"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),  # Canon's TIFF of thumbnails
        (b"%PDF-1.7", "pdf"),
        (b"P6\n3 3\n255\n", "pnm"),
        (b"\xef\xbb\xbf  <!DOCTYPE html>", "html"),
        (b"<?xml version='1.0'?>\n<!-- drawn --><svg xmlns='x'>", "svg"),
        (b"<?xml version='1.0'?><dataset>", "xml"),
        (b"BM is how this text begins, and it is no bitmap", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"PK\3\4", None),
        (b"", None),
    ],
)
def test_kinds_are_told_by_their_first_bytes(head, kind):
    assert sniff(head) == kind


def test_every_kind_that_is_not_read_says_how_to_convert_it():
    for head, kind in ((b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"), (b"%PDF-1.7", "pdf")):
        with pytest.raises(ImageError) as caught:
            read_header(head)
        assert (caught.value.reason, caught.value.detail) == ("unsupported_format", REMEDIES[kind])
    assert READABLE.isdisjoint(REMEDIES)


def test_the_first_32_bytes_tell_every_readable_format():
    for name, data in SAMPLES.items():
        assert sniff(data[:32]) == read_header(data).format, name


def test_suffixes_are_lower_case_with_their_dot_and_name_no_document():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    assert {".jpg", ".heic", ".svg"} <= SUFFIXES
    assert SUFFIXES.isdisjoint({".pdf", ".html", ".txt", ".zip"})


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_anywhere_has_the_same_header_or_a_reason(name):
    whole = read_header(SAMPLES[name])
    for cut in range(len(SAMPLES[name])):
        part = SAMPLES[name][:cut]
        header = header_of(part)
        if isinstance(header, str):
            assert header in ("empty", "truncated", "not_an_image"), cut
            continue
        assert (header.width, header.height) == (whole.width, whole.height)
        if whole.frames == 1:
            assert not reaches_end(part, whole), cut


@pytest.mark.parametrize(
    ("name", "at", "value", "reason"),
    [
        ("png", 16, b"\0\0\0\0", "corrupt"),  # no width
        ("png", 12, b"IDAT", "corrupt"),  # the header is not first
        ("gif", 6, b"\0\0", "corrupt"),
        ("bmp", 22, b"\0\0\0\0", "corrupt"),
        ("webp", 12, b"JUNK", "corrupt"),
    ],
)
def test_a_header_that_makes_no_sense_is_corrupt(name, at, value, reason):
    data = SAMPLES[name]
    with pytest.raises(ImageError) as caught:
        read_header(data[:at] + value + data[at + len(value) :])
    assert caught.value.reason == reason


def test_a_bitmap_written_from_the_top_has_a_positive_height():
    data = SAMPLES["bmp"]
    upside = data[:22] + struct.pack("<i", -30) + data[26:]
    assert read_header(upside) == Header("bmp", 50, 30)


@pytest.mark.parametrize(("marker", "depth"), [(0xC3, 8), (0xC0, 12), (0xC5, 8)])
def test_jpegs_that_no_decoder_here_reads_are_unsupported_not_broken(marker, depth):
    data = bytearray(SAMPLES["jpeg"])
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, depth
    with pytest.raises(ImageError, match="unsupported_format"):
        read_header(bytes(data))


def test_a_raw_file_that_looks_like_a_tiff_is_not_taken_for_its_thumbnail():
    data = encoded("TIFF", tiffinfo={254: 1})
    with pytest.raises(ImageError, match="unsupported_format"):
        read_header(data)


def test_pages_that_point_at_themselves_are_counted_once():
    data = bytearray(encoded("TIFF"))
    table = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, table)[0]
    struct.pack_into("<I", data, table + 2 + 12 * entries, table)
    assert read_header(bytes(data)).frames == 1


@given(st.binary(max_size=300), st.sampled_from(sorted(SAMPLES)), st.integers(0, 40))
@settings(max_examples=400, deadline=None)
def test_no_bytes_raise_anything_but_a_reason(tail, name, kept):
    data = SAMPLES[name][:kept] + tail
    _assert_a_header_or_a_reason(data)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_header_with_some_bytes_changed_gives_a_header_or_a_reason(data):
    changed = bytearray(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))])
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, min(len(changed), 700) - 1))] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    _assert_a_header_or_a_reason(bytes(changed))


def _assert_a_header_or_a_reason(data: bytes) -> None:
    header = header_of(data)
    if isinstance(header, str):
        assert header in REASONS
        return
    assert min(header.width, header.height, header.frames) > 0
    assert 1 <= header.orientation <= 8
    assert isinstance(reaches_end(data, header), bool)


def test_scans_that_are_still_to_come_are_noticed():
    data = SAMPLES["progressive"]
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 2
    assert names_every_coefficient(data[:-2])
    assert not names_every_coefficient(data[: scans[-1]])
    assert names_every_coefficient(SAMPLES["jpeg"])


def test_padding_is_told_from_coded_data():
    assert without_padding(b"\x12\x34\xff") == b"\x12\x34"  # half an end marker
    assert without_padding(b"\x12\x34\0\0\0") == b"\x12\x34"  # a file made long beforehand
    assert without_padding(b"\x12\0") == b"\x12\0"  # bits that happen to be zero
    assert without_padding(b"\x12\xff\0") == b"\x12\xff\0"  # a coded FF
    assert without_padding(b"\x12\xff\0\0\0") == b"\x12\xff\0"


def test_the_restart_marker_that_is_due_follows_the_last_one():
    assert next_restart(b"\xff\xda\0\0 data") == b"\xff\xd0"
    assert next_restart(b"\xff\xda\0\0 a\xff\xd0 b\xff\xd1 c") == b"\xff\xd2"
    assert next_restart(b"\xff\xda\0\0 a\xff\xd7 b") == b"\xff\xd0"
