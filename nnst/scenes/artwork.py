"""Word marks that belong to nobody, as strokes and polygons: nnst's own, and others like it.

Lengths are in heights of a small letter without ascender: y runs down from 0 at its top to 1 on
the line that letters stand on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]  # RGB, 0 to 255
Role = Literal["ink", "accent", "second"]
Points = tuple[tuple[float, float], ...]

STROKE = 0.26  # width of a letter's lines
_TOP, _BOTTOM = -0.42, 1.0  # of an emblem, and of letters with their ascenders
_GAP = 0.4  # between the emblem and the first letter, and so wide that it reads as one word mark
_SUPERSAMPLING = 4
_FRACTION_BITS = 6  # of the coordinates given to OpenCV


def _arc(x: float, y: float, radius: tuple[float, float], start: int, end: int) -> Points:
    """Points on an ellipse around (x, y), clockwise from `start` to `end` degrees, 0 to the right;
    counter-clockwise when `end` is less."""
    angles = np.radians(np.linspace(start, end, 2 + abs(end - start) // 9))
    xs, ys = x + radius[0] * np.cos(angles), y + radius[1] * np.sin(angles)
    return tuple(zip(xs.tolist(), ys.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Glyph:
    """A letter: the lines of its middle, and how far its rightmost line is from its leftmost."""

    width: float
    lines: tuple[Points, ...]


# x and y of a letter are those of the middle of its lines, so its top is half a stroke below 0.
_T, _B = STROKE / 2, 1 - STROKE / 2
_ARCH = _arc(0.31, _T + 0.31, (0.31, 0.31), 180, 360)
_HOLLOW = _arc(0.31, _B - 0.31, (0.31, 0.31), 180, 0)
_BOWL = _arc(0.31, 0.5, (0.33, 0.5 - _T), 0, 360)

GLYPHS: Mapping[str, Glyph] = {
    "e": Glyph(0.64, (((0.0, 0.5), (0.64, 0.5), *_arc(0.31, 0.5, (0.33, 0.5 - _T), 0, -300)),)),
    "i": Glyph(0.0, (((0, _T), (0, _B)), ((0, -0.28), (0, -0.27)))),
    "l": Glyph(0.0, (((0, _TOP + _T), (0, _B)),)),
    "n": Glyph(0.62, (((0, _T), (0, _B)), (*_ARCH, (0.62, _B)))),
    "o": Glyph(0.64, (_BOWL,)),
    "r": Glyph(0.4, (((0, _T), (0, _B)), _arc(0.31, _T + 0.31, (0.31, 0.31), 180, 290))),
    "s": Glyph(
        0.5,
        (
            _arc(0.25, (0.5 + _T) / 2, (0.25, (0.5 - _T) / 2), -25, -270)
            + _arc(0.25, (0.5 + _B) / 2, (0.25, (_B - 0.5) / 2), -90, 155),
        ),
    ),
    "t": Glyph(
        0.5,
        (
            ((0.12, -0.24), (0.12, _B - 0.3), *_arc(0.42, _B - 0.3, (0.3, 0.3), 180, 80)),
            ((-0.06, _T), (0.48, _T)),
        ),
    ),
    "u": Glyph(0.62, (((0.62, _T), (0.62, _B)), ((0, _T), *_HOLLOW))),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A part of an emblem: a filled polygon, or a closed line when it has a width."""

    role: Role
    points: Points
    width: float = 0.0


def _square(x: float, y: float, side: float) -> Points:
    return ((x, y), (x + side, y), (x + side, y + side), (x, y + side))


@dataclass(frozen=True, slots=True)
class WordMark:
    """A name in letters with an emblem to the left of it, and the colours that belong to it."""

    name: str
    emblem: tuple[Shape, ...]
    emblem_width: float
    colours: Mapping[Role, Colour]

    def lines(self) -> tuple[list[Points], float]:
        """The lines of all letters at their places, and where the last letter ends."""
        left = self.emblem_width + _GAP + STROKE / 2
        found: list[Points] = []
        for letter in self.name:
            glyph = GLYPHS[letter]
            found += [tuple((x + left, y) for x, y in line) for line in glyph.lines]
            left += glyph.width + _GAP
        return found, left - _GAP + STROKE / 2

    def size_hw(self, height: int) -> tuple[int, int]:
        """(height, width) in pixels of the artwork drawn at this height."""
        unit = height / (_BOTTOM - _TOP)
        return height, int(np.ceil(self.lines()[1] * unit))


def render(mark: WordMark, colours: Mapping[Role, Colour], height: int) -> NDArray[np.float32]:
    """(height, W, 4) the artwork: RGB times alpha, and alpha, in [0, 1]; its edges are soft."""
    hw = mark.size_hw(height)
    large = np.zeros((hw[0] * _SUPERSAMPLING, hw[1] * _SUPERSAMPLING, 4), np.float32)
    unit = large.shape[0] / (_BOTTOM - _TOP)
    for shape in mark.emblem:
        _paint(large, shape, colours[shape.role], unit)
    for line in mark.lines()[0]:
        _paint(large, Shape("ink", line, STROKE), colours["ink"], unit, closed=False)
    return cv2.resize(large, hw[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _paint(
    canvas: NDArray[np.float32], shape: Shape, colour: Colour, unit: float, closed: bool = True
) -> None:
    """Draw one shape over what is there, without soft edges: the canvas is shrunk afterwards."""
    placed = (np.array(shape.points) - (0, _TOP)) * unit
    points = [np.round(placed * 2**_FRACTION_BITS).astype(np.int32)]
    rgba = (*(value / 255 for value in colour), 1.0)
    if shape.width:
        thickness = max(1, round(shape.width * unit))
        cv2.polylines(canvas, points, closed, rgba, thickness, cv2.LINE_8, _FRACTION_BITS)
    else:
        cv2.fillPoly(canvas, points, rgba, cv2.LINE_8, _FRACTION_BITS)


_SIDE = _BOTTOM - _TOP  # of an emblem as high as the letters with ascenders
_ROUND = _arc(_SIDE / 2, (_TOP + _BOTTOM) / 2, (_SIDE / 2 - 0.12, _SIDE / 2 - 0.12), 0, 360)

OURS = WordMark(
    "nnst",
    # A window on a picture: a frame, and the part of it that is looked at.
    (
        Shape("accent", _square(0.13, _TOP + 0.13, 0.98), 0.26),
        Shape("second", _square(0.72, _TOP + 0.72, 0.7)),
    ),
    _SIDE,
    {"ink": (27, 34, 62), "accent": (240, 98, 30), "second": (0, 140, 149)},
)
OTHERS = (
    WordMark(
        "tusio",
        (Shape("accent", _ROUND), Shape("second", ((0.2, 0.29), (1.22, 0.29), (0.71, 0.85)))),
        _SIDE,
        {"ink": (40, 40, 44), "accent": (38, 92, 190), "second": (250, 200, 40)},
    ),
    WordMark(
        "rolen",
        (Shape("accent", _ROUND, 0.24),),
        _SIDE,
        {"ink": (70, 20, 60), "accent": (200, 30, 90), "second": (200, 30, 90)},
    ),
    WordMark(
        "senut",
        (
            Shape("accent", ((0.0, 1.0), (0.71, _TOP), (1.42, 1.0))),
            Shape("second", ((0.42, 1.0), (0.71, 0.42), (1.0, 1.0))),
        ),
        _SIDE,
        {"ink": (20, 60, 40), "accent": (40, 150, 70), "second": (235, 235, 225)},
    ),
    WordMark(
        "lusto",
        (
            Shape("accent", ((0.0, _TOP), (0.5, _TOP), (0.5, 1.0), (0.0, 1.0))),
            Shape("second", ((0.75, 0.1), (1.25, 0.1), (1.25, 1.0), (0.75, 1.0))),
        ),
        1.25,
        {"ink": (25, 25, 25), "accent": (225, 60, 40), "second": (245, 170, 30)},
    ),
)
