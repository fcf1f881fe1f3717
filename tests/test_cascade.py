"""The cascade finds a drawn mark, moves its box onto it, and sees a picture alike in any company.

The cascade is taught the mark in a few seconds, see conftest. What has to hold of a detector of any
kind is in test_detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import boxes as boxes_
from nnst import detector as detectors
from nnst import images, models
from nnst.detector import Cascade, DetectorSettings, Sliding
from nnst.detector.pictures import AT_ONCE, batches
from nnst.errors import ConfigError, InputError
from nnst.models import Model
from nnst.pyramid import Halves
from nnst.records import Detections, ModelSpec
from nnst.stopwatch import Stopwatch
from nnst.windows import GPU_CANVAS

Draw = Callable[..., np.ndarray]

BOXES = (  # xyxy, on scenes of 160 x 220
    (20, 30, 60, 54),
    (101, 63, 151, 93),
    (33, 21, 143, 87),
    (120, 20, 200, 68),
    (90, 110, 126, 132),
    (0, 0, 50, 30),  # in a corner
    (160, 124, 220, 160),  # in the other
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(mark_cascade: str) -> Model:
    return models.load(mark_cascade)


@pytest.fixture(scope="module")
def cascade(model: Model) -> Cascade:
    return Cascade(model)


def iou(found: Detections, box: tuple[float, ...]) -> float:
    """IoU of the best detection with a box."""
    return float(boxes_.pairwise_iou(found.boxes[:1], boxes_.as_boxes([box]))[0, 0])


def detect(detector: Cascade, pixels: np.ndarray) -> Detections:
    return detector.detect_all([pixels], [1.0])[0]


def same(one: Detections, other: Detections) -> bool:
    """Bit for bit."""
    return (
        np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.labels, other.labels)
    )


# --- Where the mark is


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_the_mark_is_found_at_its_place_and_size(
    box: tuple[int, int, int, int], cascade: Cascade, draw: Draw
) -> None:
    found = detect(cascade, draw([box], seed=7))
    assert found.scores[0] > 0.9
    assert iou(found, box) > 0.75
    assert found.labels[0] == 1
    assert (found.scores[1:] < 0.5).all()


def test_two_marks_are_two_detections_and_an_empty_scene_has_none(
    cascade: Cascade, draw: Draw
) -> None:
    pair = [(10, 10, 60, 40), (90, 70, 180, 124)]
    found = detect(cascade, draw(pair, seed=8))
    sure = found[found.scores > 0.5]
    assert len(sure) == 2
    assert (boxes_.pairwise_iou(sure.boxes, boxes_.as_boxes(pair)).max(axis=0) > 0.75).all()
    assert not (detect(cascade, draw([], seed=9)).scores > 0.5).any()


def test_the_judge_moves_boxes_closer_to_the_mark_than_the_scout_gave_them(
    cascade: Cascade, draw: Draw
) -> None:
    """And the second look moves them closer still, on the average of many marks."""
    gains = []
    for seed, box in enumerate(BOXES):
        halves = Halves(draw([box], seed=20 + seed))
        proposed = cascade.propose([halves], [1.0])[0].boxes
        truth = boxes_.as_boxes([box])
        near = proposed[boxes_.pairwise_iou(proposed, truth)[:, 0] > 0.4]
        assert len(near)
        _, once = cascade.judge.verdict(halves, near)
        _, twice = cascade.judge.verdict(halves, once)
        gains += [
            [boxes_.pairwise_iou(each, truth)[row, 0] for each in (near, once, twice)]
            for row in range(len(near))
        ]
    proposed_iou, once_iou, twice_iou = np.mean(gains, axis=0)
    assert once_iou > proposed_iou + 0.05
    assert twice_iou > once_iou
    assert twice_iou > 0.8


def test_what_the_scout_points_at_comes_best_first_and_no_two_are_alike(
    model: Model, draw: Draw
) -> None:
    scout = replace(model.spec.stages[0], threshold=0.01)
    spec = replace(model.spec, stages=(scout, model.spec.stages[1]))
    cascade = Cascade(replace(model, spec=spec))
    (proposed,) = cascade.propose([Halves(draw([BOXES[0]], seed=3))], [1.0])
    assert len(proposed.boxes) == len(proposed.odds) > 1
    assert (np.diff(proposed.odds) <= 0).all()
    overlap = boxes_.pairwise_iou(proposed.boxes, proposed.boxes)
    assert (overlap[~np.eye(len(overlap), dtype=bool)] <= 0.5).all()
    threshold = cascade.scout_spec.threshold
    assert proposed.odds.min() >= np.log(threshold / (1 - threshold)) - 1e-6


def test_a_bound_on_candidates_keeps_the_best(model: Model, draw: Draw) -> None:
    """Eight for any picture, and more for a large one, and for one that is looked at closely."""
    scout = replace(model.spec.stages[0], threshold=1e-6)
    open_minded = replace(model, spec=replace(model.spec, stages=(scout, model.spec.stages[1])))
    halves = [Halves(draw([BOXES[2]], hw=(600, 800)))]
    detectors = [
        Cascade(open_minded, DetectorSettings(candidates_per_megapixel=most)) for most in (300, 4)
    ]
    many, few = (detector.propose(halves, [1])[0] for detector in detectors)
    assert detectors[0].scored_per_pixel == pytest.approx(1.5**2 * 4 / 3)
    assert len(few.boxes) == 8 + 6  # 0.48 megapixels, of which 1.44 are scored
    assert len(many.boxes) > 3 * len(few.boxes)
    assert np.array_equal(few.boxes, many.boxes[: len(few.boxes)])


# --- Alike in any company


def pictures(draw: Draw, picture_of: Any) -> list[images.Picture]:
    """Of several sizes and turns, with marks and without."""
    drawn = [
        draw([BOXES[0]], seed=30),
        draw([], seed=31, hw=(40, 60)),
        draw([(100, 60, 260, 156)], seed=32, hw=(300, 420)),
        draw([(0, 0, 30, 18)], seed=33, hw=(18, 30)),
        draw([BOXES[1], (10, 120, 50, 144)], seed=34),
        np.full((1, 1, 3), 77, np.uint8),
    ]
    return [picture_of(pixels, 1 + index) for index, pixels in enumerate(drawn)]


def test_several_pictures_at_once_give_what_each_gives_alone(
    cascade: Cascade, draw: Draw, picture_of: Any
) -> None:
    """To the bit, in this order and the other, though their levels share canvases."""
    every = pictures(draw, picture_of)
    alone = [cascade.detect_stored(picture) for picture in every]
    assert sum(len(found) for found in alone) >= 3
    for order in (list(range(len(every))), list(range(len(every)))[::-1]):
        together = cascade.detect_pictures([every[index] for index in order])
        for index, found in zip(order, together, strict=True):
            assert same(found, alone[index])


def test_the_large_canvas_of_a_gpu_gives_nearly_what_small_ones_give(
    cascade: Cascade, model: Model, draw: Draw, picture_of: Any
) -> None:
    """And to the bit the same in whatever company, as all of it is one pass of one shape."""
    every, large = pictures(draw, picture_of), Cascade(model)
    large.canvas = GPU_CANVAS
    together = large.detect_pictures(every)
    for picture, found in zip(every, together, strict=True):
        assert same(found, large.detect_stored(picture))
        plain = cascade.detect_stored(picture)
        sure = plain[plain.scores > 0.5]
        best = found[: len(sure)]
        np.testing.assert_allclose(best.boxes, sure.boxes, atol=1.0)
        np.testing.assert_allclose(best.scores, sure.scores, atol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_finds_what_the_cpu_finds_in_whatever_company(
    cascade: Cascade, model: Model, draw: Draw, picture_of: Any
) -> None:
    every, there = pictures(draw, picture_of), Cascade(model, device="cuda")
    together = there.detect_pictures(every)
    for picture, found in zip(every, together, strict=True):
        assert same(found, there.detect_stored(picture))
        plain = cascade.detect_stored(picture)
        sure = plain[plain.scores > 0.5]
        np.testing.assert_allclose(found[: len(sure)].boxes, sure.boxes, atol=1.0)


def test_no_pictures_give_no_detections(cascade: Cascade) -> None:
    assert cascade.detect_pictures([]) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_gives_the_same_boxes_as_they_lie_in_it(
    orientation: int, cascade: Cascade, draw: Draw, picture_of: Any
) -> None:
    upright = draw([BOXES[1], (10, 120, 50, 144)], seed=34)
    # A quarter turn is undone by the other one, all else by itself.
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    stored = images.upright(upright, undo)
    assert np.array_equal(images.upright(stored, orientation), upright)
    found = cascade.detect_stored(picture_of(stored, orientation))
    plain = detect(cascade, upright)
    assert len(found) == len(plain) >= 2
    expected = images.boxes_stored(plain.boxes, stored.shape[:2], orientation)
    np.testing.assert_allclose(found.boxes, expected, atol=0.011)
    assert np.array_equal(found.scores, plain.scores)


# --- Decoded at less than its size


def test_a_picture_decoded_at_half_its_sides_gives_nearly_the_same_boxes(
    model: Model, draw: Draw
) -> None:
    marks = [(40, 60, 140, 120), (250, 40, 400, 130), (180, 200, 300, 272)]
    pixels = draw(marks, seed=40, hw=(330, 451))
    jpeg = images.encode_jpeg(pixels, quality=95)
    detector = Cascade(model, DetectorSettings(min_width=48))
    assert detector.reduction == 2
    whole, half = (images.decode(jpeg, reduction=reduction) for reduction in (1, 2))
    assert half.pixels.shape[:2] == (165, 226)
    at_full, at_half = (detector.detect_stored(picture) for picture in (whole, half))
    for found in (at_full, at_half):
        sure = found[found.scores > 0.9]
        assert len(sure) == 3
        overlap = boxes_.pairwise_iou(sure.boxes, boxes_.as_boxes(marks))
        assert (overlap.max(axis=0) > 0.75).all()
    overlap = boxes_.pairwise_iou(at_half.boxes[:3], at_full.boxes[:3]).max(axis=0)
    assert (overlap > 0.75).all()
    # The levels are of the same sizes, whatever they were made from.
    sizes = [
        [level.pixels.shape for level in detector.levels(Halves(picture.pixels), enlarge)]
        for picture, enlarge in ((whole, 1.0), (half, 451 / 226))
    ]
    np.testing.assert_allclose(sizes[0], sizes[1], atol=2)


def test_a_turned_picture_may_be_decoded_at_half_its_sides_too(
    model: Model, draw: Draw, with_orientation: Any
) -> None:
    box = (40, 60, 140, 120)
    stored = np.ascontiguousarray(np.rot90(draw([box], seed=41, hw=(200, 301))))
    jpeg = with_orientation(images.encode_jpeg(stored, 95), 6)
    picture = images.decode(jpeg, reduction=2)
    assert picture.pixels.shape[:2] == (151, 100)
    assert (picture.header.height, picture.header.width) == (301, 200)
    found = Cascade(model, DetectorSettings(min_width=48)).detect_stored(picture)
    expected = images.boxes_stored(boxes_.as_boxes([box]), (301, 200), 6)
    assert found.scores[0] > 0.9
    assert iou(found, tuple(expected[0])) > 0.8
    assert (found.boxes <= [200, 301, 200, 301]).all()


def test_reduction_is_1_without_a_smallest_width_and_grows_with_it(model: Model) -> None:
    """What was decoded is never enlarged by more than 1.5 times, as where no width is asked for.

    The window is 24 pixels wide: a logo of the smallest width keeps 16 pixels at least.
    """
    assert Cascade(model).reduction == 1
    widths = [16, 31, 32, 63, 64, 127, 128, 2000]
    found = [Cascade(model, DetectorSettings(min_width=width)) for width in widths]
    assert [each.reduction for each in found] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert all(each.max_scale * each.reduction <= 1.5 for each in found)


# --- The smallest logo


def test_a_smallest_width_that_would_take_for_ever_is_refused_with_one_that_works(
    model: Model,
) -> None:
    """The largest level would have more than 64 times the picture's pixels."""
    with pytest.raises(ConfigError, match="give 3 pixels or more"):
        Cascade(model, DetectorSettings(min_width=2.9))
    Cascade(model, DetectorSettings(min_width=3))


def test_the_largest_level_shows_the_smallest_logo_as_wide_as_the_window(
    model: Model, draw: Draw
) -> None:
    """Without one asked for, what is 1.5 times smaller than the window."""
    halves = Halves(draw([]))
    for min_width, expected in ((0, 1.5), (24, 1.0), (48, 0.5), (12, 2.0)):
        detector = Cascade(model, DetectorSettings(min_width=min_width))
        assert detector.levels(halves, 1.0)[0].scale_xy == (expected, expected)


def test_a_mark_below_the_smallest_width_is_not_looked_for(model: Model, draw: Draw) -> None:
    small, large = (20, 20, 50, 38), (80, 60, 200, 132)
    pixels = draw([small, large], seed=50)
    truth = boxes_.as_boxes([small, large])
    for min_width, wanted in ((24, [True, True]), (90, [False, True])):
        found = detect(Cascade(model, DetectorSettings(min_width=min_width)), pixels)
        overlap = boxes_.pairwise_iou(found.boxes[found.scores > 0.5], truth)
        assert (overlap.max(axis=0, initial=0) > 0.5).tolist() == wanted


# --- Tables


@settings(max_examples=25, deadline=None)
@given(
    hw=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    seed=st.integers(0, 99),
    enlarge=st.sampled_from([1.0, 1.97, 4.0]),
)
def test_pictures_of_any_size_give_a_valid_answer(
    cascade: Cascade, hw: tuple[int, int], seed: int, enlarge: float
) -> None:
    """Of noise, which a network answers with something everywhere."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
    (found,) = cascade.detect_all([pixels], [enlarge])
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [hw[1], hw[0], hw[1], hw[0]]).all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
    assert (boxes_.area(found.boxes) > 0).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0.01 - 5e-5) & (found.scores <= 1)).all()
    assert np.array_equal(found.boxes, np.round(found.boxes.astype(float), 2).astype("f4"))
    assert np.array_equal(found.scores, np.round(found.scores.astype(float), 4).astype("f4"))
    overlap = boxes_.pairwise_iou(found.boxes, found.boxes)
    assert (overlap[~np.eye(len(found), dtype=bool)] <= 0.3 + 0.05).all()  # rounded afterwards


def test_a_scout_that_points_at_nothing_leaves_an_empty_table(model: Model, draw: Draw) -> None:
    scout = replace(model.spec.stages[0], threshold=1 - 1e-12)
    blind = replace(model, spec=replace(model.spec, stages=(scout, model.spec.stages[1])))
    found = detect(Cascade(blind), draw([BOXES[0]]))
    assert (len(found), found.boxes.shape) == (0, (0, 4))


def test_min_score_and_max_detections_bound_the_table(model: Model, draw: Draw) -> None:
    pixels = draw([BOXES[0], BOXES[3], BOXES[4]], seed=60)
    every = detect(Cascade(model, DetectorSettings(min_score=0.0)), pixels)
    assert len(every) >= 3
    sure = detect(Cascade(model, DetectorSettings(min_score=0.9)), pixels)
    assert same(sure, every[every.scores >= 0.9])
    two = detect(Cascade(model, DetectorSettings(min_score=0.0, max_detections=2)), pixels)
    assert same(two, every[:2])


def with_label(model: Model, labels: tuple[str, ...], order: list[int]) -> Model:
    """The cascade with more labels: row i of the new last layer is row order[i] of the old."""
    scout, judge = model.spec.stages
    spec = replace(model.spec, labels=labels, stages=(scout, replace(judge, labels=labels)))
    network = models.networks.assemble(spec)
    weights = dict(model.network.state_dict())
    for name in ("judge.layers.score.weight", "judge.layers.score.bias"):
        weights[name] = weights[name][[*order, 2, 3, 4, 5]]
    network.load_state_dict(weights, assign=True)
    return Model(spec, network.eval(), "digest", {})


def test_the_label_of_the_logit_is_the_label_of_the_detection(model: Model, draw: Draw) -> None:
    """Of two labels that score the same everywhere there are as many boxes, at the same places."""
    pixels = draw([BOXES[0]], seed=61)
    plain = detect(Cascade(model), pixels)
    twins = detect(Cascade(with_label(model, ("", "a", "b"), [0, 1, 1])), pixels)
    sure = twins[twins.scores > 0.3]
    assert sure.labels.tolist() == [1, 2]
    # A last layer of another shape rounds otherwise.
    np.testing.assert_allclose(sure.boxes, plain.boxes[[0, 0]], atol=0.011)
    swapped = detect(Cascade(with_label(model, ("", "a", "b"), [0, 0, 1])), pixels)
    assert swapped.labels[0] == 2
    np.testing.assert_allclose(swapped.boxes[0], plain.boxes[0], atol=0.011)


def test_calibration_changes_scores_and_not_boxes(model: Model, draw: Draw) -> None:
    pixels = draw([BOXES[0]], seed=62)
    halved = replace(model, spec=replace(model.spec, calibration=(0.5, 0.0)))
    one, other = (detect(Cascade(each), pixels) for each in (model, halved))
    assert np.array_equal(one.boxes[0], other.boxes[0])
    odds = [np.log(score / (1 - score)) for score in (one.scores[0], other.scores[0])]
    assert odds[1] == pytest.approx(odds[0] / 2, abs=0.15)


# --- What else it tells


def test_suspects_are_what_the_judge_believes_most_each_before_and_after_its_move(
    cascade: Cascade, draw: Draw
) -> None:
    pixels = draw([BOXES[1]], seed=63)
    truth = boxes_.as_boxes([BOXES[1]])
    suspects = cascade.suspects(pixels, 6)
    assert 2 <= len(suspects) <= 6
    before, after = boxes_.pairwise_iou(suspects[:2], truth)[:, 0]
    assert 0.3 < before < after
    _, moved = cascade.judge.verdict(Halves(pixels), suspects[::2])
    np.testing.assert_allclose(moved[: len(suspects) // 2], suspects[1::2], rtol=1e-4, atol=1e-2)
    for count in (1, 2, 3):
        assert np.array_equal(cascade.suspects(pixels, count), suspects[:count])
    assert cascade.suspects(np.full((1, 1, 3), 9, np.uint8), 5).shape[1] == 4


def test_the_stopwatch_knows_where_the_time_went(model: Model, draw: Draw) -> None:
    stopwatch = Stopwatch()
    detector = Cascade(model, stopwatch=stopwatch)
    detect(detector, draw([BOXES[0]]))
    once = dict(stopwatch.seconds)
    assert set(once) == {"pyramid", "scout", "candidates", "judge"}
    assert all(seconds > 0 for seconds in once.values())
    detect(detector, draw([BOXES[0]]))
    assert all(stopwatch.seconds[stage] > once[stage] for stage in once)


def test_the_models_own_networks_stay_as_they_were(model: Model, draw: Draw) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    detect(Cascade(model), draw([BOXES[0]]))
    for name, value in model.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


# --- Which detector


def test_the_kind_of_a_detector_is_its_models(model: Model) -> None:
    spec = ModelSpec("lenet", ("", "logo"), (22, 33), 4, widths=(4, 6, 8))
    plain = Model(spec, models.build(spec).eval(), "digest", {})
    assert isinstance(detectors.detector_of(model), Cascade)
    assert isinstance(detectors.detector_of(plain), Sliding)
    with pytest.raises(ValueError, match="a lenet"):
        Cascade(replace(plain, spec=replace(model.spec, architecture="lenet")))
    with pytest.raises(ValueError, match="more than one network"):
        Sliding(model)


def test_a_model_is_loaded_once_and_only_if_it_is_the_one_asked_for(
    mark_cascade: str, model: Model
) -> None:
    first = detectors.load_detector(mark_cascade, model.digest)
    assert isinstance(first, Cascade)
    assert detectors.load_detector(mark_cascade, model.digest) is first
    other = detectors.load_detector(mark_cascade, model.digest, DetectorSettings(min_width=80))
    assert (other.settings.min_width, first.settings.min_width) == (80, 0)
    with pytest.raises(InputError, match="not the one that was asked for"):
        detectors.load_detector(mark_cascade, "0" * 64)


# --- Batches


def shapes(groups: list[list[tuple[Any, Any]]]) -> list[list[Any]]:
    return [[item for item, _ in group] for group in groups]


def test_batches_keep_the_order_and_bound_the_pixels(picture_of: Any) -> None:
    """One that is too large stands alone; what has no picture goes along."""
    megapixel = picture_of(np.zeros((1000, 1000, 3), np.uint8))
    large = picture_of(np.zeros((2500, 2000, 3), np.uint8))
    items = [("a", megapixel), ("b", None), ("c", megapixel), ("d", large), ("e", megapixel),
             ("f", megapixel), ("g", megapixel), ("h", megapixel), ("i", megapixel),
             ("j", None)]  # fmt: skip
    found = shapes(list(batches(items, AT_ONCE)))
    assert found == [["a", "b", "c"], ["d"], ["e", "f", "g", "h"], ["i", "j"]]
    assert list(batches([], AT_ONCE)) == []


@settings(max_examples=60, deadline=None)
@given(sides=st.lists(st.one_of(st.none(), st.integers(1, 3000)), max_size=12))
def test_batches_lose_nothing_and_are_as_large_as_may_be(
    sides: list[int | None],
) -> None:
    pixel = np.zeros((1, 1, 3), np.uint8)
    items = [
        (
            index,
            None
            if side is None
            else images.Picture(
                np.broadcast_to(pixel, (side, 1000, 3)), images.Header("png", 1000, side)
            ),
        )
        for index, side in enumerate(sides)
    ]
    groups = list(batches(iter(items), AT_ONCE))
    assert [item for group in groups for item in group] == items
    sizes = [[p.pixels.shape[0] * 1000 if p else 0 for _, p in group] for group in groups]
    assert all(sum(each) <= AT_ONCE or len(each) == 1 for each in sizes)
    for group, following in pairwise(sizes):
        assert sum(group) + following[0] > AT_ONCE


def test_batches_read_no_further_than_they_must(picture_of: Any) -> None:
    """Else all pictures of a shard would lie in memory at once."""
    seen: list[int] = []

    def read() -> Iterator[tuple[int, Any]]:
        for index in range(9):
            seen.append(index)
            yield index, picture_of(np.zeros((2000, 1000, 3), np.uint8))

    assert shapes([next(batches(read(), AT_ONCE))]) == [[0, 1]]
    assert seen == [0, 1, 2]
