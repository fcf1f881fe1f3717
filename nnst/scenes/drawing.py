"""A word mark drawn into a photograph as a camera would have seen it: at an angle, in its light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images
from nnst.boxes import Boxes
from nnst.scenes import signs
from nnst.scenes.artwork import OTHERS, OURS, WordMark
from nnst.scenes.signs import Sign

SMALLEST, LARGEST = 45, 0.6  # width of a mark: pixels, and share of the picture's width
OTHER = "other"  # the label of word marks that are not ours

_SIZES_HW = ((480, 640), (480, 720), (540, 720), (600, 800), (600, 900))
_TURNS = ((24, 42), (12, 20), (3.5, 8))  # yaw, pitch, roll: standard deviation and most, in degrees
_OVERSAMPLING = 2  # of a sign over the picture, so that a tilted one has no stairs
_TRIES = 40  # to find a place for a sign

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Canvas = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn picture, and where its word marks are."""

    pixels: Pixels  # (H, W, 3) RGB
    boxes: Boxes  # (N, 4) tight around each mark, in whole pixels
    labels: tuple[str, ...]  # (N,) the name of our mark, or OTHER
    quality: int  # of the JPEG that it is to be written as


@dataclass(frozen=True, slots=True)
class _Pose:
    """How a flat sign is turned towards the camera, and where it lies in the picture.

    On the sign, 1 is the height of the artwork, and (0, 0) the middle.
    """

    turn: NDArray[np.float64]  # (3, 3)
    distance: float  # of the camera
    scale: float = 1.0  # pixels per 1
    origin: tuple[float, float] = (0.0, 0.0)  # x, y in pixels

    def corners(self, hw: tuple[float, float]) -> NDArray[np.float32]:
        """(4, 2) pixels x, y of the corners of a rectangle of this size on the sign."""
        unit = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        turned = unit * np.array(hw[::-1]) / 2 @ self.turn[:, :2].T  # (4, 3)
        seen = turned[:, :2] * self.distance / (self.distance + turned[:, 2:])
        return (seen * self.scale + self.origin).astype(np.float32)


def draw(photograph: Pixels, ours: int, others: int, rng: Generator) -> Scene:
    """A view of the photograph with so many marks of ours and of others, or fewer where it has no
    room left."""
    canvas = np.divide(_view(photograph, rng), 255, dtype=np.float32)
    marks = [OURS] * ours + [OTHERS[int(rng.integers(len(OTHERS)))] for _ in range(others)]
    places: list[tuple[int, int, int, int]] = []
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[str] = []
    for mark in marks:
        found = _find_place(mark, (canvas.shape[0], canvas.shape[1]), places, rng)
        if found is not None:
            pose, place = found
            places.append(place)
            boxes.append(_put_up(canvas, mark, pose, place, rng))
            labels.append(mark.name if mark is OURS else OTHER)
    quality = int(rng.integers(50, 93))
    return Scene(_photographed(canvas, rng), boxes_.as_boxes(boxes), tuple(labels), quality)


def _view(photograph: Pixels, rng: Generator) -> Pixels:
    """(H, W, 3) a part of the photograph at a size that pictures have, mirrored or not."""
    hw = _SIZES_HW[int(rng.integers(len(_SIZES_HW)))]
    height, width = photograph.shape[:2]
    # Photograph pixels per picture pixel; at most the whole photograph is seen.
    scale = min(height / hw[0], width / hw[1]) * rng.uniform(0.6, 1.0)
    part = int(hw[0] * scale), int(hw[1] * scale)
    top = int(rng.integers(height - part[0] + 1))
    left = int(rng.integers(width - part[1] + 1))
    view = photograph[top : top + part[0], left : left + part[1]]
    view = view[:, ::-1] if rng.random() < 0.5 else view
    view = images.resize(np.ascontiguousarray(view), hw)
    if np.ptp(view[::8, ::8], axis=2).max() < 8:  # grey; walls are warmer or colder than that
        warmth = rng.uniform(-0.12, 0.12)
        tint = np.array([1 + warmth, 1.0, 1 - warmth]) / (1 + abs(warmth))
        view = (view * tint).astype(np.uint8)
    return view


def _find_place(
    mark: WordMark,
    hw: tuple[int, int],
    places: list[tuple[int, int, int, int]],
    rng: Generator,
) -> tuple[_Pose, tuple[int, int, int, int]] | None:
    """A pose for the mark's sign and the part of the picture (xyxy) that it takes, which meets no
    other sign's; None when none was found."""
    for _ in range(_TRIES):
        width = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST * hw[1])))
        pose = _pose(mark, float(width), rng)
        corners = pose.corners(signs.size(mark))
        w, h = np.ceil(np.ptp(corners, axis=0)).astype(int) + 2
        if w > hw[1] or h > hw[0]:
            continue
        x, y = int(rng.integers(hw[1] - w + 1)), int(rng.integers(hw[0] - h + 1))
        place = (x, y, x + int(w), y + int(h))
        taken = boxes_.as_boxes(places)
        if not boxes_.pairwise_intersection(boxes_.as_boxes([place]), taken).any():
            left, top = np.array([x, y]) + 1 - corners.min(axis=0)
            return replace(pose, origin=(float(left), float(top))), place
    return None


def _pose(mark: WordMark, width: float, rng: Generator) -> _Pose:
    """A way to look at the mark in which it is so many pixels wide; where is still open."""
    degrees = [float(np.clip(rng.normal(0, usual), -most, most)) for usual, most in _TURNS]
    yaw, pitch, roll = (_rotation(axis, degrees[axis]) for axis in range(3))
    height, length = mark.size_hw(1000)
    pose = _Pose(roll @ pitch @ yaw, distance=length / height * rng.uniform(1.3, 4.0))
    seen = np.ptp(pose.corners((1.0, length / height))[:, 0])
    return replace(pose, scale=width / float(seen))


def _rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """(3, 3) the turn to the side (axis 0), up and down (1), or clockwise (2)."""
    a, b = ((0, 2), (1, 2), (0, 1))[axis]
    turn = np.eye(3)
    turn[[a, b], [a, b]] = np.cos(np.radians(degrees))
    turn[a, b], turn[b, a] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
    return turn


def _put_up(
    canvas: Canvas,
    mark: WordMark,
    pose: _Pose,
    place: tuple[int, int, int, int],
    rng: Generator,
) -> tuple[int, int, int, int]:
    """Draw the mark's sign into its place on the canvas; the mark's own box (xyxy)."""
    x0, y0, x1, y1 = place
    ground = canvas[y0:y1, x0:x1]
    sign = signs.draw_sign(mark, round(pose.scale * _OVERSAMPLING), ground, rng)
    corners = pose.corners(signs.size(mark)) - np.array([x0, y0], np.float32)
    sign = _turned(sign, corners, (y1 - y0, x1 - x0))
    ground[:] = _blended(ground, sign, rng)
    x, y, width, height = cv2.boundingRect((sign.masks[..., 0] > 0.5).astype(np.uint8))
    return x0 + x, y0 + y, x0 + x + width, y0 + y + height


def _turned(sign: Sign, corners: NDArray[np.float32], hw: tuple[int, int]) -> Sign:
    """The sign with its corners at these places of a picture of this size."""
    height, width = sign.layer.shape[:2]
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # OpenCV's coordinates are of the middles of pixels, ours of their corners.
    seen = (corners * _OVERSAMPLING - 0.5).astype(np.float32)
    turn = cv2.getPerspectiveTransform(flat - 0.5, seen)
    large = hw[1] * _OVERSAMPLING, hw[0] * _OVERSAMPLING
    layer, masks = (
        cv2.resize(cv2.warpPerspective(item, turn, large), hw[::-1], interpolation=cv2.INTER_AREA)
        for item in (sign.layer, sign.masks)
    )
    return Sign(np.asarray(layer, np.float32), np.asarray(masks, np.float32), sign.painted)


def _blended(ground: Canvas, sign: Sign, rng: Generator) -> Canvas:
    """What is seen at the sign's place: its shadow, and the sign in the light of that place."""
    hw = ground.shape[:2]
    grey = ground.mean(axis=2, keepdims=True)  # (h, w, 1)
    light = np.clip(0.5 + 0.7 * grey.mean(), 0.55, 1.0) * _gradient(hw, 0.25, rng)
    if sign.painted:  # the wall's roughness shows in the paint
        rough = grey / cv2.GaussianBlur(grey, (0, 0), 8.0)[..., None].clip(0.05)
        light = light * np.clip(rough, 0.6, 1.3)
    tint = 1 + 0.35 * (ground.mean(axis=(0, 1)) - grey.mean())  # (3,) of all that is around
    opacity = rng.uniform(0.85, 0.97) if sign.painted else rng.uniform(0.95, 1.0)
    shaded = ground * (1 - sign.masks[..., 1:])
    colour = np.clip(sign.layer[..., :3] * light * tint, 0, 1)
    return (shaded * (1 - opacity * sign.layer[..., 3:]) + opacity * colour).astype(np.float32)


def _gradient(hw: tuple[int, int], most: float, rng: Generator) -> Canvas:
    """(H, W, 1) light that changes evenly across the picture, by up to `most` around 1."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
    y, x = np.mgrid[-1 : 1 : hw[0] * 1j, -1 : 1 : hw[1] * 1j]
    slope = (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    return (1 + strength * slope)[..., None].astype(np.float32)


def _photographed(canvas: Canvas, rng: Generator) -> Pixels:
    """The scene as a camera takes it: light, exposure, colour, blur and noise."""
    seen = canvas * _gradient(canvas.shape[:2], 0.3, rng)
    seen = np.clip(seen * np.exp(rng.normal(0, 0.05, 3)), 0, 1) ** np.exp(rng.normal(0, 0.2))
    blur = rng.uniform(0, 1.3)
    if blur > 0.4:
        seen = cv2.GaussianBlur(seen, (0, 0), blur)
    noise = rng.standard_normal(seen.shape, np.float32) * rng.uniform(0.0, 0.025)
    return np.clip((seen + noise) * 255 + 0.5, 0, 255).astype(np.uint8)
