"""TIFF 6.0 and BigTIFF: pages as tables of tagged values. EXIF data is a small TIFF as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint

_NEW_SUBFILE, _WIDTH, _HEIGHT, _BITS, _ORIENTATION = 254, 256, 257, 258, 274
_SAMPLES, _EXTRA_SAMPLES, _DNG_VERSION = 277, 338, 50706
_EXTENTS = ((273, 279), (324, 325))  # where strips and tiles begin, and how long they are
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BIG_BYTES = {16: 8, 17: 8, 18: 8}  # BigTIFF's own
_SIZES = _BYTES | _BIG_BYTES  # type of a value -> bytes of one
_UNSIGNED = frozenset({1, 3, 4, 13, 16, 18})
_MAX_PAGES = 4096

Order = Literal["big", "little"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How numbers are written in this file."""

    order: Order
    big: bool  # BigTIFF: eight bytes where TIFF has four

    @property
    def word(self) -> int:
        return 8 if self.big else 4

    @property
    def entry(self) -> int:
        return 20 if self.big else 12


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    at: int  # where the entry itself begins
    kind: int
    count: int
    value_at: int

    @property
    def end(self) -> int:
        """Where its values end."""
        return self.value_at + self.count * _SIZES.get(self.kind, 1)


def read(data: bytes) -> Header:
    """The header of a TIFF's first page."""
    layout, first = _start(data)
    entries = {entry.tag: entry for entry in _entries(data, layout, first)}

    def value(tag: int, otherwise: int) -> int:
        return _value(data, layout, entries[tag]) if tag in entries else otherwise

    if _DNG_VERSION in entries or value(_NEW_SUBFILE, 0) & 1:
        raise ImageError("unsupported_format", "a camera's raw file: its first page is a thumbnail")
    bits, samples = value(_BITS, 1), value(_SAMPLES, 1)
    return Header(
        "tiff",
        value(_WIDTH, 0),
        value(_HEIGHT, 0),
        frames=sum(1 for _ in _pages(data, layout, first)),
        orientation=_within(value(_ORIENTATION, 1)),
        alpha=value(_EXTRA_SAMPLES, 0) in (1, 2) and (bits, samples) == (8, 4),
    )


def reaches_end(data: bytes) -> bool:
    """Whether every value, strip and tile of the first page lies inside the file."""
    layout, first = _start(data)
    entries = {entry.tag: entry for entry in _entries(data, layout, first)}
    if any(entry.end > len(data) for entry in entries.values()):
        return False
    for offsets, sizes in _EXTENTS:
        if offsets in entries and sizes in entries:
            starts = _values(data, layout, entries[offsets])
            lengths = _values(data, layout, entries[sizes])
            return all(a + n <= len(data) for a, n in zip(starts, lengths, strict=False))
    return True


def with_orientation_1(data: bytes) -> bytes:
    """A copy whose first page says that it is upright: OpenCV turns a TIFF whatever it is told."""
    layout, first = _start(data)
    copy = bytearray(data)
    for entry in _entries(data, layout, first):
        if entry.tag == _ORIENTATION:
            one = (1).to_bytes(layout.word, layout.order)
            short = (3).to_bytes(2, layout.order)
            value = (1).to_bytes(2, layout.order).ljust(layout.word, b"\0")
            copy[entry.at + 2 : entry.at + layout.entry] = short + one + value
    return bytes(copy)


def exif_orientation(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or none that makes sense."""
    try:
        layout, first = _start(exif)
        for entry in _entries(exif, layout, first):
            if entry.tag == _ORIENTATION:
                return _within(_value(exif, layout, entry))
    except ImageError:
        pass
    return 1


def _within(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _start(data: bytes) -> tuple[_Layout, int]:
    """How the file is written, and where its first page's table is."""
    order: Order = "little" if data[:2] == b"II" else "big"
    version = uint(data, 2, 2, order)
    if data[:2] not in (b"II", b"MM") or version not in (42, 43):
        raise ImageError("corrupt", "not the beginning of a TIFF")
    layout = _Layout(order, big=version == 43)
    return layout, uint(data, 8 if layout.big else 4, layout.word, order)


def _entries(data: bytes, layout: _Layout, table: int) -> Iterator[_Entry]:
    """The entries of a page's table; values of more than a word lie elsewhere."""
    counter = 8 if layout.big else 2
    for number in range(min(uint(data, table, counter, layout.order), MAX_STEPS)):
        at = table + counter + number * layout.entry
        tag, kind = uint(data, at, 2, layout.order), uint(data, at + 2, 2, layout.order)
        count = uint(data, at + 4, layout.word, layout.order)
        value_at = at + 4 + layout.word
        if count * _SIZES.get(kind, 1) > layout.word:
            value_at = uint(data, value_at, layout.word, layout.order)
        yield _Entry(tag, at, kind, count, value_at)


def _pages(data: bytes, layout: _Layout, first: int) -> Iterator[int]:
    """Where each page's table is; a chain that breaks or comes back to itself ends there."""
    seen: set[int] = set()
    table = first
    while table and table not in seen and len(seen) < _MAX_PAGES:
        seen.add(table)
        yield table
        try:
            counter = 8 if layout.big else 2
            entries = uint(data, table, counter, layout.order)
            table = uint(data, table + counter + entries * layout.entry, layout.word, layout.order)
        except ImageError:
            return


def _value(data: bytes, layout: _Layout, entry: _Entry) -> int:
    """The first number of an entry; 0 where it holds none."""
    return next(_values(data, layout, entry), 0)


def _values(data: bytes, layout: _Layout, entry: _Entry) -> Iterator[int]:
    """The numbers of an entry, none where its type is no unsigned integer."""
    size = _SIZES.get(entry.kind, 1)
    for number in range(min(entry.count, MAX_STEPS) if entry.kind in _UNSIGNED else 0):
        yield uint(data, entry.value_at + number * size, size, layout.order)
