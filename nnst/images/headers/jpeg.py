"""JPEG (ITU T.81): a chain of marked segments; the coded data of a scan follows its segment."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint
from nnst.images.headers.tiff import exif_orientation

END = b"\xff\xd9"
SCAN = b"\xff\xda"  # what begins a scan

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # not stuffing, restart or fill
_SOI, _EOI, _SOS, _APP1, _TEM = 0xD8, 0xD9, 0xDA, 0xE1, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # F7 is JPEG-LS
_DECODABLE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # lossy, Huffman or arithmetic


def read(data: bytes) -> Header:
    """The header of a JPEG, up to its first scan."""
    orientation = frame = None
    for marker, segment in _segments(data):
        if marker == _APP1 and segment[:6] == b"Exif\0\0" and orientation is None:
            orientation = exif_orientation(segment[6:])
        elif marker in _FRAMES and frame is None:
            frame = segment
            if marker not in _DECODABLE or uint(frame, 0, 1) != 8:
                raise ImageError("unsupported_format", "a lossless, hierarchical or 12-bit JPEG")
        elif marker in (_SOS, _EOI):
            break
    else:
        raise ImageError("truncated", "the file ends inside the JPEG's header")
    if frame is None:
        raise ImageError("corrupt", "a JPEG without a picture in it")
    return Header("jpeg", uint(frame, 3, 2), uint(frame, 1, 2), orientation=orientation or 1)


def reaches_end(data: bytes) -> bool:
    """Whether the end marker is there."""
    return any(marker == _EOI for marker, _ in _segments(data))


def names_every_coefficient(data: bytes) -> bool:
    """Whether the scans begun here are to bring every coefficient of every component to full depth.

    A progressive picture comes in many scans, and one that is cut between two of them decodes
    without complaint, only blurred (T.81, annex G).
    """
    missing: dict[int, set[int]] = {}
    for marker, segment in _segments(data):
        if marker in _FRAMES:
            missing = {component: set(range(64)) for component in segment[6::3]}
        elif marker == _SOS:
            count = uint(segment, 0, 1)
            first, last, depth = (uint(segment, 1 + 2 * count + i, 1) for i in range(3))
            if depth & 15:  # Al: low bits that a later scan has to bring
                continue
            for component in segment[1 : 1 + 2 * count : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
            if missing and not any(missing.values()):
                return True  # mostly at the first scan, with all the coded data left unread
    return False


def next_restart(data: bytes) -> bytes:
    """The restart marker that would come next in the last scan (they are numbered modulo 8)."""
    scan = data[data.rfind(SCAN) :]
    at = max(scan.rfind(bytes([0xFF, 0xD0 + number])) for number in range(8))
    return bytes([0xFF, 0xD0 + (scan[at + 1] + 1) % 8 if at >= 0 else 0xD0])


def without_padding(data: bytes) -> bytes:
    """The bytes up to the last that can be coded data: no half marker, no run of zeros behind.

    Coded data can end in a zero or two, above all behind an FF, which is never coded without one.
    """
    kept = data.rstrip(b"\0")
    if len(data) - len(kept) <= 2:
        return data.rstrip(b"\xff")
    return kept + b"\0" if kept.endswith(b"\xff") else kept


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each marker with its segment, the end marker last; coded data is passed over."""
    at = 2
    for _ in range(MAX_STEPS):
        match = _MARKER.search(data, at)
        if match is None:
            return
        marker, at = match[1][0], match.end()
        size = 0 if marker in (_SOI, _EOI, _TEM) else uint(data, at, 2)
        if at + size > len(data):
            raise ImageError("truncated", "the file ends inside a JPEG segment")
        yield marker, data[at + 2 : at + size]
        if marker == _EOI:
            return
        at += size
