"""The header of a picture, and the one way in which its bytes are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nnst.errors import ImageError

MAX_STEPS = 2**20
"""Chunks, segments, boxes or blocks that one walk looks at: more than any honest file has."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says of its picture. `width` and `height` are as stored, before any turn."""

    format: str  # a word of READABLE
    width: int
    height: int
    frames: int = 1
    orientation: int = 1  # EXIF's 1 to 8: what has to be done to see it upright
    alpha: bool = False  # some pixels may be transparent


def uint(data: bytes, at: int, size: int, order: Literal["big", "little"] = "big") -> int:
    """The unsigned number in `size` bytes from `at`; raises ImageError past the end."""
    field = data[at : at + size]
    if len(field) < size:
        raise ImageError("truncated", "the file ends inside its header")
    return int.from_bytes(field, order)
