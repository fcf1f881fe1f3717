"""Box arithmetic against plain twins, on boxes that may be empty, tiny or outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnst import boxes
from nnst.boxes import Boxes

FEW = settings(max_examples=60, deadline=None)

# Eighths of a pixel: float32 holds them, their halves and their sums exactly.
eighths = st.integers(-4_000, 4_000).map(lambda number: number / 8)


@st.composite
def box_sets(draw: st.DrawFn, least: int = 0) -> Boxes:
    """(N, 4) boxes of 0 to 8 rows; sides may be 0."""
    rows = draw(st.lists(st.tuples(eighths, eighths, eighths, eighths), min_size=least, max_size=8))
    corners = np.array(rows, dtype=np.float32).reshape(-1, 2, 2)  # (N, corner, axis)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def plain_iou(box1: list[float], box2: list[float]) -> float:
    """The twin: one pair, no arrays."""
    width = min(box1[2], box2[2]) - max(box1[0], box2[0])
    height = min(box1[3], box2[3]) - max(box1[1], box2[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    area1 = (box1[2] - box1[0]) * (box1[3] - box1[1])
    area2 = (box2[2] - box2[0]) * (box2[3] - box2[1])
    union = area1 + area2 - shared
    return shared / union if union > 0 else 0.0


# --- as_boxes: the door


@pytest.mark.parametrize("empty", [[], (), [[]], np.zeros((0, 4)), np.zeros((0, 7)), np.zeros(0)])
def test_an_empty_input_of_any_shape_becomes_no_boxes(empty: Any) -> None:
    found = boxes.as_boxes(empty)
    assert (found.shape, found.dtype) == ((0, 4), np.float32)


def test_as_boxes_returns_a_float32_copy() -> None:
    given_boxes = np.array([[0, 1, 2, 3]], dtype=np.float32)
    found = boxes.as_boxes(given_boxes)
    found[0, 0] = 9
    assert found.dtype == np.float32
    assert given_boxes[0, 0] == 0


def test_a_box_without_area_is_a_box() -> None:
    assert boxes.as_boxes([[5, 5, 5, 5]]).tolist() == [[5, 5, 5, 5]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 0, 1, 1], "shape"),  # one box, not a row of boxes
        ([[0, 0, 1]], "shape"),
        ([[0, 0, 1, 1, 1]], "shape"),
        ([[[0, 0, 1, 1]]], "shape"),
        ([[0, 0, float("nan"), 1]], "finite"),
        ([[float("-inf"), 0, 1, 1]], "finite"),
        ([[2, 0, 1, 1]], "x0 <= x1"),
        ([[0, 2, 1, 1]], "y0 <= y1"),
        ([[0, 0, 1, 1], [0, 0, -1, 1]], "x0 <= x1"),  # the second row
    ],
)
def test_as_boxes_refuses_what_is_no_set_of_boxes(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boxes.as_boxes(values)


# --- centre and size


def test_sizes_are_height_then_width_and_centres_x_then_y() -> None:
    box = boxes.as_boxes([[10, 20, 40, 30]])
    assert boxes.size_hw(box).tolist() == [[10, 30]]
    assert boxes.center(box).tolist() == [[25, 25]]
    assert boxes.area(box).tolist() == [300]


@FEW
@given(box_sets())
def test_a_box_comes_back_from_its_centre_and_size(given_boxes: Boxes) -> None:
    again = boxes.from_center(boxes.center(given_boxes), boxes.size_hw(given_boxes))
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, given_boxes)


def test_one_size_serves_all_centres() -> None:
    found = boxes.from_center([[10, 10], [20, 40]], (22, 75))
    assert found.tolist() == [[-27.5, -1, 47.5, 21], [-17.5, 29, 57.5, 51]]


@FEW
@given(box_sets())
def test_area_is_height_times_width(given_boxes: Boxes) -> None:
    np.testing.assert_array_equal(
        boxes.area(given_boxes), boxes.size_hw(given_boxes).prod(axis=1, dtype=np.float32)
    )


# --- clip, shift, scale


@FEW
@given(box_sets(), st.integers(1, 600), st.integers(1, 600))
def test_clip_keeps_exactly_what_lies_in_the_picture(
    given_boxes: Boxes, height: int, width: int
) -> None:
    found = boxes.clip(given_boxes, (height, width))
    picture = boxes.as_boxes([[0, 0, width, height]])
    np.testing.assert_array_equal(
        boxes.area(found), boxes.pairwise_intersection(given_boxes, picture)[:, 0]
    )
    assert (found >= 0).all()
    assert (found[:, [0, 2]] <= width).all()
    assert (found[:, [1, 3]] <= height).all()
    np.testing.assert_array_equal(boxes.clip(found, (height, width)), found)


def test_clip_leaves_a_box_inside_as_it_is() -> None:
    inside = boxes.as_boxes([[0, 0, 30, 20], [1.5, 2.5, 3.5, 4.5]])
    np.testing.assert_array_equal(boxes.clip(inside, (20, 30)), inside)


@FEW
@given(box_sets(), eighths, eighths)
def test_shift_moves_x_by_dx_and_y_by_dy_and_back(given_boxes: Boxes, dx: float, dy: float) -> None:
    moved = boxes.shift(given_boxes, dx, dy)
    expected = [[x0 + dx, y0 + dy, x1 + dx, y1 + dy] for x0, y0, x1, y1 in given_boxes.tolist()]
    assert moved.tolist() == expected
    np.testing.assert_array_equal(boxes.shift(moved, -dx, -dy), given_boxes)


@FEW
@given(box_sets(), st.floats(0.05, 20), st.floats(0.05, 20))
def test_scale_multiplies_x_by_one_and_y_by_the_other_and_back(
    given_boxes: Boxes, scale_x: float, scale_y: float
) -> None:
    scaled = boxes.scale(given_boxes, scale_x, scale_y)
    expected = [
        [x0 * scale_x, y0 * scale_y, x1 * scale_x, y1 * scale_y]
        for x0, y0, x1, y1 in given_boxes.tolist()
    ]
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, np.reshape(expected, (-1, 4)), rtol=1e-6)
    back = boxes.scale(scaled, 1 / scale_x, 1 / scale_y)
    np.testing.assert_allclose(back, given_boxes, rtol=1e-6)


# --- intersection over union


@FEW
@given(box_sets(), box_sets())
def test_iou_equals_its_plain_twin(boxes1: Boxes, boxes2: Boxes) -> None:
    found = boxes.pairwise_iou(boxes1, boxes2)
    expected = [[plain_iou(one, two) for two in boxes2.tolist()] for one in boxes1.tolist()]
    assert (found.shape, found.dtype) == ((len(boxes1), len(boxes2)), np.float32)
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=1e-5, atol=1e-6)


@FEW
@given(box_sets(), box_sets())
def test_iou_is_symmetric_and_between_0_and_1(boxes1: Boxes, boxes2: Boxes) -> None:
    found = boxes.pairwise_iou(boxes1, boxes2)
    np.testing.assert_array_equal(found, boxes.pairwise_iou(boxes2, boxes1).T)
    assert (found >= 0).all()
    assert (found <= 1).all()


@FEW
@given(box_sets(least=1))
def test_a_box_with_area_is_all_of_itself_and_one_without_is_nothing(given_boxes: Boxes) -> None:
    own = np.diagonal(boxes.pairwise_iou(given_boxes, given_boxes))
    np.testing.assert_array_equal(own, (boxes.area(given_boxes) > 0).astype(np.float32))


@FEW
@given(
    st.lists(st.tuples(*[st.floats(0, 1e5, width=32)] * 4), min_size=1, max_size=6),
)
def test_iou_stays_between_0_and_1_on_any_float(rows: list[tuple[float, ...]]) -> None:
    """Rounding must not lift a score over 1: nested and nearly equal boxes of any size."""
    corners = np.array(rows, dtype=np.float32).reshape(-1, 2, 2)
    given_boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    found = boxes.pairwise_iou(given_boxes, given_boxes)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


@pytest.mark.parametrize(
    ("box1", "box2", "expected"),
    [
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),  # half of each
        ([0, 0, 10, 10], [10, 0, 20, 10], 0),  # half-open: they touch and share nothing
        ([0, 0, 10, 10], [2, 2, 4, 4], 0.04),  # one inside the other
        ([0, 0, 10, 10], [5, 5, 5, 5], 0),  # a point inside
        ([3, 3, 3, 3], [3, 3, 3, 3], 0),  # two empty boxes: no 0 / 0
        ([0, 0, 0, 10], [0, 0, 10, 0], 0),  # two crossing lines
    ],
)
def test_iou_of_cases_worked_by_hand(box1: list[float], box2: list[float], expected: float) -> None:
    found = boxes.pairwise_iou(boxes.as_boxes([box1]), boxes.as_boxes([box2]))
    assert found.item() == pytest.approx(expected)


def test_no_boxes_have_no_pairs() -> None:
    none, two = boxes.as_boxes([]), boxes.as_boxes([[0, 0, 1, 1], [1, 1, 2, 2]])
    assert boxes.pairwise_iou(none, two).shape == (0, 2)
    assert boxes.pairwise_iou(two, none).shape == (2, 0)
    assert boxes.pairwise_iou(none, none).shape == (0, 0)


# --- deltas


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Boxes, Boxes]:
    """Two (N, 4) sets of boxes, each with sides from 1 to 1000."""
    sides = st.floats(1, 1000, width=32)
    row = st.tuples(eighths, eighths, sides, sides)
    rows = draw(st.lists(st.tuples(row, row), max_size=6))
    values = np.array(rows, np.float32).reshape(-1, 2, 4)
    return tuple(  # type: ignore[return-value]
        boxes.from_center(part[:, :2], part[:, :1:-1]) for part in (values[:, 0], values[:, 1])
    )


@FEW
@given(pairs())
def test_a_box_moved_by_its_deltas_is_the_target(pair: tuple[Boxes, Boxes]) -> None:
    one, other = pair
    found = boxes.move(one, boxes.deltas(one, other))
    assert (found.shape, found.dtype) == (one.shape, np.float32)
    np.testing.assert_allclose(found, other, atol=0.01)


@FEW
@given(pairs())
def test_deltas_equal_their_plain_twin(pair: tuple[Boxes, Boxes]) -> None:
    found = boxes.deltas(*pair)
    expected = []
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in zip(*(part.tolist() for part in pair), strict=True):
        width, height = x1 - x0, y1 - y0
        right, down = (u0 + u1 - x0 - x1) / 2, (v0 + v1 - y0 - y1) / 2
        larger = math.log((u1 - u0) / width), math.log((v1 - v0) / height)
        expected.append((right / width, down / height, *larger))
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 4)), rtol=1e-3, atol=1e-3)


def test_deltas_worked_by_hand() -> None:
    box = boxes.as_boxes([[10, 20, 30, 60]])  # 20 wide, 40 high
    by = np.array([[0.5, -0.25, math.log(2), math.log(0.5)]], np.float32)
    np.testing.assert_allclose(boxes.move(box, by), [[10, 20, 50, 40]], rtol=1e-6)
    np.testing.assert_allclose(boxes.deltas(box, boxes.as_boxes([[10, 20, 50, 40]])), by, rtol=1e-6)


def test_no_deltas_move_nothing() -> None:
    box = boxes.as_boxes([[1.5, 2, 30, 40], [5, 6, 7, 8]])
    np.testing.assert_array_equal(boxes.move(box, np.zeros((2, 4), np.float32)), box)
    np.testing.assert_array_equal(boxes.deltas(box, box), np.zeros((2, 4)))


# --- arguments


@pytest.mark.parametrize(
    "function",
    [
        boxes.as_boxes,
        boxes.size_hw,
        boxes.area,
        boxes.center,
        lambda given_boxes: boxes.from_center(given_boxes[:, :2], given_boxes[:, 2:]),
        lambda given_boxes: boxes.clip(given_boxes, (9, 9)),
        lambda given_boxes: boxes.clip(given_boxes, (900, 900)),  # nothing to cut: still a copy
        lambda given_boxes: boxes.shift(given_boxes, 0, 0),
        lambda given_boxes: boxes.scale(given_boxes, 1, 1),
        lambda given_boxes: boxes.pairwise_intersection(given_boxes, given_boxes),
        lambda given_boxes: boxes.pairwise_iou(given_boxes, given_boxes),
        lambda given_boxes: boxes.move(given_boxes, np.zeros_like(given_boxes)),
        lambda given_boxes: boxes.deltas(*[boxes.from_center(given_boxes[:, :2], (5, 5))] * 2),
    ],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_no_function_changes_or_hands_back_its_argument(
    function: Callable[[Boxes], NDArray[Any]], rows: int
) -> None:
    given_boxes = boxes.as_boxes([[1, 2, 30, 40], [5, 6, 7, 8], [9, 9, 9, 9]][:rows])
    before = given_boxes.copy()
    given_boxes.setflags(write=False)  # a write would raise
    found = function(given_boxes)
    assert not np.shares_memory(found, given_boxes)
    assert found.flags.writeable
    np.testing.assert_array_equal(given_boxes, before)
