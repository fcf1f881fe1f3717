"""Pictures decoded by nnst.images, judged by Pillow and dlib, and everything that is refused."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nnst import images
from nnst.errors import ImageError, NnstError
from nnst.images import Limits, Picture, decode
from nnst.records import REASONS

OK = "ok"


def scene(hw: tuple[int, int] = (40, 56)) -> np.ndarray:
    """(H, W, 3) smooth colours, red in the top left corner: no two orientations look alike."""
    few = np.random.default_rng(7).integers(0, 256, (4, 5, 3), np.uint8)
    pixels = cv2.resize(few, hw[::-1], interpolation=cv2.INTER_LINEAR)
    pixels[: hw[0] // 4, : hw[1] // 3] = (255, 0, 0)
    return pixels


def photo(hw: tuple[int, int] = (97, 130)) -> np.ndarray:
    """(H, W, 3) colours with noise, so that every block holds coded data."""
    noise = np.random.default_rng(8).integers(-20, 21, (*hw, 3))
    return np.clip(scene(hw).astype(int) + noise, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, format: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """(H, W, 3) the first frame, over white, as stored."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(page, image).convert("RGB"))


def far(a: np.ndarray, b: np.ndarray) -> float:
    """The mean difference of two pictures of one shape."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


def outcome(data: bytes, limits: Limits | None = None) -> Picture | str:
    """The picture, or the reason why there is none."""
    try:
        return decode(data, limits or Limits())
    except ImageError as error:
        return error.reason


def reason_of(data: bytes, limits: Limits | None = None) -> str:
    """The word of the row that these bytes become."""
    found = outcome(data, limits)
    return found if isinstance(found, str) else OK


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def turned(format: str, orientation: int, pixels: np.ndarray) -> bytes:
    """The pixels as they are, in a file that asks for an orientation."""
    if format == "TIFF":
        return encoded(pixels, format, tiffinfo={0x0112: orientation})
    options = {"lossless": True} if format == "WEBP" else {}
    return encoded(pixels, format, exif=exif(orientation), **options)


def png(hw: tuple[int, int], depth: int, colour: int, **chunks: bytes) -> bytes:
    """A PNG of random samples in any colour type and depth, with PLTE and tRNS as given."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rng = np.random.default_rng(depth * 10 + colour)
    rows = [rng.bytes((hw[1] * channels * depth + 7) // 8) for _ in range(hw[0])]
    content = {
        "IHDR": struct.pack(">IIBBBBB", hw[1], hw[0], depth, colour, 0, 0, 0),
        **chunks,
        "IDAT": zlib.compress(b"".join(b"\0" + row for row in rows)),
        "IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name.encode() + body
        + struct.pack(">I", zlib.crc32(name.encode() + body))
        for name, body in content.items()
    )  # fmt: skip


# ---- what a decoded picture is ----


def test_pixels_are_rgb_bytes_that_cannot_be_written_and_the_header_comes_with_them():
    picture = decode(encoded(scene(), "PNG"))
    assert np.array_equal(picture.pixels, scene())
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert (picture.header.format, picture.header.width, picture.header.height) == ("png", 56, 40)
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 0


@pytest.mark.parametrize(
    ("format", "mode", "options", "tolerance"),
    [
        ("JPEG", "RGB", {}, 1.5),  # two libraries smooth halved chroma differently
        ("JPEG", "RGB", {"subsampling": 0}, 0.5),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 0.5),
        ("JPEG", "L", {}, 0),
        ("JPEG", "CMYK", {"quality": 95}, 3),  # without an ink profile, each guesses its own way
        ("PNG", "RGB", {}, 0),
        ("PNG", "L", {}, 0),
        ("PNG", "1", {}, 0),
        ("PNG", "P", {}, 0),
        ("WEBP", "RGB", {}, 2),
        ("WEBP", "RGB", {"lossless": True}, 0),
        ("GIF", "P", {}, 0),
        ("GIF", "RGB", {"interlace": 1}, 0),
        ("BMP", "RGB", {}, 0),
        ("BMP", "L", {}, 0),
        ("BMP", "P", {}, 0),
        ("BMP", "1", {}, 0),
        ("TIFF", "RGB", {}, 0),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}, 0),
        ("TIFF", "RGB", {"compression": "jpeg"}, 3),
        ("TIFF", "L", {}, 0),
        ("TIFF", "P", {}, 0),
        ("TIFF", "1", {"compression": "group4"}, 0),
        ("TIFF", "CMYK", {}, 1),
        ("AVIF", "RGB", {"quality": 90}, 2),
    ],
)
def test_every_format_and_colour_mode_looks_as_pillow_shows_it(format, mode, options, tolerance):
    data = encoded(Image.fromarray(scene()).convert(mode), format, **options)
    assert far(decode(data).pixels, by_pillow(data)) <= tolerance


PALETTE = np.random.default_rng(1).bytes(768)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    ("colour", "depth"),
    [
        *[(0, 1), (0, 2), (0, 4), (0, 8), (0, 16)],  # grey
        *[(2, 8), (2, 16)],  # RGB
        *[(3, 1), (3, 2), (3, 4), (3, 8)],  # palette
        *[(4, 8), (4, 16), (6, 8), (6, 16)],  # grey and RGB with alpha
    ],
)
def test_every_png_colour_type_and_depth_is_eight_bits_over_white(colour, depth, transparent):
    chunks = {"PLTE": PALETTE[: 3 * 2**depth]} if colour == 3 else {}
    if transparent and colour in (2, 3):
        chunks["tRNS"] = b"\0\0\0\0\0\0" if colour == 2 else bytes([0, 120])
    data = png((6, 17), depth, colour, **chunks)
    pixels = decode(data).pixels
    if colour == 0 and depth == 16:  # Pillow clips these
        grey = Image.open(io.BytesIO(data))
        assert np.array_equal(pixels[..., 0], np.asarray(grey, np.uint16) >> 8)
    else:
        assert np.abs(pixels.astype(int) - by_pillow(data)).max() <= 1  # rounding of the blend


def test_colours_that_transparency_hides_do_not_show():
    hidden = np.dstack([scene(), np.full((40, 56), 255, np.uint8)])
    hidden[:, 20:30, 3] = 0
    hidden[:, 30:40, 3] = 100
    for format, options in [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("GIF", {}),
        ("TIFF", {}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ]:
        data = encoded(hidden, format, **options)
        picture = decode(data)
        assert picture.header.alpha, format
        assert (picture.pixels[:, 22:28] == 255).all(), format
        assert far(picture.pixels, by_pillow(data)) <= 1, format


def test_deep_avif_is_not_blended_with_an_alpha_of_unknown_depth():
    bgra = np.dstack([scene()[..., ::-1], np.full((40, 56), 255, np.uint8)]).astype(np.uint16) << 2
    done, data = cv2.imencode(".avif", bgra, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert done
    assert far(decode(data.tobytes()).pixels, scene()) < 4


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_seen_and_all_are_counted(format):
    frames = [Image.fromarray(np.roll(scene(), 9 * i, 1)) for i in range(3)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    picture = decode(data)
    assert picture.header.frames == 3
    assert far(picture.pixels, by_pillow(data)) < 3


def test_only_the_first_frame_decides_whether_a_gif_is_transparent():
    opaque = Image.fromarray(scene())
    clear = Image.fromarray(np.zeros((40, 56, 4), np.uint8))
    for frames, alpha in (([opaque, clear], False), ([clear, opaque], True)):
        data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
        assert decode(data).header.alpha is alpha


def test_sixteen_bits_are_shifted_to_eight():
    deep = (np.arange(40 * 56).reshape(40, 56) * 29).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        assert np.array_equal(decode(encoded(deep, format)).pixels[..., 1], deep >> 8)


# ---- orientation ----


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("hw", [(40, 56), (56, 40)])
def test_pixels_come_as_stored_whatever_orientation_the_file_asks_for(format, hw):
    for orientation in range(1, 9):
        picture = decode(turned(format, orientation, scene(hw)))
        assert picture.header.orientation == orientation
        assert far(picture.pixels, scene(hw)) < 5


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_sixteen_files_are_one_upright_picture(format):
    for hw in ((40, 56), (56, 40)):
        wanted = scene(hw)
        for orientation in range(1, 9):
            inverse = {6: 8, 8: 6}.get(orientation, orientation)
            stored = images.upright(wanted, inverse)
            picture = decode(turned(format, orientation, stored))
            seen = images.upright(picture.pixels, picture.header.orientation)
            assert far(seen, wanted) < 6, orientation


def test_an_avif_is_stored_unturned_and_its_own_properties_say_how_to_turn_it():
    """Pillow writes EXIF's orientation as irot and imir, and obeys them when it reads."""
    for orientation in range(1, 9):
        data = turned("AVIF", orientation, scene())
        picture = decode(data)
        assert picture.header.orientation == orientation
        assert far(picture.pixels, scene()) < 6
        seen = images.upright(picture.pixels, orientation)
        assert far(seen, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))) < 3


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_is_not_turned_by_its_decoder(compression, big):
    for orientation in range(1, 9):
        tags = {0x0112: orientation}
        options = {"compression": compression, "big_tiff": big, "tiffinfo": tags}
        picture = decode(encoded(scene((200, 280)), "TIFF", **options))
        assert picture.header.orientation == orientation
        assert far(picture.pixels, scene((200, 280))) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_drawn_in_imglab_are_in_pixels_as_stored_since_dlib_ignores_exif(
    orientation, tmp_path
):
    """dlib loads the pictures that imglab draws on."""
    file = tmp_path / "turned.jpg"
    file.write_bytes(turned("JPEG", orientation, scene()))
    shown = dlib.load_rgb_image(str(file))
    assert far(decode(file.read_bytes()).pixels, shown) < 2
    if orientation > 1:
        upright = images.upright(shown, orientation)
        assert upright.shape != shown.shape or far(upright, shown) > 20


# ---- refusals ----

TRUNCATED = {
    "baseline": "jpg",
    "progressive": "jpg",
    "cmyk": "jpg",
    "png": "png",
    "webp": "webp",
    "gif": "gif",
}
HOSTILE = {
    "bad_crc_idat.png": "corrupt",
    "bomb_20000x20000_1bit.png": "too_many_pixels",
    "exif_orientation_0.jpg": OK,  # no such orientation: 1
    "exif_orientation_65535.jpg": OK,
    "exif_orientation_9.jpg": OK,
    "flip32_mid_baseline.jpg": OK,  # flipped bits in coded data decode to other colours, unnoticed
    "flip32_mid_cmyk.jpg": OK,
    "flip32_mid_gif.gif": "corrupt",
    "flip32_mid_png.png": "corrupt",
    "flip32_mid_progressive.jpg": OK,
    "flip32_mid_webp.webp": OK,
    "good_8x8.png": OK,
    "gzip_bomb_50MB.jpg.gz": "not_an_image",
    "header_0x10.png": "corrupt",
    "header_1x1048577.png": "too_many_pixels",
    "header_30000x30000_no_data.png": "too_many_pixels",
    "header_65535x65535_no_data.png": "too_many_pixels",
    "html_as.jpg": "unsupported_format",
    "json_as.png": "not_an_image",
    "one_byte.jpg": "truncated",  # FF begins like a JPEG
    "only_soi.jpg": "truncated",
    "png_trailing_zip.png": OK,  # what stands behind a PNG's end is no part of it
    "soi_eoi.jpg": "corrupt",  # it ends, and has no picture in it
    "svg_as.png": "unsupported_format",
    "text_as.webp": "not_an_image",
    "xml_xxe.svg": "unsupported_format",
    "zero_bytes.jpg": "empty",
    "ztxt_bomb_20MB.png": OK,  # the text is never inflated
    **{
        f"trunc_{kind}_{percent}pct.{suffix}": "truncated"
        for kind, suffix in TRUNCATED.items()
        for percent in ("01", "10", "50", "90", "99")
    },
}


def test_every_hostile_picture_has_the_outcome_that_was_decided_for_it(shared_data):
    files = {
        path.name: path
        for path in (shared_data / "hostile").iterdir()
        if path.is_file() and path.suffix not in (".zip", ".tar")
    }
    outcomes = {name: reason_of(path.read_bytes()) for name, path in files.items()}
    assert outcomes == HOSTILE
    for name in ("exif_orientation_0.jpg", "exif_orientation_9.jpg", "exif_orientation_65535.jpg"):
        assert images.read_header(files[name].read_bytes()).orientation == 1


def test_every_real_picture_is_read_and_is_as_large_as_pillow_says(shared_data):
    paths = [path for path in (shared_data / "negatives").rglob("*.*") if path.is_file()][::20]
    paths += list((shared_data / "pare").rglob("*.jp*g"))[::5]
    assert len(paths) > 40
    for path in paths:
        if path.suffix.lower() in images.SUFFIXES:
            picture = decode(path.read_bytes())
            with Image.open(path) as image:
                assert picture.pixels.shape[1::-1] == image.size


def test_limits_are_inclusive_and_name_the_reason():
    data = encoded(scene(), "PNG")
    assert reason_of(data, Limits(max_bytes=len(data))) == OK
    assert reason_of(data, Limits(max_bytes=len(data) - 1)) == "too_many_bytes"
    assert reason_of(data, Limits(max_pixels=40 * 56)) == OK
    assert reason_of(data, Limits(max_pixels=40 * 56 - 1)) == "too_many_pixels"
    assert reason_of(data, Limits(max_side=56)) == OK
    assert reason_of(data, Limits(max_side=55)) == "too_many_pixels"


CLAIM = """
import resource, sys
from nnst.errors import ImageError
from nnst.images import decode
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(bytes.fromhex(sys.argv[1]))
except ImageError as error:
    print(error.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)
"""


@pytest.mark.parametrize(
    ("hw", "claimed", "reason"),
    [
        ((30_000, 30_000), None, "too_many_pixels"),  # 2.7 GB, and hardly any data
        ((8, 8), 2**31 - 1, "truncated"),  # a chunk that says it holds 2 GiB
    ],
)
def test_what_a_small_file_claims_is_refused_before_memory_is_taken_for_it(hw, claimed, reason):
    data = bytearray(png((8, 8), 8, 2))
    data[16:24] = struct.pack(">II", hw[1], hw[0])
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    if claimed:
        data[33:37] = struct.pack(">I", claimed)
    printed = run_python(CLAIM, data.hex()).split()
    assert printed[0] == reason
    assert int(printed[1]) < 16 * 1024  # KiB


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints, started where the package is found."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout


def test_bytes_that_are_no_picture_say_what_they_are():
    with pytest.raises(ImageError, match="heif-convert"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert reason_of(b"") == "empty"
    assert reason_of(b"garbage before " + encoded(scene(), "JPEG")) == "not_an_image"


def test_a_refusal_survives_the_way_between_processes():
    with pytest.raises(ImageError) as caught:
        decode(b"")
    assert pickle.loads(pickle.dumps(caught.value)).reason == "empty"


# ---- files that end early ----

SAMPLES = {
    "png": encoded(scene(), "PNG"),
    "png with alpha": encoded(Image.fromarray(scene()).convert("RGBA"), "PNG"),
    "webp": encoded(scene(), "WEBP"),
    "lossless webp": encoded(scene(), "WEBP", lossless=True),
    "gif": encoded(scene(), "GIF"),
    "bmp": encoded(scene(), "BMP"),
    "palette bmp": encoded(Image.fromarray(scene()).convert("P"), "BMP"),
    "tiff": encoded(scene(), "TIFF"),
    "lzw tiff": encoded(scene(), "TIFF", compression="tiff_lzw"),
    "avif": encoded(scene(), "AVIF"),
}
STEP = 11  # coprime to what files are made of


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_anywhere_is_truncated(name):
    data = SAMPLES[name]
    assert reason_of(data) == OK
    for cut in {*range(0, len(data), STEP), *range(len(data) - 12, len(data))} - {0}:
        expected = ("truncated", "not_an_image") if cut < 18 else ("truncated",)
        assert reason_of(data[:cut]) in expected, cut


@pytest.mark.parametrize("format", ["PNG", "TIFF", "GIF", "WEBP", "AVIF"])
def test_a_cut_animation_gives_its_whole_first_frame_or_a_reason(format):
    frames = [Image.fromarray(np.roll(scene(), 9 * i, 1)) for i in range(2)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    first = decode(data).pixels
    for cut in range(1, len(data), 37):
        found = outcome(data[:cut])
        if isinstance(found, Picture):
            assert np.array_equal(found.pixels, first)
        else:
            assert found in ("truncated", "not_an_image")


JPEGS = {
    "baseline": encoded(photo(), "JPEG"),
    "high quality": encoded(photo(), "JPEG", quality=97, subsampling=0),
    "progressive": encoded(photo(), "JPEG", progressive=True),
    "fine progressive": encoded(photo(), "JPEG", progressive=True, quality=97, subsampling=0),
    "restarts": encoded(photo(), "JPEG", restart_marker_blocks=3),
    "grey": encoded(Image.fromarray(photo()).convert("L"), "JPEG"),
    "CMYK": encoded(Image.fromarray(photo()).convert("CMYK"), "JPEG"),
    "flat": encoded(np.full((50, 70, 3), 255, np.uint8), "JPEG"),
    "flat progressive": encoded(np.full((50, 70, 3), 255, np.uint8), "JPEG", progressive=True),
    "middle grey": encoded(np.full((50, 70, 3), 128, np.uint8), "JPEG"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_lost_only_its_end_marker_is_the_same_picture(name):
    whole = decode(JPEGS[name]).pixels
    for left in (b"", b"\xff"):
        assert np.array_equal(decode(JPEGS[name][:-2] + left).pixels, whole)


@pytest.mark.parametrize("name", [name for name in JPEGS if JPEGS[name][-3] != 0])
def test_zeros_in_the_place_of_the_end_marker_do_no_harm(name):
    """As a download leaves them that reserved the space beforehand."""
    whole = decode(JPEGS[name]).pixels
    for left in (bytes(500), b"\xff\0\0\0"):
        assert np.array_equal(decode(JPEGS[name][:-2] + left).pixels, whole)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 300], ids=len)
def test_a_jpeg_that_lacks_coded_data_is_truncated_wherever_it_was_cut(name, end):
    """What is accepted all the same decodes to every pixel of the whole picture."""
    data, whole = JPEGS[name], decode(JPEGS[name]).pixels
    content = len(data) - 2
    cuts = {*range(20, content, max(7, content // 40)), *range(content - 30, content)}
    accepted = []
    for cut in sorted(cuts):
        found = outcome(data[:cut] + end)
        if isinstance(found, Picture):
            accepted.append(content - cut)
            assert np.array_equal(found.pixels, whole), cut
        else:
            assert found == "truncated", cut
    assert set(accepted) <= {1}  # a last byte of nothing but zero bits


@pytest.mark.parametrize("seed", range(12))
def test_a_jpeg_whose_last_blocks_hardly_show_is_judged_as_well(seed):
    """Sizes just over a block's: most of what a cut takes lies outside the picture."""
    rng = np.random.default_rng(seed)
    pixels = photo(tuple(8 * rng.integers(2, 10, 2) + rng.integers(1, 3, 2)))
    options = {"subsampling": seed % 3, "progressive": seed % 2 == 0, "quality": 98 - seed % 4 * 8}
    data = encoded(pixels, "JPEG", **options)
    whole = decode(data).pixels
    for lost in range(1, 25):
        found = outcome(data[: -2 - lost])
        if isinstance(found, Picture):
            assert np.array_equal(found.pixels, whole)
            assert lost == 1
        else:
            assert found == "truncated"


def test_a_progressive_jpeg_cut_between_two_scans_is_truncated():
    data = JPEGS["progressive"]
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    assert len(scans) > 5
    for start in scans[1:]:
        assert reason_of(data[:start]) == "truncated"
        assert reason_of(data[:start] + b"\xff\xd9") == "truncated"


def test_a_jpeg_cut_before_a_restart_marker_is_truncated():
    """All that was begun is whole there, so only the marker that is due shows what is missing."""
    data = JPEGS["restarts"]
    markers = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    assert len(markers) > 9
    for at in markers:
        assert reason_of(data[:at]) == "truncated"


@pytest.mark.parametrize("name", ["baseline", "high quality", "restarts", "grey", "CMYK", "flat"])
def test_half_a_jpeg_with_an_end_marker_is_truncated_all_the_same(name):
    data = JPEGS[name]
    scan = data.rindex(b"\xff\xda")
    for tenths in range(1, 9):
        cut = scan + 14 + (len(data) - scan - 14) * tenths // 10
        assert reason_of(data[:cut].rstrip(b"\xff") + b"\xff\xd9") == "truncated"


def test_garbage_behind_the_end_marker_is_no_part_of_a_jpeg():
    for name, data in JPEGS.items():
        for garbage in (b"\0" * 10, b"<!-- -->", JPEGS["baseline"][:500]):
            assert np.array_equal(decode(data + garbage).pixels, decode(data).pixels), name


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_a_changed_file_gives_a_picture_of_its_header_or_a_reason(data):
    samples = [*SAMPLES.values(), *JPEGS.values()]
    changed = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, 200) | st.integers(0, len(changed) - 1))
        changed[min(at, len(changed) - 1)] = data.draw(st.integers(0, 255))
    found = outcome(bytes(changed), Limits(max_pixels=10**6))
    if isinstance(found, Picture):
        assert found.pixels.shape == (found.header.height, found.header.width, 3)
    else:
        assert found in REASONS


@given(st.binary(max_size=200), st.sampled_from(sorted(SAMPLES)), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_decode_fail_in_another_way(tail, name, kept):
    assert reason_of(SAMPLES[name][:kept] + tail, Limits(max_pixels=10**6)) in {OK, *REASONS}


# ---- hashes, sizes, files out ----


def test_the_content_hash_is_sha256():
    assert images.content_hash(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_the_perceptual_hash_is_the_sign_of_low_frequencies_of_the_cosine_transform():
    """The plain way, with OpenCV's transform of the same small grey picture."""
    pixels = photo()
    small = cv2.cvtColor(images.resize(pixels, (32, 32)), cv2.COLOR_RGB2GRAY)
    low = cv2.dct(small.astype(np.float64))[1:9, 1:9]
    bits = "".join("1" if value else "0" for value in (low > np.median(low)).ravel())
    assert f"{images.perceptual_hash(pixels):064b}" == bits


def test_near_duplicates_are_near_and_other_pictures_are_far():
    first = images.perceptual_hash(photo((300, 400)))
    for other in (
        images.resize(photo((300, 400)), (150, 200)),
        decode(encoded(photo((300, 400)), "JPEG", quality=40)).pixels,
        (photo((300, 400)) * 0.8).astype(np.uint8),
    ):
        assert images.hamming(first, images.perceptual_hash(other)) <= 6
    assert images.hamming(first, images.perceptual_hash(photo((300, 400))[:, ::-1])) > 20
    assert images.perceptual_hash(np.full((9, 9, 3), 77, np.uint8)) == 0


def test_hamming_counts_the_bits_that_differ():
    assert images.hamming(0b1011, 0b0001) == 2
    assert images.hamming(0, 2**64 - 1) == 64


def test_shrinking_averages_and_growing_interpolates_each_side_by_itself():
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (images.resize(stripes, (2, 4)) == 100).all()
    assert (images.resize(stripes[:, 1:].repeat(3, axis=1), (4, 7))[:, ::2] == 0).all()
    assert (
        images.resize(np.eye(8, dtype=np.uint8)[..., None].repeat(3, 2) * 240, (1, 1)).max() == 30
    )
    assert images.resize(stripes, (4, 8)) is stripes
    assert (images.resize(stripes, (9, 4)) == 100).all()
    assert np.array_equal(
        images.resize(stripes, (4, 16)),
        cv2.resize(stripes, (16, 4), interpolation=cv2.INTER_LINEAR),
    )


def test_what_is_encoded_comes_back_and_the_same_pixels_give_the_same_bytes():
    assert np.array_equal(decode(images.encode_png(scene())).pixels, scene())
    assert far(decode(images.encode_jpeg(scene(), quality=95)).pixels, scene()) < 4
    for encode in (images.encode_png, images.encode_jpeg):
        assert encode(scene()) == encode(scene().copy())
    assert len(images.encode_jpeg(photo(), 40)) < len(images.encode_jpeg(photo(), 90))


def test_pixels_that_no_file_can_hold_are_an_error_not_an_empty_file():
    with pytest.raises(NnstError, match=r"\.jpg"):
        images.encode_jpeg(np.zeros((1, 70_000, 3), np.uint8))


def test_importing_the_module_leaves_opencv_as_it_was():
    threads = "cv2.getNumThreads()"
    assert (
        run_python(f"import cv2; n = {threads}; import nnst.images; print({threads} - n)") == "0\n"
    )
