"""AVIF: boxes in boxes (ISO 14496-12) that describe items and their properties (ISO 23008-12)."""

from __future__ import annotations

from collections.abc import Iterator

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint

Span = tuple[int, int]  # first byte of a box's payload, and its end

_FULL = 4  # bytes of version and flags, before the content of some boxes
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_ORIENTATIONS = {  # (quarter turns anticlockwise, then top-bottom 0 or left-right 1) -> EXIF's
    (0, None): 1,
    (1, None): 8,
    (2, None): 3,
    (3, None): 6,
    (0, 0): 4,
    (1, 0): 5,
    (2, 0): 2,
    (3, 0): 7,
    (0, 1): 2,
    (1, 1): 7,
    (2, 1): 4,
    (3, 1): 5,
}


def read(data: bytes) -> Header:
    """The header of an AVIF's primary item.

    Its orientation is what the properties `irot` and `imir` say: OpenCV's decoder obeys neither,
    and what EXIF says beside them does not count (ISO 23008-12, 6.5.10).
    """
    meta = _find(data, (0, len(data)), b"meta")
    meta = (meta[0] + _FULL, meta[1])
    container = _find(data, meta, b"iprp", b"ipco")
    item = _primary_item(data, meta)
    owned = _owned(data, _find(data, meta, b"iprp", b"ipma"), item)
    properties = {
        kind: at
        for number, (kind, (at, _)) in enumerate(_boxes(data, container), start=1)
        if number in owned
    }
    if b"ispe" not in properties:
        raise ImageError("corrupt", "an AVIF that does not say its size")
    size_at = properties[b"ispe"] + _FULL
    turns = uint(data, properties[b"irot"], 1) & 3 if b"irot" in properties else 0
    mirror = uint(data, properties[b"imir"], 1) & 1 if b"imir" in properties else None
    return Header(
        "avif",
        uint(data, size_at, 4),
        uint(data, size_at + 4, 4),
        frames=_frames(data),
        orientation=_ORIENTATIONS[turns, mirror],
        alpha=_ALPHA in data[slice(*container)],
    )


def reaches_end(data: bytes) -> bool:
    """Whether the coded data is there; raises ImageError where the file ends inside a box."""
    return b"mdat" in {kind for kind, _ in _boxes(data, (0, len(data)))}


def _boxes(data: bytes, within: Span) -> Iterator[tuple[bytes, Span]]:
    """Kind and payload of each box; raises ImageError at one that overhangs the span."""
    at, end = within
    for _ in range(MAX_STEPS):
        if at >= end:
            return
        size, head = uint(data, at, 4), 8
        if size == 1:
            size, head = uint(data, at + 8, 8), 16
        stop = at + size if size else end  # 0 means: as far as there is something
        if stop > end:
            raise ImageError("truncated", "the file ends inside an AVIF box")
        if stop < at + head:
            raise ImageError("corrupt", "an AVIF box shorter than its own header")
        yield data[at + 4 : at + 8], (at + head, stop)
        at = stop


def _find(data: bytes, within: Span, *path: bytes) -> Span:
    """The payload of the first box of each kind on the path, one inside the other."""
    for kind in path:
        found = (span for name, span in _boxes(data, within) if name == kind)
        span = next(found, None)
        if span is None:
            reason = "truncated" if within[1] == len(data) else "corrupt"  # it may have come later
            raise ImageError(reason, f"an AVIF without its box {kind.decode()}")
        within = span
    return within


def _primary_item(data: bytes, meta: Span) -> int:
    at, _ = _find(data, meta, b"pitm")
    return uint(data, at + _FULL, 2 if uint(data, at, 1) == 0 else 4)


def _owned(data: bytes, associations: Span, item: int) -> set[int]:
    """Numbers of the properties, counted from 1, that belong to an item."""
    at, _ = associations
    id_bytes = 2 if uint(data, at, 1) == 0 else 4
    index_bytes = 2 if uint(data, at + 3, 1) & 1 else 1
    essential = 0x80 << 8 * (index_bytes - 1)  # a flag in the topmost bit
    entries, at = uint(data, at + _FULL, 4), at + _FULL + 4
    for _ in range(min(entries, MAX_STEPS)):
        owner, count = uint(data, at, id_bytes), uint(data, at + id_bytes, 1)
        at += id_bytes + 1
        if owner == item:
            numbers = (uint(data, at + i * index_bytes, index_bytes) for i in range(count))
            return {number & ~essential for number in numbers}
        at += count * index_bytes
    return set()


def _frames(data: bytes) -> int:
    """How many samples the first track has; 1 where there is no track."""
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
    try:
        at, _ = _find(data, (0, len(data)), *path)
        return max(1, uint(data, at + _FULL + 4, 4))
    except ImageError:
        return 1
