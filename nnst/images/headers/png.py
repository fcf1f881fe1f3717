"""PNG (ISO 15948), animated or not: eight bytes, then chunks."""

from __future__ import annotations

from collections.abc import Iterator

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint
from nnst.images.headers.tiff import exif_orientation

_COLOURS_WITH_ALPHA = frozenset({4, 6})


def read(data: bytes) -> Header:
    """The header of a PNG; what stands behind the pixels is read as far as the file goes."""
    if uint(data, 8, 8) != int.from_bytes(b"\0\0\0\rIHDR"):
        raise ImageError("corrupt", "a PNG that does not begin with its header")
    width, height, colour = uint(data, 16, 4), uint(data, 20, 4), uint(data, 25, 1)
    chunks = {name: (start, end) for name, start, end in _chunks(data)}
    frames, orientation = 1, 1
    if b"acTL" in chunks:
        frames = max(1, uint(data, chunks[b"acTL"][0], 4))
    if b"eXIf" in chunks:
        orientation = exif_orientation(data[slice(*chunks[b"eXIf"])])
    alpha = colour in _COLOURS_WITH_ALPHA or b"tRNS" in chunks
    return Header("png", width, height, frames, orientation, alpha)


def reaches_end(data: bytes) -> bool:
    """Whether the end chunk is there."""
    return any(name == b"IEND" for name, _, _ in _chunks(data))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each whole chunk, up to the end chunk."""
    at = 8
    for _ in range(MAX_STEPS):
        if at + 12 > len(data):
            return
        name, end = data[at + 4 : at + 8], at + 8 + uint(data, at, 4)
        if end + 4 > len(data):
            return
        yield name, at + 8, end
        if name == b"IEND":
            return
        at = end + 4  # behind the checksum
