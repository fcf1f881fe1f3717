"""Bytes -> RGB pixels: the only module that knows BGR, transparency and how decoders fail.

A JPEG goes to TurboJPEG first, which is faster, the more so the larger the picture, and complains
of any fault; what it complains of, and all the other formats, OpenCV decodes. Both contain the same
library and give the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from nnst.errors import ImageError
from nnst.images.encoding import Pixels
from nnst.images.headers import Header, jpeg, reaches_end, read_header, tiff


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest picture that is decoded. 2^27 pixels are 384 MiB of RGB."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 2**27
    max_side: int = 65_500  # a JPEG's own limit


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as stored; `pixels` is (H, W, 3) uint8 RGB and read-only.

    The header has the stored size always; the pixels may be fewer (`decode`).
    """

    pixels: Pixels
    header: Header


REDUCTIONS = (1, 2, 4, 8)


def decode(data: bytes, limits: Limits = Limits(), reduction: int = 1) -> Picture:
    """The picture in `data`: the first frame, 8 bits a channel, transparency over white.

    `reduction`, one of REDUCTIONS, asks for sides of 1/reduction of the stored ones, rounded up. It
    is a wish, granted to every JPEG without a fault; whatever else is decoded comes at full size.
    What is refused does not depend on it, nor do the limits.

    Raises ImageError; a picture that is too large is refused before anything is decoded, and one
    that lacks a part of its content is `truncated`, never a half picture.
    """
    header = check(data, limits)
    hw = reduced_hw(header, reduction)
    pixels = _decode_faultless_jpeg(data, hw) if header.format == "jpeg" else None
    if pixels is None:
        pixels = decode_plainly(data, header)
    pixels.setflags(write=False)
    return Picture(pixels, header)


def reduced_hw(header: Header, reduction: int) -> tuple[int, int]:
    """The size of a picture that is granted the reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"a reduction of {reduction}, which is none of {REDUCTIONS}")
    return -(-header.height // reduction), -(-header.width // reduction)


def fastest_full_decode(data: bytes) -> Pixels:
    """The pixels of a JPEG at full size, as fast as can be had: a measure to hold a scan against.

    Not what `decode` gives: nothing is checked, and the pixels are coarser. Other formats, and
    JPEGs with a fault, are decoded as `decode` does.
    """
    try:
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=True)
    except ValueError:
        return decode(data).pixels


def check(data: bytes, limits: Limits = Limits()) -> Header:
    """The header of a picture that may be decoded; raises ImageError. Nothing is decoded here."""
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data)} bytes, the limit is {limits.max_bytes}")
    header = read_header(data)
    size = f"{header.width} x {header.height} pixels"
    if header.width * header.height > limits.max_pixels:
        raise ImageError("too_many_pixels", f"{size}, the limit is {limits.max_pixels}")
    if max(header.width, header.height) > limits.max_side:
        raise ImageError("too_many_pixels", f"{size}, the limit of a side is {limits.max_side}")
    return header


def _decode_faultless_jpeg(data: bytes, hw: tuple[int, int]) -> Pixels | None:
    """(H, W, 3) RGB of a JPEG at the size `hw`, full or reduced; None if anything is wrong with it.

    The accurate transform and smooth chroma: the faster ones save a tenth and change the pixels.
    """
    if not _names_every_coefficient(data):
        return None
    height, width = hw
    try:
        rgb = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
    except ValueError:  # every complaint of the library, grave or not
        return None
    return rgb if rgb.shape == (height, width, 3) else None


def decode_plainly(data: bytes, header: Header) -> Pixels:
    """(H, W, 3) RGB at full size, by OpenCV alone; raises ImageError."""
    bgr = _decode_bgr(data, header)
    if header.format == "jpeg":
        bgr = _whole_jpeg(data, bgr)
    if bgr is None:
        reason = "corrupt" if reaches_end(data, header) else "truncated"
        raise ImageError(reason, f"{header.format} of {header.width} x {header.height} pixels")
    if bgr.shape != (header.height, header.width, 3):
        raise ImageError("corrupt", f"decoded to {bgr.shape}, against its header {header}")
    cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)  # in place: bgr is RGB from here on
    return bgr


_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # IMREAD_COLOR_RGB fails at deep AVIF


def _decode_bgr(data: bytes, header: Header) -> Pixels | None:
    """What OpenCV makes of the bytes, in BGR and as stored; None where it fails."""
    if header.format == "png" and not reaches_end(data, header):
        return None  # OpenCV would reserve what a chunk claims to hold, up to 2 GiB
    if header.format == "tiff" and header.orientation != 1:
        data = tiff.with_orientation_1(data)
    if header.alpha:
        bgra = _imdecode(data, cv2.IMREAD_UNCHANGED)
        if bgra is not None and _can_blend(bgra, header):
            return _over_white(bgra, premultiplied=header.format == "tiff")
    return _imdecode(data, _COLOUR)


def _can_blend(bgra: NDArray[Any], header: Header) -> bool:
    """Whether there is an alpha whose scale is known: AVIF may have 10 bits or 12, unsaid."""
    return bgra.shape[2:] == (4,) and (bgra.dtype == np.uint8 or header.format == "png")


def _imdecode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error  # this machine's fault, not the picture's
        return None


def _over_white(bgra: NDArray[Any], premultiplied: bool) -> Pixels:
    """(H, W, 3): what a page shows. The colours below transparent pixels are any rubbish."""
    bgr = np.empty((*bgra.shape[:2], 3), np.uint8)
    for top in range(0, len(bgra), 256):  # in strips: 16 bits of a whole picture would be 2 GiB
        strip = bgra[top : top + 256]  # (h, W, 4)
        wide = (strip >> 8 if strip.dtype == np.uint16 else strip).astype(np.uint16)
        colour, alpha = wide[..., :3], wide[..., 3:]
        if not premultiplied:
            colour = (colour * alpha + 127) // 255
        bgr[top : top + 256] = np.minimum(colour + 255 - alpha, 255)
    return bgr


_NOISE = tuple(bytes(i * step % 251 for i in range(1, 65)) for step in (73, 151, 29, 197, 113, 241))
"""Runs of bytes that hold no marker, to be read as coded data."""


def _whole_jpeg(data: bytes, bgr: Pixels | None) -> Pixels | None:
    """The picture of a JPEG that holds all of it, with its end marker or without; None if damaged.

    Without an end marker OpenCV gives nothing, however whole the file is, or takes padding behind
    half a file for its rest; half a file with an end marker has a grey rest.
    """
    end = data.rfind(jpeg.END)
    if data.find(jpeg.SCAN, max(end, 0)) >= 0:  # a scan that no end marker follows
        return _mended_jpeg(jpeg.without_padding(data))
    if bgr is None:
        return None
    if not _names_every_coefficient(data):
        raise ImageError("truncated", "scans are missing before the end marker")
    if tuple(bgr[-1, -1]) in _FILL and _mended_jpeg(data[:end]) is None:
        raise ImageError("truncated", "coded data is missing before the end marker")
    return bgr


def _names_every_coefficient(data: bytes) -> bool:
    """Whether all the scans are begun, as no decoder asks; costs next to nothing."""
    try:
        return jpeg.names_every_coefficient(data)
    except ImageError:
        return False


_FILL = frozenset({(128, 128, 128), (65, 65, 65)})
"""What libjpeg shows where there is no data, CMYK last. Seldom a real corner."""


def _mended_jpeg(data: bytes) -> Pixels | None:
    """The picture of a JPEG without its end marker, if nothing that followed could change it.

    A decoder that has all its blocks passes over whatever comes before the next marker; one that
    has not takes it for coded data. So the picture is whole if noise behind it makes no difference,
    with and without the restart marker that would be due.
    """
    if not _names_every_coefficient(data):
        return None
    bgr = _imdecode(data + jpeg.END, _COLOUR)
    for tail in (*_NOISE, jpeg.next_restart(data) + _NOISE[0]):
        other = _imdecode(data + tail + jpeg.END, _COLOUR)
        if bgr is None or other is None or not np.array_equal(bgr, other):
            return None
    return bgr
