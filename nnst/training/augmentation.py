"""Random views of a crop: where the window lies on it, and what light, lens and codec did to it."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.crops import GREY
from nnst.training.settings import AugmentSettings

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (2, 3) crop pixels -> window pixels

_RAMP = np.arange(256) / 255.0
_BYTES_APART = 256 / math.sqrt(6)  # standard deviation of the difference of two random bytes


def view(
    box: NDArray[np.float32],
    window_hw: tuple[int, int],
    placement: tuple[float, float, float],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Matrix:
    """The matrix that lays the window over a box of the crop, turned and stretched at random.

    `placement` is (dx, dy, scale): by how many window pixels the box's centre is off the window's
    centre, and how large the box appears; at (0, 0, 1) box and window have one area.
    """
    dx, dy, size = placement
    height, width = window_hw
    x0, y0, x1, y1 = box.tolist()
    area = max((x1 - x0) * (y1 - y0), 1e-6)
    spread = settings.rotate, settings.shear, settings.stretch / 2
    angle, slant, log_stretch = (rng.standard_normal(3) * spread).tolist()
    turn, stretch = math.radians(angle), math.exp(log_stretch)
    cos, sin = math.cos(turn), math.sin(turn)
    # A rotation, after a slant, after a stretch: written out, as it is done for every window.
    linear = np.array(
        [
            [cos * stretch, (cos * slant - sin) / stretch],
            [sin * stretch, (sin * slant + cos) / stretch],
        ]
    )
    linear *= size * math.sqrt(height * width / area)
    offset = (width / 2 + dx, height / 2 + dy) - linear @ ((x0 + x1) / 2, (y0 + y1) / 2)
    return np.column_stack([linear, offset])


def warp(pixels: Pixels, matrix: Matrix, hw: tuple[int, int]) -> Pixels:
    """(h, w, 3) the crop seen through the matrix; grey where the crop has nothing."""
    linear, offset = matrix[:, :2], matrix[:, 2]
    zoom = math.sqrt(abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0]))
    while zoom < 0.5 and min(pixels.shape[:2]) > 1:
        # Linear sampling sees 2 x 2 pixels and would skip some: halved first, as the pyramid does.
        height, width = pixels.shape[:2]
        half = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(half, np.uint8)
        linear = linear * (width / (width // 2), height / (height // 2))
        zoom *= 2
    # The matrix speaks of pixel corners, cv2 of pixel centres.
    centred = np.column_stack([linear, linear.sum(axis=1) / 2 + offset - 0.5])
    border = (GREY, GREY, GREY)
    return np.asarray(cv2.warpAffine(pixels, centred, hw[::-1], borderValue=border), np.uint8)


def paste(window: Pixels, background: Pixels, box: NDArray[np.float32], matrix: Matrix) -> Pixels:
    """The window with all that lies outside the box taken from the background, edges softened."""
    x0, y0, x1, y1 = box.tolist()
    inverse = np.linalg.inv(matrix[:, :2])
    x = np.arange(window.shape[1]) + 0.5 - matrix[0, 2]  # (w,)
    y = (np.arange(window.shape[0]) + 0.5 - matrix[1, 2])[:, None]  # (h, 1)
    u, v = (row[0] * x + row[1] * y for row in inverse)  # (h, w) each: crop pixels
    inside = np.minimum(np.minimum(u - x0, x1 - u), np.minimum(v - y0, y1 - v))
    inside /= math.sqrt(abs(np.linalg.det(inverse)))  # window pixels from the nearest edge
    share = np.clip(inside / 2 + 0.5, 0, 1).astype(np.float32)[..., None]
    mixed = background + (window.astype(np.float32) - background) * share
    return (mixed + 0.5).astype(np.uint8)


def degrade(pixels: Pixels, settings: AugmentSettings, rng: np.random.Generator) -> Pixels:
    """The window as another light, lens, sensor and codec would have given it."""
    result = _light(pixels, settings, rng)
    changes = (settings.blur, _blur), (settings.noise, _noise), (settings.jpeg, _jpeg)
    for share, change in changes:
        if rng.random() < share:
            result = change(result, rng)
    return result


def _light(pixels: Pixels, settings: AugmentSettings, rng: np.random.Generator) -> Pixels:
    spread = settings.gamma, settings.contrast, *[settings.channel] * 3
    exponent, contrast, *channel = np.exp(rng.standard_normal(5) * spread).tolist()
    ramp = (_RAMP**exponent - 0.5) * (255 * contrast) + 127.5  # (256,) of each value
    curve = np.multiply.outer(ramp, channel) + 0.5  # (256, 3)
    table = np.clip(curve, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table[None]), np.uint8)


def _blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.3)), np.uint8)
    height, width = pixels.shape[:2]
    factor = rng.uniform(0.45, 0.9)  # seen from farther away, and enlarged again
    small = max(4, round(width * factor)), max(4, round(height * factor))
    shrunk = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height)), np.uint8)


def _noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    # The difference of two bytes is spread like a triangle: near enough to normal, and far cheaper.
    ups, downs = rng.integers(0, 256, (2, *pixels.shape), np.uint8)
    grain = cv2.subtract(ups, downs, dtype=cv2.CV_16S)
    strength = rng.uniform(1, 9) / _BYTES_APART
    return np.asarray(cv2.addWeighted(pixels, 1, grain, strength, 0, dtype=cv2.CV_8U), np.uint8)


def _jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    # Channel order does not matter to the blocks; the codec is used for its losses only.
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    _, data = cv2.imencode(".jpg", pixels, quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
