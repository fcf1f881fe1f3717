"""Lessons: the loss is that of its plain twin, and each network is shown what it should learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nnst import models
from nnst.models import Cascade, Model
from nnst.records import BACKGROUND, Crop, ModelSpec, Origin
from nnst.training import lessons
from nnst.training.batches import IGNORED, CropStore, draw_batch
from nnst.training.lessons import JudgeLesson, Place, WindowLesson
from nnst.training.settings import AugmentSettings, TrainingSettings

FEW = settings(max_examples=40, deadline=None)
LABELS = ("background", "a", "b")
SCOUT = ModelSpec("scout", ("background", "any"), (20, 32), 4, widths=(2, 3, 3, 4), context=1.1)
JUDGE = ModelSpec("judge", LABELS, (32, 40), 8, widths=(2, 3, 3, 4, 4, 5), context=1.4)
LENET = ModelSpec("lenet", LABELS, (20, 32), 4, widths=(2, 3, 4), context=1.15)
CASCADE = ModelSpec("cascade", LABELS, (20, 32), 4, context=1.1, stages=(SCOUT, JUDGE))
PLAIN_LIGHT = dict.fromkeys(("gamma", "contrast", "channel", "occlude", "noise", "jpeg"), 0.0)
QUICK = TrainingSettings(
    logos=6,
    background=4,
    near=5,
    moved=3,
    far=4,
    candidates=40,
    augment=AugmentSettings(**PLAIN_LIGHT),
)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def crop_of(colour: Sequence[int], label: str = "", origin: Origin = "negative") -> Crop:
    pixels = np.full((40, 64, 3), colour, np.uint8)
    box = np.array((16, 10, 48, 30), np.float32)
    return Crop(pixels, label, "positive" if label else origin, "ab" * 32, box, box)


def store_of(background: int = 30, mined: int = 0) -> CropStore:
    """A red logo of each label, and background that grows darker and darker."""
    logos = [crop_of((250, 5, 5), label) for label in LABELS[1:]]
    plain = [crop_of((5, 5, 250 - 5 * n)) for n in range(background)]
    hard = [crop_of((5, 250 - 5 * n, 5), origin="hard_negative") for n in range(mined)]
    return CropStore.of([*logos, *plain, *hard], LABELS)


# Losses


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@FEW
@given(
    classes=st.integers(2, 4),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    hardest=st.floats(0.01, 1),
    seed=st.integers(0, 999),
)
def test_the_loss_of_windows_is_that_of_its_plain_twin(
    classes: int, cells: tuple[int, int, int], hardest: float, seed: int
) -> None:
    """Of logos the mean of the means of the classes; of background that of the hardest windows."""
    rng = rng_of(seed)
    logits = rng.normal(size=(cells[0], classes, *cells[1:])).astype(np.float32) * 3
    targets = rng.integers(IGNORED, classes, cells)
    targets[0, 0, 0] = BACKGROUND
    found = lessons.loss(torch.tensor(logits), torch.tensor(targets), hardest)
    shares = softmax(logits)
    costs: dict[int, list[float]] = {}
    for (patch, row, column), target in np.ndenumerate(targets):
        if target != IGNORED:
            cost = -np.log(shares[patch, target, row, column])
            costs.setdefault(int(target), []).append(float(cost))
    beside = sorted(costs.pop(BACKGROUND), reverse=True)
    logo = np.mean([np.mean(of_class) for of_class in costs.values()]) if costs else 0.0
    # Float32 knows a logarithm near 0 to about 1e-7.
    assert found[0].item() == pytest.approx(logo, rel=1e-4, abs=1e-6)
    kept = beside[: max(1, round(hardest * len(beside)))]
    assert found[1].item() == pytest.approx(np.mean(kept), rel=1e-4, abs=1e-6)


@FEW
@given(count=st.integers(1, 12), classes=st.integers(2, 4), seed=st.integers(0, 999))
def test_the_loss_of_the_judge_is_that_of_its_plain_twin(
    count: int, classes: int, seed: int
) -> None:
    rng = rng_of(seed)
    outputs = rng.normal(size=(count, classes + 4)).astype(np.float32)
    named = rng.integers(IGNORED, classes, count)
    deltas = rng.normal(size=(count, 4)).astype(np.float32) * 0.3
    deltas[0] = outputs[0, -4:] + 0.01  # within the round part
    on_logo = rng.random(count) < 0.6
    found = lessons.judge_loss(*map(torch.tensor, (outputs, named, deltas, on_logo)))
    shares = softmax(outputs[:, :-4])
    logo, background, boxes = [], [], []
    for row in range(count):
        if named[row] == BACKGROUND:
            background.append(-np.log(shares[row, BACKGROUND]))
        elif named[row] != IGNORED:
            logo.append(-np.log(shares[row, named[row]]))
        if on_logo[row]:
            off = np.abs(outputs[row, -4:] - deltas[row])
            boxes.append(sum(10 * d * d if d < 0.05 else d - 0.025 for d in off.tolist()))
    expected = [np.mean(part) if part else 0.0 for part in (logo, background, boxes)]
    np.testing.assert_allclose([part.item() for part in found], expected, rtol=1e-4, atol=1e-6)


def test_half_a_logo_and_moves_that_mean_nothing_teach_nothing() -> None:
    """No gradient reaches what the network says of them."""
    outputs = torch.randn(3, 6, requires_grad=True)
    classes, on_logo = torch.tensor([IGNORED, 1, BACKGROUND]), torch.tensor([False, True, False])
    sum(lessons.judge_loss(outputs, classes, torch.zeros(3, 4), on_logo)).backward()  # type: ignore[union-attr]
    assert outputs.grad is not None
    taught = outputs.grad != 0
    assert taught.tolist() == [[False] * 6, [True] * 6, [True, True] + [False] * 4]


def test_class_weights_make_every_class_count_the_same() -> None:
    classes = [0] * 6 + [2] * 3 + [3]
    weights = lessons.class_weights(classes, 5).double()
    sums = [sum(weights[each].item() for each in classes if each == label) for label in (0, 2, 3)]
    np.testing.assert_allclose(sums, len(classes) / 3, rtol=1e-6)
    assert weights[torch.tensor(classes)].mean().item() == pytest.approx(1)
    assert weights[[1, 4]].tolist() == [0, 0]


# What a batch holds


def test_the_parts_of_all_ranks_make_one_batch() -> None:
    asked = TrainingSettings(logos=48, background=32, near=24, moved=8, far=12, candidates=52)
    alone, shared = (lessons.batch_settings(LENET, asked, world) for world in (1, 4))
    assert (alone.logos, alone.background) == (48, 32)
    assert (shared.logos, shared.background) == (12, 8)
    assert (alone.context, alone.stride, alone.patch_hw) == (1.15, 4, (40, 64))
    alone, shared = (lessons.proposal_settings(SCOUT, JUDGE, asked, world) for world in (1, 4))
    assert (alone.near, alone.moved, alone.far, alone.background) == (24, 8, 12, 52)
    assert (shared.near, shared.moved, shared.far, shared.background) == (6, 2, 3, 13)
    many = lessons.proposal_settings(SCOUT, JUDGE, asked, 100)
    assert (many.near, many.moved, many.far, many.background) == (1, 1, 1, 1)


def test_the_judge_is_shown_boxes_as_the_scouts_grid_gives_them() -> None:
    """A logo lies half a stride from the middle of some window at most, and rounding adds to it."""
    wanted = lessons.proposal_settings(SCOUT, JUDGE, QUICK, 1)
    assert (wanted.window_hw, wanted.context) == (JUDGE.window_hw, JUDGE.context)
    assert wanted.aspect == pytest.approx(32 / 20)
    assert wanted.reach * 20 / 1.1 > SCOUT.stride / 2
    assert wanted.scale > 2 ** (0.5 / SCOUT.levels_per_octave)


def test_a_network_that_is_too_costly_sees_single_windows() -> None:
    spec = ModelSpec("mlp", LABELS, (22, 75), 4)
    wanted = lessons.batch_settings(spec, TrainingSettings(), 1)
    assert wanted.patch_hw == spec.window_hw
    cheap = lessons.batch_settings(replace(spec, widths=(10,)), TrainingSettings(), 1)
    assert cheap.patch_hw == (44, 150)


@pytest.mark.parametrize("window_hw", [(20, 32), (24, 28), (32, 40)])
@pytest.mark.parametrize("architecture", ["mlp", "lenet", "scout"])
def test_every_cell_of_a_patchs_scores_has_its_target(
    architecture: str, window_hw: tuple[int, int]
) -> None:
    spec = ModelSpec(
        architecture,
        LABELS,
        window_hw,
        models.stride_of(architecture, window_hw),
        widths=(4,) if architecture == "mlp" else (),
    )
    wanted = lessons.batch_settings(spec, QUICK, 1)
    batch = draw_batch(store_of(), wanted, (0, 0, 0, 0))
    logits = models.build(spec)(torch.from_numpy(batch.patches))
    assert logits.shape == (10, len(LABELS), *batch.targets.shape[1:])
    assert batch.targets[0].size > 1


# Lessons


def model_of(spec: ModelSpec) -> Model:
    if spec.stages:
        scout, judge = (models.build(stage) for stage in spec.stages)
        return Model(spec, Cascade(spec, scout, judge), "", {})
    return Model(spec, models.build(spec), "", {})


def test_a_model_is_taught_where_it_decides() -> None:
    """In a cascade that is the judge."""
    model = model_of(CASCADE)
    lesson, network = lessons.lesson_of(model, store_of(), QUICK)
    assert isinstance(lesson, JudgeLesson)
    assert isinstance(model.network, Cascade)
    assert network is model.network.judge
    model = model_of(LENET)
    lesson, network = lessons.lesson_of(model, store_of(), QUICK)
    assert isinstance(lesson, WindowLesson)
    assert network is model.network


@pytest.mark.parametrize("spec", [LENET, SCOUT, CASCADE], ids=lambda spec: spec.architecture)
def test_a_lesson_gives_the_parts_of_a_loss_and_logits_of_crops(spec: ModelSpec) -> None:
    store = store_of()
    lesson, network = lessons.lesson_of(model_of(spec), store, QUICK)
    place = Place(0, 0, 1)
    parts = lesson.losses(network, place, 0)
    expected = ["logo_loss", "background_loss"] + ["box_loss"] * bool(spec.stages)
    assert [*parts] == expected
    assert all(part.ndim == 0 and part.requires_grad and part > 0 for part in parts.values())
    logits = lesson.logits(network, store.logos)
    assert logits.shape == (2, len(spec.labels))
    one = lesson.logits(network, store.logos[1:])
    torch.testing.assert_close(one[0], logits[1])


def test_to_a_scout_all_logos_are_one_class() -> None:
    store = WindowLesson(SCOUT, store_of(), QUICK).store
    assert store.labels == SCOUT.labels
    assert store.classes.tolist() == [1, 1]
    assert [crop.label for crop in store.logos] == ["a", "b"]
    assert WindowLesson(LENET, store_of(), QUICK).store.classes.tolist() == [1, 2]


def test_beside_mined_background_the_judge_sees_a_part_of_the_rest() -> None:
    store = JudgeLesson(SCOUT, JUDGE, store_of(background=20, mined=6), QUICK).store
    origins = [crop.origin for crop in store.background]
    assert origins.count("hard_negative") == 6
    assert origins.count("negative") == 20 // lessons.EVERY
    alone = JudgeLesson(SCOUT, JUDGE, store_of(background=20), QUICK).store
    assert len(alone.background) == 20


class Darkness(nn.Module):
    """Takes dark background for a logo, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, windows: Tensor) -> Tensor:
        self.seen.append(windows)
        outputs = torch.zeros(len(windows), len(LABELS) + 4)
        outputs[:, BACKGROUND] = windows[:, 2].float().mean((1, 2))
        return (outputs * self.weight)[:, :, None, None]


def shades(network: Darkness) -> list[int]:
    """Which background crops the last batch showed, by their shade."""
    middle = network.seen[-1][-QUICK.candidates :, 2, 16, 20].tolist()
    return [round((250 - value) / 5) for value in middle]


def test_from_the_second_epoch_on_half_of_the_background_is_the_hardest() -> None:
    lesson = JudgeLesson(SCOUT, JUDGE, store_of(background=30), replace(QUICK, hard_share=0.1))
    network = Darkness()
    lesson.begin(network, Place(0, 0, 9))
    assert network.seen == []
    lesson.losses(network, Place(0, 0, 9), 0)
    assert len({*shades(network)[:20]}) > 8
    lesson.begin(network, Place(0, 1, 9))
    assert sum(map(len, network.seen[1:])) == 30  # each crop was asked once
    assert not network.training
    lesson.losses(network, Place(0, 1, 9), 0)
    assert {*shades(network)[:20]} == {27, 28, 29}
    assert len({*shades(network)[20:]}) > 8


def test_of_much_background_an_even_part_is_asked_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lessons, "ASKED", 10)
    monkeypatch.setattr(lessons, "SCORED_AT_ONCE", 4)
    lesson = JudgeLesson(SCOUT, JUDGE, store_of(background=30), QUICK)
    asked = []
    for place in (Place(0, 1, 9), Place(0, 2, 9), Place(0, 1, 9, rank=1), Place(0, 1, 9)):
        network = Darkness()
        lesson.begin(network, place)
        assert [len(windows) for windows in network.seen] == [4, 4, 2]
        asked.append(torch.cat(network.seen)[:, 2, 16, 20].tolist())
        assert len({*asked[-1]}) == 10
    assert asked[0] == asked[3]
    assert asked[0] != asked[1]
    assert asked[0] != asked[2]
