"""Suppression keeps what a plain double loop keeps, whatever the order and the ties."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import boxes as boxes_
from nnst import nms
from nnst.records import Detections


def suppress_plainly(
    detections: Detections, iou_threshold: float, nested_threshold: float
) -> list[tuple]:
    """The rows kept by the definition of greedy suppression, best first: one after the other."""
    kept: list[tuple] = []
    for score, label, box in sorted(rows_of(detections), key=lambda row: (-row[0], *row[1:])):
        one = boxes_.as_boxes([box])
        others = boxes_.as_boxes([other for _, of_label, other in kept if of_label == label])
        shared = boxes_.pairwise_intersection(others, one)[:, 0]
        smaller = np.minimum(boxes_.area(others), boxes_.area(one))
        nested = (nested_threshold < 1) & (shared > np.float32(nested_threshold) * smaller)
        too_close = boxes_.pairwise_iou(others, one)[:, 0] > np.float32(iou_threshold)
        if not (too_close | nested).any():
            kept.append((score, label, box))
    return kept


def rows_of(detections: Detections) -> list[tuple]:
    return list(
        zip(
            detections.scores.tolist(),
            detections.labels.tolist(),
            detections.boxes.tolist(),
            strict=True,
        )
    )


@st.composite
def crowds(draw: st.DrawFn, max_size: int = 40) -> Detections:
    """Boxes on a coarse grid with scores from a short list, so that all kinds of ties occur."""
    side = st.integers(0, 6)
    rows = draw(
        st.lists(
            st.tuples(side, side, side, side, st.sampled_from([0.25, 0.5, 1.0]), st.integers(1, 2)),
            max_size=max_size,
        )
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    corners = table[:, :2]
    return Detections(np.hstack([corners, corners + table[:, 2:4]]), table[:, 4], table[:, 5])


THRESHOLDS = st.sampled_from([0.0, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.75, 0.8, 1.0])


@settings(max_examples=200, deadline=None)
@given(detections=crowds(), iou_threshold=THRESHOLDS, nested_threshold=THRESHOLDS)
def test_suppression_is_the_plain_double_loop_under_ties(
    detections: Detections, iou_threshold: float, nested_threshold: float
) -> None:
    found = nms.non_max_suppression(detections, iou_threshold, nested_threshold)
    assert rows_of(found) == suppress_plainly(detections, iou_threshold, nested_threshold)


@settings(max_examples=60, deadline=None)
@given(detections=crowds(60), block=st.integers(1, 9), nested_threshold=THRESHOLDS)
def test_the_size_of_a_block_changes_nothing(
    detections: Detections, block: int, nested_threshold: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "BLOCK", block)
        found = nms.non_max_suppression(detections, 0.3, nested_threshold)
    assert rows_of(found) == suppress_plainly(detections, 0.3, nested_threshold)


@settings(max_examples=60, deadline=None)
@given(detections=crowds(), seed=st.integers(0, 99))
def test_the_order_in_which_boxes_come_is_forgotten(detections: Detections, seed: int) -> None:
    mixed = detections[np.random.default_rng(seed).permutation(len(detections))]
    found = nms.non_max_suppression(detections, 0.3, 0.8)
    assert rows_of(nms.non_max_suppression(mixed, 0.3, 0.8)) == rows_of(found)


def test_many_boxes_over_several_blocks_are_the_plain_double_loop() -> None:
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 300, (1300, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 60, (1300, 2))])
    many = Detections(boxes, np.round(rng.random(1300), 2), rng.integers(1, 4, 1300))
    assert len(many) > 2 * nms.BLOCK
    found = nms.non_max_suppression(many, 0.3, 0.8)
    assert rows_of(found) == suppress_plainly(many, 0.3, 0.8)


def test_nothing_in_nothing_out() -> None:
    assert len(nms.non_max_suppression(Detections.empty(), 0.5)) == 0


def test_the_better_of_two_that_overlap_is_kept() -> None:
    pair = Detections([[0, 0, 10, 10], [1, 0, 11, 10]], [0.6, 0.9], [1, 1])  # IoU 9 / 11
    assert nms.non_max_suppression(pair, 0.5).boxes.tolist() == [[1, 0, 11, 10]]
    assert len(nms.non_max_suppression(pair, 0.9)) == 2


def test_an_iou_of_just_the_threshold_is_not_above_it() -> None:
    pair = Detections([[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.8], [1, 1])  # IoU 1 / 2
    assert len(nms.non_max_suppression(pair, 0.5)) == 2


def test_labels_do_not_suppress_each_other() -> None:
    pair = Detections([[0, 0, 10, 10], [0, 0, 10, 10]], [0.6, 0.9], [1, 2])
    assert nms.non_max_suppression(pair, 0.5).labels.tolist() == [2, 1]


def test_what_a_suppressed_box_overlaps_stays() -> None:
    """The middle of three in a row is lost to the first, and so cannot suppress the third."""
    row = Detections([[0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]], [0.9, 0.8, 0.7], [1, 1, 1])
    assert nms.non_max_suppression(row, 0.3).boxes[:, 0].tolist() == [0, 8]


def test_nested_boxes_are_lost_to_the_better_one_only_when_asked() -> None:
    """IoU between the sizes of neighbouring octaves is low, whichever of the two is better."""
    pair = Detections([[0, 0, 40, 40], [10, 10, 20, 20]], [0.9, 0.8], [1, 1])  # IoU 1 / 16
    assert len(nms.non_max_suppression(pair, 0.3)) == 2
    assert nms.non_max_suppression(pair, 0.3, 0.8).boxes[:, 0].tolist() == [0]
    other = Detections(pair.boxes, [0.8, 0.9], [1, 1])
    assert nms.non_max_suppression(other, 0.3, 0.8).boxes[:, 0].tolist() == [10]


@pytest.mark.parametrize("thresholds", [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (0.5, 2.0)])
def test_thresholds_beyond_0_and_1_are_refused(thresholds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"thresholds lie in \[0, 1\]"):
        nms.non_max_suppression(Detections.empty(), *thresholds)


def test_memory_does_not_grow_with_pairs() -> None:
    """6,000 boxes apart from each other: an N x N table of floats would take 144 MB."""
    step = np.arange(6_000) * 10.0
    boxes = np.stack([step % 2000, step // 2000 * 10, step % 2000 + 5, step // 2000 * 10 + 5], 1)
    apart = Detections(boxes, np.linspace(0.1, 1, 6_000), np.ones(6_000))
    tracemalloc.start()
    kept = nms.non_max_suppression(apart, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 6_000
    assert peak < 32 << 20


# --- Survivors


@settings(max_examples=100, deadline=None)
@given(detections=crowds(), iou_threshold=THRESHOLDS)
def test_survivors_are_the_rows_that_suppression_keeps(
    detections: Detections, iou_threshold: float
) -> None:
    """In the order in which they came, which says who is better: no score is looked at."""
    ordered = detections[nms.ranking(detections)]
    index = nms.survivors(ordered.boxes, ordered.labels, iou_threshold)
    assert (np.diff(index) > 0).all()
    kept = nms.non_max_suppression(detections, iou_threshold)
    assert rows_of(ordered[index]) == rows_of(kept)


def test_of_no_box_none_survives() -> None:
    none = Detections.empty()
    assert nms.survivors(none.boxes, none.labels, 0.5).shape == (0,)


def test_labels_survive_beside_each_other() -> None:
    boxes = boxes_.as_boxes([[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10]])
    assert nms.survivors(boxes, np.array([2, 1, 2]), 0.5).tolist() == [0, 1]
