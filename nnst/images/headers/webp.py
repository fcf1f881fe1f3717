"""WebP (RFC 9649): a RIFF file of chunks; the first says which of three kinds it is."""

from __future__ import annotations

from collections.abc import Iterator

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint
from nnst.images.headers.tiff import exif_orientation

_ALPHA = 0x10  # a flag of VP8X


def read(data: bytes) -> Header:
    """The header of a WebP, still or animated."""
    name = data[12:16]
    if name == b"VP8X":
        return _read_extended(data)
    if name == b"VP8L":
        bits = uint(data, 21, 4, "little")  # 14 bits width - 1, 14 bits height - 1, 1 bit alpha
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("webp", width, height, alpha=bool(bits >> 28 & 1))
    if name == b"VP8 ":
        width, height = uint(data, 26, 2, "little"), uint(data, 28, 2, "little")
        return Header("webp", width & 0x3FFF, height & 0x3FFF)  # the top two bits are a scale
    raise ImageError("corrupt" if len(name) == 4 else "truncated", f"WebP chunk {name!r}")


def reaches_end(data: bytes) -> bool:
    """Whether the file is as long as it says."""
    return 8 + uint(data, 4, 4, "little") <= len(data)


def _read_extended(data: bytes) -> Header:
    width, height = uint(data, 24, 3, "little") + 1, uint(data, 27, 3, "little") + 1
    frames, orientation = 0, 1
    for name, start, end in _chunks(data):
        frames += name == b"ANMF"
        if name == b"EXIF":
            orientation = exif_orientation(data[start:end].removeprefix(b"Exif\0\0"))
    alpha = bool(uint(data, 20, 1) & _ALPHA)
    return Header("webp", width, height, max(1, frames), orientation, alpha)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each chunk."""
    at = 12
    for _ in range(MAX_STEPS):
        if at + 8 > len(data):
            return
        size = uint(data, at + 4, 4, "little")
        yield data[at : at + 4], at + 8, at + 8 + size
        at += 8 + size + size % 2
