"""Hard negatives are what a detector takes for a logo, and never a logo.

Where suspects have to lie at set places, `Pointer` is the detector: it points there, whatever it
is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import boxes as boxes_
from nnst import crops, images, mining, models
from nnst.crops import CropSettings
from nnst.detector import Cascade, Detector, DetectorSettings, Sliding
from nnst.models import Model
from nnst.records import Annotation, Crop, Detections, ModelSpec

Draw = Callable[..., np.ndarray]

SPEC = ModelSpec("mlp", ("background", "mark"), (24, 40), 4, widths=(1,))
MINED = CropSettings(context=1.7)


class Pointer(Detector):
    """Points at the same boxes of any picture, best first."""

    def __init__(self, boxes: boxes_.Boxes) -> None:
        super().__init__(Model(SPEC, models.build(SPEC), "digest", {}))
        self.boxes = boxes

    def detect_all(
        self, pictures: Sequence[np.ndarray], enlarge: Sequence[float]
    ) -> list[Detections]:
        count = len(self.boxes)
        return [Detections(self.boxes, np.ones(count), np.ones(count)) for _ in pictures]

    def suspects(self, pixels: np.ndarray, count: int) -> boxes_.Boxes:
        return self.boxes[:count]


def annotated(
    boxes: Sequence[Sequence[float]], labels: Sequence[str] = (), ignore: Sequence[bool] = ()
) -> Annotation:
    count = len(boxes)
    return Annotation(
        "a.png",
        "f" * 64,
        boxes_.as_boxes(boxes),
        tuple(labels or ["mark"] * count),
        np.array(ignore or [False] * count, bool),
        np.zeros(count, bool),
    )


def places(found: Sequence[Crop]) -> list[list[float]]:
    return [crop.box.tolist() for crop in found]


NOTHING = annotated([])


# --- What is cut


def test_suspects_of_a_picture_without_a_logo_are_cut_as_they_were_pointed_at(
    draw: Draw, picture_of: Any
) -> None:
    """Best first, no more than asked for, with their context around them."""
    pixels = draw([], seed=1)
    boxes = boxes_.as_boxes([[20, 30, 60, 54], [100, 40, 180, 88], [150, 100, 190, 124]])
    found = mining.hard_negatives(Pointer(boxes), picture_of(pixels), NOTHING, 2, MINED)
    assert places(found) == boxes[:2].tolist()
    for crop in found:
        assert (crop.label, crop.origin, crop.image_id) == ("", "hard_negative", "f" * 64)
        x0, y0, x1, y1 = np.round(crop.box_in_crop).astype(int)
        shown = crop.pixels[y0:y1, x0:x1]
        wanted = crops.cut(pixels, crop.box, shown.shape[:2])
        assert np.abs(shown.astype(int) - wanted.astype(int)).mean() < 8
    side = boxes_.size_hw(boxes[:1])[0]
    first = found[0].box_in_crop
    assert first[2] - first[0] < found[0].pixels.shape[1] < 2 * (first[2] - first[0])
    assert side[1] / side[0] == pytest.approx(
        (first[2] - first[0]) / (first[3] - first[1]), rel=0.1
    )


BOX = st.tuples(
    st.integers(-20, 200), st.integers(-20, 140), st.integers(4, 120), st.integers(4, 90)
).map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3]))


@settings(max_examples=60, deadline=None)
@given(
    suspects=st.lists(BOX, min_size=1, max_size=8),
    truth=st.lists(BOX, min_size=1, max_size=3),
    ignore=st.lists(st.booleans(), min_size=3, max_size=3),
    orientation=st.integers(1, 8),
)
def test_no_suspect_is_cut_that_may_be_a_logo(
    suspects: list[Any],
    truth: list[Any],
    ignore: list[bool],
    orientation: int,
    draw: Draw,
    picture_of: Any,
) -> None:
    """None that overlaps a box by 0.25, `ignore` boxes too; all others, however it is turned."""
    pointer = Pointer(boxes_.as_boxes(suspects))
    picture = picture_of(draw([], seed=2), orientation)
    known = annotated(truth, ignore=ignore[: len(truth)])
    found = mining.hard_negatives(pointer, picture, known, 99, MINED)
    stored_hw = picture.pixels.shape[:2]
    upright = images.boxes_upright(known.boxes, stored_hw, orientation)
    overlap = boxes_.pairwise_iou(pointer.boxes, upright).max(axis=1)
    assert len(found) == (overlap < 0.25).sum()
    for crop in found:
        assert boxes_.pairwise_iou(crop.box[None], known.boxes).max() < 0.25 + 1e-4


def test_boxes_that_are_no_logo_explain_nothing(draw: Draw, picture_of: Any) -> None:
    """A mark that looks like the logo and is none is the best of all hard negatives."""
    boxes = [(20, 30, 60, 54), (100, 40, 180, 88)]
    pointer, picture = Pointer(boxes_.as_boxes(boxes)), picture_of(draw(boxes, seed=3))
    truth = annotated(boxes, labels=["other", "mark"])
    assert mining.hard_negatives(pointer, picture, truth, 9, MINED) == []
    named = CropSettings(context=1.7, negative_label=("other",))
    (found,) = mining.hard_negatives(pointer, picture, truth, 9, named)
    assert found.box.tolist() == list(map(float, boxes[0]))
    assert found.label == ""
    unsure = annotated(boxes, labels=["other", "mark"], ignore=[True, False])
    assert mining.hard_negatives(pointer, picture, unsure, 9, named) == []


def test_a_logo_beside_a_suspect_is_painted_over(draw: Draw, picture_of: Any) -> None:
    """It would be taught as background."""
    logo = (70, 30, 110, 54)
    pointer = Pointer(boxes_.as_boxes([[24, 30, 64, 54]]))
    picture = picture_of(draw([logo], seed=4))
    wide = CropSettings(context=4.0)
    (bare,) = mining.hard_negatives(pointer, picture, NOTHING, 9, wide)
    (painted,) = mining.hard_negatives(pointer, picture, annotated([logo]), 9, wide)
    changed = (bare.pixels != painted.pixels).any(axis=2)
    assert changed.any()
    assert (painted.pixels[changed] == crops.GREY).all()
    x0, y0, x1, y1 = np.round(painted.box_in_crop).astype(int)
    assert not changed[y0:y1, x0:x1].any()


def test_boxes_of_a_turned_picture_are_told_as_it_is_stored(draw: Draw, picture_of: Any) -> None:
    stored = np.ascontiguousarray(np.rot90(draw([], seed=5)))
    suspect = boxes_.as_boxes([[20, 30, 60, 54]])  # of the upright picture
    (found,) = mining.hard_negatives(Pointer(suspect), picture_of(stored, 6), NOTHING, 9, MINED)
    expected = images.boxes_stored(suspect, stored.shape[:2], 6)
    np.testing.assert_allclose(found.box[None], expected)


def test_nothing_suspected_is_nothing_cut(draw: Draw, picture_of: Any) -> None:
    none = Pointer(boxes_.as_boxes([]))
    for truth in (NOTHING, annotated([(20, 30, 60, 54)])):
        assert mining.hard_negatives(none, picture_of(draw([])), truth, 9, MINED) == []


# --- With real detectors


@pytest.mark.parametrize("kind", [Sliding, Cascade])
def test_a_detector_is_shown_what_it_takes_for_a_logo_and_not_the_logo(
    kind: type[Detector], mark_model: str, mark_cascade: str, draw: Draw, picture_of: Any
) -> None:
    """Two marks, of which one is known: the other one is the first suspect that is cut."""
    marks = [(20, 20, 80, 56), (110, 80, 190, 128)]
    picture = picture_of(draw(marks, seed=6))
    model = models.load(mark_model if kind is Sliding else mark_cascade)
    detector = kind(model, DetectorSettings(min_score=0.0))  # type: ignore[call-arg,arg-type]
    found = mining.hard_negatives(detector, picture, annotated(marks[:1]), 8, MINED)
    assert 1 <= len(found) <= 8
    best = max(
        boxes_.pairwise_iou(crop.box[None], boxes_.as_boxes(marks[1:])) for crop in found[:2]
    )
    assert best > 0.5
    known = boxes_.as_boxes(marks[:1])
    assert all(boxes_.pairwise_iou(crop.box[None], known)[0, 0] < 0.25 for crop in found)


@pytest.mark.parametrize("window_hw", [(16, 64), (24, 44), (44, 24), (32, 32)], ids=str)
def test_crops_are_cut_for_a_window_of_the_models_aspect_and_the_usual_area(
    window_hw: tuple[int, int],
) -> None:
    spec = ModelSpec("scout", ("", "object"), window_hw, 4)
    height, width = mining.crop_window(spec)
    assert width / height == pytest.approx(window_hw[1] / window_hw[0], rel=0.05)
    assert width * height == pytest.approx(crops.WINDOW_AREA, rel=0.05)
