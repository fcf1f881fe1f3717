"""GIF (GIF89a): a logical screen, then extensions and images as runs of sub-blocks."""

from __future__ import annotations

from collections.abc import Iterator

from nnst.errors import ImageError
from nnst.images.headers.header import MAX_STEPS, Header, uint

_IMAGE, _TRAILER, _EXTENSION, _CONTROL = 0x2C, 0x3B, 0x21, 0xF9


def read(data: bytes) -> Header:
    """The header of a GIF; the size is the logical screen's, transparency the first image's."""
    width, height = uint(data, 6, 2, "little"), uint(data, 8, 2, "little")
    frames, alpha = 0, False
    try:
        for kind, at in _blocks(data):
            frames += kind == _IMAGE
            if kind == _CONTROL and frames == 0:
                alpha = bool(uint(data, at + 1, 1) & 1)
    except ImageError:
        pass  # a file that ends early has a header all the same
    return Header("gif", width, height, max(1, frames), alpha=alpha)


def reaches_end(data: bytes) -> bool:
    """Whether the walk over the blocks comes to the trailer, or to what is no block."""
    return any(kind not in (_IMAGE, _CONTROL) for kind, _ in _blocks(data))


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Each image and graphic control, and what ended the walk: its kind, and where its body begins.

    Other extensions are passed over. Raises ImageError where the file ends early.
    """
    at = 13 + _palette_bytes(uint(data, 10, 1))
    steps = iter(range(MAX_STEPS))  # of blocks and sub-blocks together
    for _ in steps:
        kind = uint(data, at, 1)
        if kind == _EXTENSION:
            if uint(data, at + 1, 1) == _CONTROL:
                yield _CONTROL, at + 2
            at = _sub_blocks_end(data, at + 2, steps)
        else:
            yield kind, at + 1
            if kind != _IMAGE:
                return
            at = _sub_blocks_end(data, at + 11 + _palette_bytes(uint(data, at + 9, 1)), steps)


def _sub_blocks_end(data: bytes, at: int, steps: Iterator[int]) -> int:
    """Where the run of sub-blocks that begins at `at` ends."""
    for _ in steps:
        size = uint(data, at, 1)
        at += 1 + size
        if size == 0:
            break
    return at


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
