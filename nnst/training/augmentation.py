"""Random views of a crop: how the logo is turned, what light, lens and codec did to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.crops import GREY
from nnst.training.settings import AugmentSettings

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (3, 3) homogeneous, crop pixels -> something else

_RAMP = np.arange(256) / 255.0
_BYTES_APART = 256 / math.sqrt(6)  # standard deviation of the difference of two random bytes
_PERSPECTIVE_REACH = 0.4  # most that a side's far end may shrink or grow

# A logo seldom fills the corners of its box, so a rectangle would grow too much when it is turned:
# the outline is a superellipse of exponent 4, between an ellipse and a rectangle.
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_OUTLINE = np.stack(
    [
        np.sign(np.cos(_ANGLES)) * np.sqrt(np.abs(np.cos(_ANGLES))),
        np.sign(np.sin(_ANGLES)) * np.sqrt(np.abs(np.sin(_ANGLES))),
        np.ones(len(_ANGLES)),
    ]
)  # (3, 24) in half sides of the box


@dataclass(frozen=True, slots=True)
class Distortion:
    """A logo turned, slanted, stretched and tilted, in a plane of its own.

    `matrix` maps crop pixels into the plane; `box` (4,) holds the logo there. At no distortion the
    plane is the crop with the box's centre in its origin.
    """

    matrix: Matrix
    box: NDArray[np.float64]

    @property
    def center(self) -> NDArray[np.float64]:
        """(x, y) of the box in the plane."""
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def size(self) -> NDArray[np.float64]:
        """(width, height) of the box in the plane."""
        return self.box[2:] - self.box[:2]


def distort(
    box: NDArray[np.float32], settings: AugmentSettings, rng: np.random.Generator
) -> Distortion:
    """The box of a crop under a random change of shape, its centre kept."""
    x0, y0, x1, y1 = box.tolist()
    half = max((x1 - x0) / 2, 1e-3), max((y1 - y0) / 2, 1e-3)
    spread = settings.rotate, settings.shear, settings.stretch / 2
    angle, slant, log_stretch = (rng.standard_normal(3) * spread).tolist()
    tilt_x, tilt_y = np.clip(
        rng.standard_normal(2) * settings.perspective, -_PERSPECTIVE_REACH, _PERSPECTIVE_REACH
    ).tolist()
    turn, stretch = math.radians(angle), math.exp(log_stretch)
    cos, sin = math.cos(turn), math.sin(turn)
    # A rotation, after a slant, after a stretch: written out, as it is done for every window.
    shape = np.array(
        [
            [cos * stretch, (cos * slant - sin) / stretch, 0],
            [sin * stretch, (sin * slant + cos) / stretch, 0],
            [tilt_x / half[0], tilt_y / half[1], 1],
        ]
    )
    outline = shape @ (_OUTLINE * ((half[0],), (half[1],), (1.0,)))  # (3, 24)
    points = outline[:2] / outline[2]
    centred = np.array([[1, 0, -(x0 + x1) / 2], [0, 1, -(y0 + y1) / 2], [0, 0, 1]])
    return Distortion(shape @ centred, np.concatenate([points.min(axis=1), points.max(axis=1)]))


def frame(
    center: NDArray[np.float64], scale: NDArray[np.float64], at: tuple[float, float]
) -> Matrix:
    """(3, 3) plane -> window: the plane's `center` comes to `at`, (x, y) scaled by `scale`."""
    offset = np.array(at) - scale * center
    return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]], [0, 0, 1]])


def warp(
    pixels: Pixels, matrix: Matrix, hw: tuple[int, int], border: int = cv2.BORDER_CONSTANT
) -> Pixels:
    """(h, w, 3) the crop seen through the matrix; grey, or cv2's `border`, where it has nothing."""
    zoom = _zoom(matrix, pixels.shape)
    while zoom < 0.5 and min(pixels.shape[:2]) > 1:
        # Linear sampling sees 2 x 2 pixels and would skip some: halved first, as the pyramid does.
        height, width = pixels.shape[:2]
        half = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(half, np.uint8)
        matrix = matrix * (width / (width // 2), height / (height // 2), 1)
        zoom *= 2
    # The matrix speaks of pixel corners, cv2 of pixel centres.
    centred = matrix.copy()
    centred[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2
    centred[:2] -= centred[2] / 2
    size, grey = hw[::-1], (GREY, GREY, GREY)
    if matrix[2, 0] == 0 == matrix[2, 1]:
        found = cv2.warpAffine(pixels, centred[:2], size, borderMode=border, borderValue=grey)
    else:
        found = cv2.warpPerspective(pixels, centred, size, borderMode=border, borderValue=grey)
    return np.asarray(found, np.uint8)


def _zoom(matrix: Matrix, shape: tuple[int, ...]) -> float:
    """Window pixels for one of the crop, along a side, in the crop's middle."""
    denominator = matrix[2] @ (shape[1] / 2, shape[0] / 2, 1)
    area = np.linalg.det(matrix) / max(denominator, 1e-6) ** 3
    return math.sqrt(abs(area))


def corners(matrix: Matrix, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """(4, 2) where the corners of a box of the crop come to lie, in turn."""
    x0, y0, x1, y1 = box
    points = matrix @ np.array([[x0, x1, x1, x0], [y0, y0, y1, y1], [1, 1, 1, 1]])
    return (points[:2] / np.maximum(points[2], 1e-3)).T


def paste(window: Pixels, scenery: Pixels, polygon: NDArray[np.float64]) -> Pixels:
    """The window inside the polygon, the scenery outside of it, the edge softened."""
    mask = np.zeros(window.shape[:2], np.uint8)
    fixed = np.clip(np.round(polygon * 16 - 8), -(1 << 24), 1 << 24).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, shift=4)
    cv2.blur(mask, (3, 3), dst=mask, borderType=cv2.BORDER_REPLICATE)
    share = cv2.merge([mask, mask, mask])
    seen = cv2.multiply(window, share, scale=1 / 255)
    return np.asarray(cv2.add(seen, cv2.multiply(scenery, 255 - share, scale=1 / 255)), np.uint8)


def degrade(pixels: Pixels, settings: AugmentSettings, rng: np.random.Generator) -> Pixels:
    """The window as another light, lens, sensor and codec would have given it."""
    result = _light(pixels, settings, rng)
    changes = (
        (settings.occlude, _occlude),
        (settings.blur, _blur),
        (settings.noise, _noise),
        (settings.jpeg, _jpeg),
    )
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


def _occlude(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Something of one colour stands before a part of it."""
    height, width = pixels.shape[:2]
    sides = rng.uniform(0.08, 0.4, 2) * (height, width)
    corner = rng.uniform(-0.1, 1, 2) * (height, width)
    (y0, x0), (y1, x1) = np.maximum(corner, 0).astype(int), np.ceil(corner + sides).astype(int)
    result = pixels.copy()
    result[y0:y1, x0:x1] = rng.integers(0, 256, 3)
    return result


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
