"""BMP: a file header of 14 bytes, then one of several bitmap headers that begin with their size."""

from __future__ import annotations

from nnst.images.headers.header import Header, uint

_CORE = 12  # OS/2's header, with sizes of two bytes


def read(data: bytes) -> Header:
    """The header of a BMP. Its fourth channel is not taken for alpha: most writers leave it 0."""
    if uint(data, 14, 4, "little") == _CORE:
        return Header("bmp", uint(data, 18, 2, "little"), uint(data, 20, 2, "little"))
    return Header("bmp", _magnitude(data, 18), _magnitude(data, 22))


def reaches_end(data: bytes) -> bool:
    """Whether the file is as long as it says; where it does not say, as its pixels need."""
    header = read(data)
    bits = uint(data, 24 if uint(data, 14, 4, "little") == _CORE else 28, 2, "little")
    plain = (header.width * bits + 31) // 32 * 4 * header.height
    compressed = len(data) >= 34 and uint(data, 14, 4, "little") != _CORE and data[30] in (1, 2)
    said = uint(data, 2, 4, "little")
    return len(data) >= (said if compressed else uint(data, 10, 4, "little") + plain)


def _magnitude(data: bytes, at: int) -> int:
    """The absolute value of four signed bytes: a negative height means that the top comes first."""
    value = uint(data, at, 4, "little")
    return min(value, 2**32 - value)
