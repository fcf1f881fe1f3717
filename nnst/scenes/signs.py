"""A word mark as it is put up: on a plate in one of its colours, or painted on what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nnst.scenes.artwork import Colour, Role, WordMark, render

MARGIN = 0.55  # around the artwork, in its heights: room for a plate and its shadow

_WHITE: Colour = (250, 250, 250)
_PAPER: tuple[Colour, ...] = ((247, 247, 245), (238, 232, 216), (205, 212, 216))
_EVEN = 0.13  # standard deviation of what may be painted on
_SHADOW = 0.35  # how much of the light a plate takes from what is around it
_ROUND = 0.1  # radius of a plate's corners

Layer = NDArray[np.float32]
_Style = tuple[Mapping[Role, Colour], Colour | None]  # of the mark, and the plate's if it has one


@dataclass(frozen=True, slots=True)
class Sign:
    """A flat sign in front of the camera. Colours are in [0, 1], and times alpha."""

    layer: Layer  # (H, W, 4) RGB and alpha of all that is seen
    masks: Layer  # (H, W, 2) alpha of the mark alone; share of light that the shadow takes
    painted: bool  # on what is there, whose texture is then seen through it


def size(mark: WordMark) -> tuple[float, float]:
    """(height, width) of the mark's sign, in heights of the artwork."""
    height, width = mark.size_hw(1000)
    return 1 + 2 * MARGIN, width / height + 2 * MARGIN


def draw_sign(mark: WordMark, height: int, ground: Layer, rng: Generator) -> Sign:
    """A sign with the artwork at this height in pixels, for a place that looks like `ground`."""
    colours, plate = _style(mark, ground, rng)
    artwork = render(mark, colours, height)
    pad = round(MARGIN * height)
    layer = cv2.copyMakeBorder(artwork, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    mask, shadow = layer[..., 3].copy(), np.zeros(layer.shape[:2], np.float32)
    if plate is not None:
        under = _plate(layer.shape[:2], height, rng)
        shadow = _SHADOW * cv2.GaussianBlur(under, (0, 0), 0.07 * height)
        colour = np.array([*plate, 255], np.float32) / 255
        layer = layer + under[..., None] * colour * (1 - layer[..., 3:])
    return Sign(layer.astype(np.float32), np.stack([mask, shadow], axis=2), plate is None)


def _style(mark: WordMark, ground: Layer, rng: Generator) -> _Style:
    """Colours in which the mark can be read, painted on the ground or on a plate."""
    lightness, unevenness = float(ground.mean()), float(ground.mean(axis=2).std())
    own = mark.colours
    ink = own["ink"] if lightness > 0.5 else _WHITE
    on_walls: tuple[_Style, ...] = (
        ({**own, "ink": ink}, None),
        ({"ink": ink, "accent": ink, "second": ink}, None),
    )
    on_plates: tuple[_Style, ...] = (
        (own, _PAPER[int(rng.integers(len(_PAPER)))]),
        ({**own, "ink": _WHITE}, own["ink"]),
        ({"ink": _WHITE, "accent": _WHITE, "second": own["ink"]}, own["accent"]),
    )
    if unevenness < _EVEN and rng.random() < 0.6:
        return on_walls[int(rng.choice(2, p=(0.7, 0.3)))]
    return on_plates[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]


def _plate(hw: tuple[int, int], height: int, rng: Generator) -> Layer:
    """(H, W) alpha of a plate with round corners around the artwork."""
    alpha = np.zeros(hw, np.float32)
    inset = round((MARGIN - rng.uniform(0.22, 0.4)) * height)
    radius = max(1, round(_ROUND * height))
    x0, y0, x1, y1 = inset, inset, hw[1] - 1 - inset, hw[0] - 1 - inset
    for grow_x, grow_y in ((radius, 0), (0, radius)):
        corner0, corner1 = (x0 + grow_x, y0 + grow_y), (x1 - grow_x, y1 - grow_y)
        cv2.rectangle(alpha, corner0, corner1, 1.0, cv2.FILLED)
    for x in (x0 + radius, x1 - radius):
        for y in (y0 + radius, y1 - radius):
            cv2.circle(alpha, (x, y), radius, 1.0, cv2.FILLED, cv2.LINE_AA)
    return alpha
