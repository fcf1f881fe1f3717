"""One picture and its boxes -> crops.

A crop holds a box with context around it, at about `oversample` times the window's resolution, so
that training can move, turn and scale the window inside it. It is cut from the upright picture,
as the scan sees it; the box that goes into the table is the one in the picture as stored.

Training takes what lies beside a box for background. So what other boxes hold, `ignore` boxes
included, is painted grey in a crop: a second logo in the context would be taught as background.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst import images
from nnst.boxes import Boxes
from nnst.config import setting
from nnst.crops.groups import seed_of
from nnst.records import Annotation, Crop, Origin

WINDOW_AREA = 75 * 22  # pixels, of the talk's window
MOST_ASPECT = 12.0  # of a window, either way
SMALLEST_SIDE = 16  # pixels of a window; less leaves a network nothing after its pooling
GREY = 128  # what lies outside a picture, here and in the pyramid's border
LEAST_VISIBLE = 0.25  # share of a box inside the picture that makes it worth a crop
MOST_OF_WINDOW, MOST_OF_BOX = 0.1, 0.3  # what background may share with a box, as shares of each
TRIES = 8  # windows drawn for each background crop wanted


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How crops are cut."""

    context: float = setting(2.0, "side of a crop over side of the window on its object")
    oversample: float = setting(1.5, "resolution of a crop over that of the window, at most")
    negatives: int = setting(16, "background crops cut from each picture")
    negative_label: tuple[str, ...] = setting((), "labels whose boxes are background, not logos")
    seed: int = setting(0, "decides where background crops are cut")

    def __post_init__(self) -> None:
        if not 1 <= self.context <= 8:
            raise ValueError(f"context must be from 1 to 8, got {self.context}")
        if not 0 < self.oversample <= 8:
            raise ValueError(f"oversample must be above 0 and at most 8, got {self.oversample}")
        if self.negatives < 0:
            raise ValueError(f"negatives must be 0 or more, got {self.negatives}")


def default_window(
    annotations: Sequence[Annotation], turned: Collection[str] = (), area: int = WINDOW_AREA
) -> tuple[int, int]:
    """(height, width) of the median aspect of all boxes that count, at this area in pixels.

    `turned` names the images that EXIF turns by a quarter: a wide logo is high in these as stored.
    Raises ValueError where no box counts.
    """
    aspects: list[float] = []
    for annotation in annotations:
        sides = boxes_.size_hw(annotation.boxes[~annotation.ignore])
        sides = sides[(sides > 0).all(axis=1)]  # (N, 2)
        stored = sides[:, 1] / sides[:, 0]
        aspects += (1 / stored if annotation.image in turned else stored).tolist()
    if not aspects:
        raise ValueError("no box to take the window's aspect from")
    aspect = min(max(float(np.median(aspects)), 1 / MOST_ASPECT), MOST_ASPECT)
    height, width = math.sqrt(area / aspect), math.sqrt(area * aspect)
    return max(SMALLEST_SIDE, round(height)), max(SMALLEST_SIDE, round(width))


def canonical_windows(boxes: Boxes, window_hw: tuple[int, int]) -> Boxes:
    """(N, 4) for each box the rectangle of the window's aspect with its centre and its area."""
    aspect = window_hw[1] / window_hw[0]
    area = np.maximum(boxes_.area(boxes), 1)  # (N,)
    window = np.stack([np.sqrt(area / aspect), np.sqrt(area * aspect)], axis=1)  # (N, 2) h, w
    return boxes_.from_center(boxes_.center(boxes), window)


def cut(
    pixels: NDArray[np.uint8], frame: NDArray[np.float32], hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """(h, w, 3) the frame (xyxy, may overhang: grey there) of the picture, resized to `hw`."""
    x0, y0 = math.floor(frame[0]), math.floor(frame[1])
    x1, y1 = max(x0 + 1, math.ceil(frame[2])), max(y0 + 1, math.ceil(frame[3]))
    height, width = pixels.shape[:2]
    inside = pixels[max(0, y0) : max(0, min(y1, height)), max(0, x0) : max(0, min(x1, width))]
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = (y1 - y0) - top - inside.shape[0], (x1 - x0) - left - inside.shape[1]
    if max(top, left, bottom, right) > 0:
        border = (GREY, GREY, GREY)
        inside = np.asarray(
            cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=border)
            if inside.size
            else np.full((y1 - y0, x1 - x0, 3), GREY, np.uint8),
            dtype=np.uint8,
        )
    return images.resize(inside, hw)


def cut_crops(
    pixels: NDArray[np.uint8],
    orientation: int,
    annotation: Annotation,
    window_hw: tuple[int, int],
    settings: CropSettings,
) -> Iterator[Crop]:
    """Every crop of one picture: its boxes first, then background away from every box.

    `pixels` are as stored; an annotation without boxes is a picture reviewed as background.
    """
    stored_hw = pixels.shape[0], pixels.shape[1]
    upright = images.upright(pixels, orientation)
    boxes = images.boxes_upright(annotation.boxes, stored_hw, orientation)
    hw = upright.shape[0], upright.shape[1]
    negative = np.array([label in settings.negative_label for label in annotation.labels], bool)
    avoid = boxes[~negative | annotation.ignore]
    cutter = _Cutter(upright, orientation, avoid, window_hw, settings)
    visible = boxes_.area(boxes_.clip(boxes, hw)) > LEAST_VISIBLE * boxes_.area(boxes)
    for index in np.flatnonzero(visible & ~annotation.ignore):
        label = "" if negative[index] else annotation.labels[index]
        yield cutter.cut(boxes[index], label, annotation.image_id)
    for box in background_boxes(hw, avoid, window_hw, settings, annotation.image_id):
        yield cutter.cut(box, "", annotation.image_id)


def cut_boxes(
    pixels: NDArray[np.uint8],
    orientation: int,
    boxes: Boxes,
    image_id: str,
    window_hw: tuple[int, int],
    settings: CropSettings,
    avoid: Boxes | None = None,
) -> list[Crop]:
    """Hard negatives: the crops of boxes of the upright picture, grey where one of `avoid` is."""
    upright = images.upright(pixels, orientation)
    hidden = boxes[:0] if avoid is None else avoid
    cutter = _Cutter(upright, orientation, hidden, window_hw, settings)
    return [replace(cutter.cut(box, "", image_id), origin="hard_negative") for box in boxes]


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts crops out of one upright picture."""

    upright: NDArray[np.uint8]
    orientation: int
    avoid: Boxes  # in the upright picture: logos and ignore boxes
    window_hw: tuple[int, int]
    settings: CropSettings

    def cut(self, box: NDArray[np.float32], label: str, image_id: str) -> Crop:
        """The crop of a box (in the upright picture), its window's sides times `context`."""
        window = canonical_windows(box[None], self.window_hw)
        frame_hw = boxes_.size_hw(window) * self.settings.context
        frame = boxes_.from_center(boxes_.center(window), frame_hw)[0]
        frame = np.concatenate([np.floor(frame[:2]), np.ceil(frame[2:])]).astype(np.float32)
        side_hw = np.array([frame[3] - frame[1], frame[2] - frame[0]])
        # Never enlarged here: a crop holds no more than the picture did.
        wanted = self.settings.oversample * np.array(self.window_hw) / boxes_.size_hw(window)[0]
        shrink = min(1.0, float(wanted.min()))
        hw = max(1, round(side_hw[0] * shrink)), max(1, round(side_hw[1] * shrink))

        def in_crop(boxes: Boxes) -> Boxes:
            moved = boxes_.shift(boxes, -frame[0], -frame[1])
            return boxes_.scale(moved, hw[1] / side_hw[1], hw[0] / side_hw[0])

        own = in_crop(box[None])
        shown = own if label else own[:0]  # background shows nothing of a logo
        pixels = _painted(cut(self.upright, frame, hw), in_crop(self.avoid), shown)
        origin: Origin = "positive" if label else "negative"
        return Crop(pixels, label, origin, image_id, self._stored(box), own[0])

    def _stored(self, box: NDArray[np.float32]) -> NDArray[np.float32]:
        """The box in the picture as stored."""
        upright_hw = self.upright.shape[0], self.upright.shape[1]
        stored_hw = images.upright_hw(upright_hw, self.orientation)  # its own inverse
        stored: NDArray[np.float32] = images.boxes_stored(box[None], stored_hw, self.orientation)
        return stored[0]


def _painted(pixels: NDArray[np.uint8], hidden: Boxes, shown: Boxes) -> NDArray[np.uint8]:
    """The pixels, grey where a hidden box reaches and no shown one does."""
    result = pixels.copy()
    for boxes, source in ((hidden, np.full_like(pixels, GREY)), (shown, pixels)):
        whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
        for x0, y0, x1, y1 in boxes_.clip(whole, result.shape[:2]).astype(int).tolist():
            result[y0:y1, x0:x1] = source[y0:y1, x0:x1]
    return result


def background_boxes(
    hw: tuple[int, int],
    avoid: Boxes,
    window_hw: tuple[int, int],
    settings: CropSettings,
    image_id: str,
) -> Boxes:
    """(N, 4) windows inside the picture that share next to nothing with any box of `avoid`.

    Sizes are spread evenly over the scales at which the picture will be scanned. N is
    `settings.negatives`, or fewer where the boxes leave no room. The same picture and seed give
    the same windows, whatever else is cut.
    """
    count = settings.negatives
    if count == 0:
        return np.zeros((0, 4), np.float32)
    rng = np.random.default_rng(seed_of(image_id, settings.seed))
    largest = min(hw[0] / window_hw[0], hw[1] / window_hw[1])
    smallest = min(0.75, largest)
    scales = np.exp(rng.uniform(np.log(smallest), np.log(largest), count * TRIES))
    sizes = scales[:, None] * np.array(window_hw)  # (T, 2)
    room = np.maximum(0, np.array(hw) - sizes)  # (T, 2) for the top left corner
    corner = rng.uniform(size=sizes.shape) * room  # (T, 2) y, x
    tries = np.concatenate([corner[:, ::-1], (corner + sizes)[:, ::-1]], axis=1)
    tries = tries.astype(np.float32)
    if len(avoid):
        shared = boxes_.pairwise_intersection(tries, avoid)  # (T, M)
        covered = shared / np.maximum(boxes_.area(tries)[:, None], 1)
        of_box = shared / np.maximum(boxes_.area(avoid)[None], 1)
        tries = tries[((covered < MOST_OF_WINDOW) & (of_box < MOST_OF_BOX)).all(axis=1)]
    return tries[:count]


def picture_to_look_at(crop: Crop, window_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(h, w, 3) the window on the crop's box, for people."""
    window = canonical_windows(crop.box_in_crop[None], window_hw)[0]
    return cut(crop.pixels, window, window_hw)
