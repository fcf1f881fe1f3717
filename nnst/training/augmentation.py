"""Random views of a crop: where the window lies on it, and what light, lens and codec did to it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst.crops import GREY
from nnst.training.settings import AugmentSettings

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]  # (2, 3) crop pixels -> window pixels


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
    side = np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1e-6))
    zoom = size * np.sqrt(height * width) / side
    turn = np.deg2rad(rng.normal() * settings.rotate)
    stretch = np.exp(rng.normal() * settings.stretch / 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    slant = np.array([[1, rng.normal() * settings.shear], [0, 1]])
    linear = zoom * rotation @ slant @ np.diag([stretch, 1 / stretch])
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    offset = np.array([width / 2 + dx, height / 2 + dy]) - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


def warp(pixels: Pixels, matrix: Matrix, hw: tuple[int, int]) -> Pixels:
    """(h, w, 3) the crop seen through the matrix; grey where the crop has nothing."""
    shrink = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink < 0.7:  # bilinear sampling would skip pixels: shrink by area first
        small = max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink))
        factor = np.array([pixels.shape[1] / small[0], pixels.shape[0] / small[1]])
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = np.concatenate([matrix[:, :2] * factor, matrix[:, 2:]], axis=1)
    # The matrix speaks of pixel corners, cv2 of pixel centres.
    half = np.array([0.5, 0.5])
    centred = np.concatenate(
        [matrix[:, :2], (matrix[:, :2] @ half + matrix[:, 2] - half)[:, None]], axis=1
    )
    grey = (GREY, GREY, GREY)
    size = (hw[1], hw[0])
    return np.asarray(cv2.warpAffine(pixels, centred, size, borderValue=grey), np.uint8)


def paste(window: Pixels, background: Pixels, box: NDArray[np.float32], matrix: Matrix) -> Pixels:
    """The window with all that lies outside the box taken from the background, edges softened."""
    corners = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]])
    outline = corners @ matrix[:, :2].T + matrix[:, 2]  # (4, 2) in the window
    mask = np.zeros(window.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(outline).astype(np.int32), 255)
    soft = np.asarray(cv2.GaussianBlur(mask, (3, 3), 0), np.float32)[..., None] / 255
    return (window * soft + background * (1 - soft) + 0.5).astype(np.uint8)


def degrade(pixels: Pixels, settings: AugmentSettings, rng: np.random.Generator) -> Pixels:
    """The window as another light, lens, sensor and codec would have given it."""
    result = _light(pixels, settings, rng)
    for share, change in ((settings.blur, _blur), (settings.noise, _noise), (settings.jpeg, _jpeg)):
        if rng.random() < share:
            result = change(result, rng)
    return result


def _light(pixels: Pixels, settings: AugmentSettings, rng: np.random.Generator) -> Pixels:
    exponent = np.exp(rng.normal() * settings.gamma)
    contrast = np.exp(rng.normal() * settings.contrast)
    channel = np.exp(rng.normal(size=3) * settings.channel)
    ramp = (np.arange(256) / 255.0) ** exponent  # one curve for each value, then for each channel
    curve = ((ramp - 0.5) * contrast + 0.5)[:, None] * channel * 255  # (256, 3)
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
    grain = rng.normal(size=pixels.shape) * rng.uniform(1, 9)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    # Channel order does not matter to the blocks; the codec is used for its losses only.
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    _, data = cv2.imencode(".jpg", pixels, quality)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
