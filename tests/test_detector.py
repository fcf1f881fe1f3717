"""One network laid over a picture finds a drawn mark where it is and as large as it is.

The model is set by hand: a dense network whose one hidden neuron has the mark itself as weights
answers 1 where the window shows the mark, and about 0 on grey.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from nnst import boxes as boxes_
from nnst import images, models
from nnst.detector import DetectorSettings, Sliding
from nnst.errors import ConfigError, InputError
from nnst.models import Model
from nnst.records import Detections, ModelSpec
from nnst.stopwatch import Stopwatch

SPEC = ModelSpec("mlp", ("", "mark"), (24, 40), 4, widths=(1,))


def mark(hw: tuple[int, int]) -> np.ndarray:
    """A mark of few coarse blocks, so that half a stride or half a level does not hide it."""
    blocks = np.array([[255, 0, 0, 255], [0, 255, 0, 0], [255, 0, 255, 255]], np.uint8)
    colours = np.stack([blocks, blocks[::-1], 255 - blocks], axis=2)
    return cv2.resize(colours, hw[::-1], interpolation=cv2.INTER_CUBIC)


def model_of_mark(spec: ModelSpec = SPEC, of: int = 1) -> Model:
    """A model that answers sigmoid(8) where the mark fills the object's share of the window."""
    window = np.full((*spec.window_hw, 3), 127.5, np.float32)
    hw = tuple(round(side / spec.context) for side in spec.window_hw)
    top, left = ((whole - part) // 2 for whole, part in zip(spec.window_hw, hw, strict=True))
    window[top : top + hw[0], left : left + hw[1]] = mark(hw)
    seen = torch.tensor(window).permute(2, 0, 1) / 64  # (3, wh, ww)
    template = seen - seen.mean(dim=(1, 2), keepdim=True)  # flat grey of any light gives 0
    network = models.build(spec)
    with torch.no_grad():
        network.layers.hidden.weight[0] = template / (template**2).sum()
        network.layers.hidden.bias.zero_()
        network.layers.score.weight.zero_()
        network.layers.score.weight[of] = 20.0
        network.layers.score.bias[:] = -12.0
        network.layers.score.bias[0] = 0.0
    return Model(spec, network.requires_grad_(False).eval(), "digest", {})


def picture_with(
    box: tuple[int, int, int, int], hw: tuple[int, int] = (200, 300), seed: int = 0
) -> np.ndarray:
    """Grey with a little noise, and the mark in a box, which may hang over the edge."""
    noise = np.random.default_rng(seed).normal(120, 5, (*hw, 3))
    x0, y0, x1, y1 = box
    canvas = np.full((hw[0] + 400, hw[1] + 400, 3), 0, np.uint8)
    canvas[200:-200, 200:-200] = np.clip(noise, 0, 255)
    canvas[200 + y0 : 200 + y1, 200 + x0 : 200 + x1] = mark((y1 - y0, x1 - x0))
    return canvas[200:-200, 200:-200].copy()


def iou(found: Detections, box: tuple[float, ...]) -> float:
    """IoU of the best detection with a box."""
    return float(boxes_.pairwise_iou(found.boxes[:1], boxes_.as_boxes([box]))[0, 0])


@pytest.mark.parametrize("context", [1.0, 1.25])
@pytest.mark.parametrize(
    "box",
    [
        (100, 60, 140, 84),  # as large as the window
        (101, 63, 141, 87),  # between two windows
        (80, 50, 126, 78),  # between two levels
        (90, 40, 170, 88),  # twice as large
        (33, 21, 157, 95),  # three times, at no special place
        (5, 10, 295, 184),  # nearly the whole picture
        (0, 0, 40, 24),  # in a corner
        (250, 170, 300, 200),  # in the other
    ],
    ids=str,
)
def test_the_mark_is_found_at_its_place_and_size(
    box: tuple[int, int, int, int], context: float
) -> None:
    found = Sliding(model_of_mark(replace(SPEC, context=context))).detect(picture_with(box))
    assert len(found) >= 1
    assert found.scores[0] > 0.9
    assert iou(found, box) > 0.65
    assert found.labels[0] == 1
    # Whatever else answers is far weaker than the mark.
    assert (found.scores[1:] < 0.5).all()


@pytest.mark.parametrize(
    ("box", "visible"),
    [((-12, 80, 48, 116), (0, 80, 48, 116)), ((100, 176, 160, 212), (100, 176, 160, 200))],
    ids=["over the left edge", "over the lower edge"],
)
def test_a_mark_over_the_edge_is_found_and_its_box_ends_at_the_edge(
    box: tuple[int, int, int, int], visible: tuple[int, int, int, int]
) -> None:
    found = Sliding(model_of_mark()).detect(picture_with(box))
    assert found.scores[0] > 0.5
    assert iou(found, visible) > 0.6
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [300, 200, 300, 200]).all()


def test_two_marks_of_different_size_are_two_detections() -> None:
    picture = picture_with((20, 20, 60, 44))
    picture[90:162, 150:270] = mark((72, 120))
    found = Sliding(model_of_mark()).detect(picture)
    sure = found[found.scores > 0.5]
    assert len(sure) == 2
    truth = boxes_.as_boxes([[20, 20, 60, 44], [150, 90, 270, 162]])
    assert (boxes_.pairwise_iou(sure.boxes, truth).max(axis=0) > 0.65).all()


def test_min_width_decides_how_small_a_mark_is_looked_for() -> None:
    box = (100, 60, 120, 72)  # half the window
    picture = picture_with(box)
    model = model_of_mark()
    assert not (Sliding(model).detect(picture).scores > 0.5).any()
    found = Sliding(model, DetectorSettings(min_width=20)).detect(picture)
    assert found.scores[0] > 0.9
    assert iou(found, box) > 0.65
    # And a larger one begins lower down: fewer pixels to look at.
    coarse = Sliding(model, DetectorSettings(min_width=80))
    assert coarse.max_scale == 0.5
    assert next(coarse.levels(picture)).scale_xy == (0.5, 0.5)


def test_the_label_of_the_logit_is_the_label_of_the_detection() -> None:
    spec = replace(SPEC, labels=("", "other", "mark"))
    found = Sliding(model_of_mark(spec, of=2)).detect(picture_with((100, 60, 140, 84)))
    assert found.labels[0] == 2


def test_calibration_changes_scores_and_not_boxes() -> None:
    picture = picture_with((100, 60, 140, 84))
    plain = Sliding(model_of_mark()).detect(picture)
    halved = Sliding(model_of_mark(replace(SPEC, calibration=(0.5, 0.0)))).detect(picture)
    assert halved.boxes[0].tolist() == plain.boxes[0].tolist()
    log_odds = [np.log(score / (1 - score)) for score in (plain.scores[0], halved.scores[0])]
    assert log_odds[1] == pytest.approx(log_odds[0] / 2, abs=0.1)


@pytest.mark.parametrize("hw", [(1, 1), (3, 2), (23, 39), (24, 40), (1, 500), (500, 1)], ids=str)
def test_pictures_of_any_size_give_a_valid_answer(hw: tuple[int, int]) -> None:
    """With a network of random weights, which answers something everywhere."""
    spec = ModelSpec("lenet", ("", "a", "b"), (22, 33), 4, widths=(4, 6, 8))
    model = Model(spec, models.build(spec).eval(), "digest", {})
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    found = Sliding(model, DetectorSettings(min_score=0.0)).detect(pixels)
    assert len(found) >= 1
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [hw[1], hw[0], hw[1], hw[0]]).all()


def test_a_picture_smaller_than_the_window_shows_its_mark() -> None:
    """It is not enlarged, so a mark must still be as large as the window says."""
    picture = mark((22, 37))
    found = Sliding(model_of_mark()).detect(picture)
    assert found.scores[0] > 0.5
    assert iou(found, (0, 0, 37, 22)) > 0.8


def test_nothing_found_is_an_empty_table() -> None:
    found = Sliding(model_of_mark()).detect(np.full((200, 300, 3), 90, np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def busy(settings: DetectorSettings) -> Detections:
    """What a network of random weights finds in noise: much."""
    spec = ModelSpec("lenet", ("", "logo"), (22, 33), 4, widths=(4, 6, 8), calibration=(0.3, 0.0))
    model = Model(spec, models.build(spec, seed=1).eval(), "digest", {})
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    return Sliding(model, settings).detect(noise)


def test_tables_are_sorted_rounded_and_the_same_each_time() -> None:
    found, again = busy(DetectorSettings()), busy(DetectorSettings())
    assert len(found) > 20
    assert np.array_equal(found.boxes, again.boxes)
    assert np.array_equal(found.scores, again.scores)
    assert (np.diff(found.scores) <= 0).all()
    assert np.array_equal(found.scores, np.round(found.scores.astype(float), 4).astype("f4"))
    assert np.array_equal(found.boxes, np.round(found.boxes.astype(float), 2).astype("f4"))


def test_no_two_detections_of_a_label_overlap_more_than_allowed() -> None:
    found = busy(DetectorSettings(iou_threshold=0.2))
    overlap = boxes_.pairwise_iou(found.boxes, found.boxes)
    assert (overlap[~np.eye(len(found), dtype=bool)] <= 0.2).all()


def test_the_number_of_detections_is_bounded_and_the_best_stay() -> None:
    every = busy(DetectorSettings())
    few = busy(DetectorSettings(max_detections=5))
    assert few.boxes.tolist() == every.boxes[:5].tolist()
    assert len(busy(DetectorSettings(max_candidates=1))) == 1
    assert busy(DetectorSettings(max_candidates=1)).scores[0] == every.scores[0]


def test_a_saved_model_detects_as_the_one_in_memory(tmp_path: Path) -> None:
    model = model_of_mark()
    models.save(tmp_path, model.spec, model.network.state_dict())
    picture = picture_with((80, 50, 126, 78))
    first, second = (Sliding(each).detect(picture) for each in (model, models.load(tmp_path)))
    assert first.boxes.tolist() == second.boxes.tolist()
    assert first.scores.tolist() == second.scores.tolist()


def test_the_models_own_network_stays_as_it_was() -> None:
    spec = ModelSpec("lenet", ("", "logo"), (22, 33), 4)
    model = Model(spec, models.build(spec).eval(), "digest", {})
    Sliding(model).detect(np.zeros((30, 40, 3), np.uint8))
    assert model.network.layers.conv2.weight.is_contiguous()


def test_the_stopwatch_knows_where_the_time_went() -> None:
    stopwatch = Stopwatch()
    detector = Sliding(model_of_mark(), stopwatch=stopwatch)
    detector.detect(picture_with((100, 60, 140, 84)))
    once = dict(stopwatch.seconds)
    assert set(once) == {"pyramid", "network", "candidates", "nms"}
    assert all(seconds > 0 for seconds in once.values())
    detector.detect(picture_with((100, 60, 140, 84)))
    assert all(stopwatch.seconds[stage] > once[stage] for stage in once)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)),
     np.zeros((0, 9, 3), np.uint8)],
    ids=["grey", "four channels", "float", "no pixel"],
)  # fmt: skip
def test_other_arrays_than_rgb_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        Sliding(model_of_mark()).detect(pixels)


def test_a_device_that_is_not_there_is_named() -> None:
    for device in ("cuda:99", "abacus"):
        with pytest.raises(InputError, match=f"{device}.*use cpu"):
            Sliding(model_of_mark(), device=device)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_width": -1.0},
        {"min_width": float("nan")},
        {"levels_per_octave": 17},
        {"levels_per_octave": -1},
        {"min_score": 1.5},
        {"iou_threshold": -0.1},
        {"nested_threshold": 2.0},
        {"max_candidates": 0},
        {"max_detections": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DetectorSettings(**wrong)


def test_a_min_width_that_would_take_for_ever_is_refused_with_one_that_works() -> None:
    with pytest.raises(ConfigError, match="give 5 pixels or more"):
        Sliding(model_of_mark(), DetectorSettings(min_width=4.9))
    Sliding(model_of_mark(), DetectorSettings(min_width=5))


def test_suspects_are_the_best_detections_whatever_their_score() -> None:
    detector = Sliding(model_of_mark(), DetectorSettings(min_score=0.0))
    picture = picture_with((100, 60, 140, 84))
    found = detector.detect(picture)
    assert np.array_equal(detector.suspects(picture, 3), found.boxes[:3])
    assert boxes_.pairwise_iou(found.boxes[:1], boxes_.as_boxes([(100, 60, 140, 84)])) > 0.9


def test_more_levels_may_be_asked_for_than_are_the_models_own() -> None:
    picture = picture_with((100, 60, 140, 84))
    for levels, expected in ((0, 4), (1, 1), (8, 8)):
        detector = Sliding(model_of_mark(), DetectorSettings(levels_per_octave=levels))
        scales = [level.scale_xy[0] for level in detector.levels(picture)]
        assert scales[expected] == pytest.approx(0.5, abs=0.01)


def test_a_picture_is_always_wanted_at_its_full_size() -> None:
    """Its one network is asked at the scale of the picture itself."""
    assert Sliding(model_of_mark(), DetectorSettings(min_width=2000)).reduction == 1


def test_several_pictures_at_once_are_each_alone(picture_of: Any) -> None:
    detector = Sliding(model_of_mark())
    upright = [picture_with((100, 60, 140, 84)), picture_with((20, 20, 60, 44), hw=(90, 100))]
    pictures = [picture_of(pixels, turn) for pixels, turn in zip(upright, (1, 6), strict=True)]
    together = detector.detect_pictures(pictures)
    for picture, found in zip(pictures, together, strict=True):
        alone = detector.detect_stored(picture)
        assert np.array_equal(found.boxes, alone.boxes)
        assert np.array_equal(found.scores, alone.scores)
    assert iou(together[0], (100, 60, 140, 84)) > 0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_a_turned_picture_are_in_its_pixels_as_stored(
    orientation: int, picture_of: Any
) -> None:
    box = (101, 63, 141, 87)
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    stored = images.upright(picture_with(box), undo)
    found = Sliding(model_of_mark()).detect_stored(picture_of(stored, orientation))
    expected = images.boxes_stored(boxes_.as_boxes([box]), stored.shape[:2], orientation)
    assert iou(found, tuple(expected[0])) > 0.8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    picture = picture_with((80, 50, 126, 78))
    here, there = (
        Sliding(model_of_mark(), device=device).detect(picture) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.boxes[:1], here.boxes[:1], atol=0.01)
    np.testing.assert_allclose(there.scores[:1], here.scores[:1], atol=2e-3)
