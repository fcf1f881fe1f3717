"""EXIF's eight orientations: pictures and boxes, as stored and upright.

Each is at most one transposition followed by mirrorings, so it is written down once, as a table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.boxes import Boxes


class _Turn(NamedTuple):
    """How a stored picture becomes upright: transposed first, then mirrored."""

    transposed: bool
    left_right: bool
    top_bottom: bool


_TURNS = {
    1: _Turn(False, False, False),
    2: _Turn(False, True, False),
    3: _Turn(False, True, True),
    4: _Turn(False, False, True),
    5: _Turn(True, False, False),
    6: _Turn(True, True, False),
    7: _Turn(True, True, True),
    8: _Turn(True, False, True),
}


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H', W', 3) as a person should see it, contiguous; orientation 1 gives the array itself."""
    turn = _TURNS[orientation]
    turned: NDArray[Any] = cv2.transpose(pixels) if turn.transposed else pixels
    if turn.left_right or turn.top_bottom:
        both = turn.left_right and turn.top_bottom
        turned = cv2.flip(turned, -1 if both else int(turn.left_right))
    return np.ascontiguousarray(turned)


def upright_hw(hw: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width of the upright picture."""
    return (hw[1], hw[0]) if _TURNS[orientation].transposed else hw


def boxes_upright(boxes: Boxes, stored_hw: tuple[int, int], orientation: int) -> Boxes:
    """Boxes of the stored picture as boxes of the upright one. Exact for eighths of a pixel."""
    turn = _TURNS[orientation]
    if turn.transposed:
        boxes = boxes[:, [1, 0, 3, 2]]
    return _mirrored(boxes, upright_hw(stored_hw, orientation), turn)


def boxes_stored(boxes: Boxes, stored_hw: tuple[int, int], orientation: int) -> Boxes:
    """Boxes of the upright picture as boxes of the stored one: the inverse of `boxes_upright`."""
    turn = _TURNS[orientation]
    boxes = _mirrored(boxes, upright_hw(stored_hw, orientation), turn)
    return boxes[:, [1, 0, 3, 2]] if turn.transposed else boxes


def _mirrored(boxes: Boxes, hw: tuple[int, int], turn: _Turn) -> Boxes:
    """A new array with the corners of each box still in order."""
    x0, y0, x1, y1 = boxes.T
    if turn.left_right:
        x0, x1 = hw[1] - x1, hw[1] - x0
    if turn.top_bottom:
        y0, y1 = hw[0] - y1, hw[0] - y0
    return np.stack([x0, y0, x1, y1], axis=1).astype(np.float32)
