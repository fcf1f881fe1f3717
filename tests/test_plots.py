"""Figures of a training run are pictures that show something, whatever the run was like."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from nnst import evaluation, images, models
from nnst.evaluation import Evaluation, EvaluationSettings, JudgedPicture
from nnst.models import features
from nnst.records import Annotation, Crop
from workflows import plots


def ink(figure: bytes) -> float:
    """The share of a figure's pixels that are not white."""
    assert images.read_header(figure).format == "png"
    return float((images.decode(figure).pixels < 200).any(axis=2).mean())


def size(figure: bytes) -> tuple[int, int]:
    header = images.read_header(figure)
    return header.width, header.height


def history(epochs: int, precision: float = 0.9) -> list[Mapping[str, float]]:
    return [
        {
            "loss": 1 / (1 + epoch),
            "validation_loss": 1.2 / (1 + epoch),
            "validation_window_ap": precision,
        }
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize("epochs", [1, 14])
def test_curves_of_a_run(epochs: int) -> None:
    assert ink(plots.curves(history(epochs))) > 0.01


def test_a_longer_run_has_other_curves() -> None:
    assert plots.curves(history(4)) != plots.curves(history(5))
    assert plots.curves(history(4, 0.5)) != plots.curves(history(4, 0.9))


def test_curves_of_a_run_without_validation_are_still_drawn() -> None:
    nothing = {"validation_loss": math.nan, "validation_window_ap": math.nan}
    assert ink(plots.curves([{**row, **nothing} for row in history(3)])) > 0.01


def evaluated(*labels: str) -> Evaluation:
    """An evaluation with a true and a false detection of each label."""
    boxes = np.array([[0, 0, 9, 9], [50, 50, 59, 59]], np.float32)
    pictures = [
        JudgedPicture(
            image=label,
            boxes=boxes,
            scores=np.array([0.4, 0.8]),
            labels=[label] * 2,
            truth=Annotation(label, "", boxes[:1], (label,), [False], [False]),
        )
        for label in labels
    ]
    return evaluation.evaluate(pictures, labels, 0.5, EvaluationSettings(resamples=0))


@pytest.mark.parametrize("labels", [("mark",), ("nike", "puma", "a label with $odd_ letters")])
def test_precision_and_recall_of_every_label(labels: tuple[str, ...]) -> None:
    assert ink(plots.precision_recall(evaluated(*labels))) > 0.01


@pytest.mark.parametrize("shape", [(16, 3, 5, 5), (1, 3, 5, 5), (1000, 3, 22, 75)])
def test_kernels_of_any_first_layer(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    figure = plots.kernels(weights)
    assert ink(figure) > 0.02
    assert max(size(figure)) < 2000


def test_a_kernel_without_contrast_is_drawn_too() -> None:
    assert ink(plots.kernels(np.zeros((4, 3, 5, 5), np.float32))) > 0.02


def crop(label: str, colour: tuple[int, int, int]) -> Crop:
    pixels = np.full((40, 60, 3), colour, np.uint8)
    box = np.array([10, 10, 50, 30], np.float32)
    return Crop(pixels, label, "positive" if label else "negative", "", box, box)


def test_mistakes_show_the_worst_crops_first() -> None:
    """Of two crops the red one is the worse: it takes the first place, the blue one the second."""
    two = [crop("mark", (0, 0, 250)), crop("mark", (250, 0, 0))]
    figure = plots.mistakes(two, np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([1, 1]))
    pixels = images.decode(figure).pixels.astype(int)
    red, blue = (
        np.flatnonzero(((pixels[..., one] > 200) & (pixels[..., other] < 50)).any(axis=0))
        for one, other in ((0, 2), (2, 0))
    )
    assert red.size
    assert blue.size
    assert red.max() < blue.min()


def test_mistakes_of_many_crops_stay_a_sheet_of_the_worst() -> None:
    count = 2 * plots.MOST_MISTAKES
    some = [crop("" if index % 2 else "mark", (90, 120, 60)) for index in range(count)]
    classes = np.array([1 - index % 2 for index in range(count)])
    scores = np.random.default_rng(0).dirichlet([1, 1], count)
    figure = plots.mistakes(some, scores, classes)
    assert max(size(figure)) < 2000
    assert 0.2 < ink(figure) < 0.9


def test_figures_need_no_display_and_leave_no_state() -> None:
    """A figure drawn between two others of the same run does not change them."""
    first = plots.curves(history(3))
    plots.kernels(np.ones((2, 3, 5, 5), np.float32))
    assert plots.curves(history(3)) == first


# Scores, calibration, layers and samples


@pytest.mark.parametrize("count", [0, 1, 500])
def test_scores_and_calibration_of_any_number_of_detections(count: int) -> None:
    rng = np.random.default_rng(count)
    found = rng.uniform(0, 1, count).astype(np.float32)
    is_true = rng.uniform(0, 1, count) < found
    assert ink(plots.scores(found, is_true, 0.5)) > 0.01
    assert ink(plots.scores(found, is_true)) > 0.01
    assert ink(plots.calibration(found, is_true)) > 0.005


def test_bad_calibration_looks_other_than_good() -> None:
    rng = np.random.default_rng(0)
    found = rng.uniform(0, 1, 2000).astype(np.float32)
    good = rng.uniform(0, 1, 2000) < found
    assert plots.calibration(found, good) != plots.calibration(found, ~good)


def test_feature_maps_have_a_row_for_each_convolution(mark_model: str) -> None:
    """As many as the network has that give more than a pixel, whatever it is."""
    model = models.load(mark_model)
    pixels = np.full((48, 60, 3), 128, np.uint8)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    with features.watch(model.network) as maps, torch.inference_mode():
        model.network(batch)
    assert len(maps) == 2
    assert all(each.ndim == 3 for each in maps)
    with torch.inference_mode():
        model.network(batch)
    assert len(maps) == 2  # nothing is kept once it is over
    few, more = plots.feature_maps(pixels, maps[:1]), plots.feature_maps(pixels, maps)
    assert size(more)[1] > size(few)[1]
    assert ink(plots.feature_maps(pixels, [])) > 0.001


def test_samples_show_what_was_found_and_what_was_marked() -> None:
    grey = np.full((900, 1200, 3), 255, np.uint8)
    box, none = np.array([[300, 300, 700, 600]], np.float32), np.zeros((0, 4), np.float32)
    score = np.array([0.93], np.float32)
    bare = plots.Sample("a$b/" + "long" * 20, grey, none, score[:0], none)
    found = plots.Sample("found.png", grey, box, score, none)
    assert ink(plots.samples([])) > 0
    assert plots.samples([found]) != plots.samples([bare])
    assert size(plots.samples([bare] * 5))[1] > size(plots.samples([bare]))[1]
