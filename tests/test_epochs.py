"""Epochs: that learning is learning, repeatably, and that validation says what was learnt."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from nnst import crops, evaluation
from nnst.crops import CropSettings
from nnst.models import Network, norms
from nnst.records import Annotation, Crop, ModelSpec
from nnst.training import checkpoints, epochs
from nnst.training.batches import CropStore
from nnst.training.checkpoints import Checkpoint
from nnst.training.lessons import JudgeLesson, Lesson, Place, WindowLesson, hardest_share
from nnst.training.settings import TrainingSettings

LABELS = ("background", "mark")
WINDOW = (20, 32)
LENET = ModelSpec("lenet", LABELS, WINDOW, 4, widths=(6, 8, 12), context=1.15)
SCOUT = ModelSpec("scout", ("background", "any"), WINDOW, 4, widths=(6, 8, 8, 12), context=1.15)
JUDGE = ModelSpec("judge", LABELS, (32, 48), 8, widths=(6, 8, 8, 12, 12, 16), context=1.4)
SPECS = {spec.architecture: spec for spec in (LENET, SCOUT, JUDGE)}
QUICK = TrainingSettings(
    steps=12,
    logos=16,
    background=10,
    near=12,
    moved=4,
    far=6,
    candidates=20,
    learning_rate=5e-3,
    hard_share=0.2,
)
EPOCHS = 6

Draw = Callable[..., np.ndarray]
Weights = Mapping[str, torch.Tensor]


@pytest.fixture(autouse=True, scope="module")
def _repeatable() -> Iterator[None]:
    """As workers train: one thread, and only algorithms that repeat themselves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def lesson_of(kind: str, store: CropStore, asked: TrainingSettings = QUICK) -> Lesson:
    if kind == "judge":
        return JudgeLesson(SCOUT, JUDGE, store, asked)
    return WindowLesson(SPECS[kind], store, asked)


# Schedule


@pytest.mark.parametrize("total", [1, 2, 19, 100, 840])
def test_the_learning_rate_warms_up_and_falls_to_a_hundredth(total: int) -> None:
    asked = TrainingSettings(learning_rate=0.5)
    rates = [epochs.learning_rate(asked, step, total) for step in range(total)]
    top = int(np.argmax(rates))
    assert max(rates) == pytest.approx(0.5)
    assert top <= max(1, total // 20)
    assert all(one < other for one, other in pairwise(rates[: top + 1]))
    assert all(one >= other for one, other in pairwise(rates[top:]))
    assert min(rates) > 0
    if total >= 100:
        assert rates[-1] == pytest.approx(0.005, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"accumulate": 0},
        {"logos": 0},
        {"background": 0},
        {"hardest": 0.0},
        {"hardest": 1.1},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
    ],
)
def test_training_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingSettings(**wrong)


# Learning


def drawn_crops(draw: Draw, seeds: range) -> list[Crop]:
    """The crops of small scenes, each with a mark in it."""
    found: list[Crop] = []
    for seed in seeds:
        rng = rng_of(seed)
        height = int(rng.integers(16, 50))
        left, top = int(rng.integers(0, 120)), int(rng.integers(0, 100))
        box = (left, top, left + height * 8 // 5, top + height)
        truth = Annotation("a", f"{seed:064x}", np.array([box]), ("mark",), [False], [False])
        asked = CropSettings(negatives=2)
        found += crops.cut_crops(draw([box], seed=seed), 1, truth, WINDOW, asked)
    return found


@dataclass(frozen=True)
class Trained:
    """What epochs of training left behind."""

    weights: Weights
    states: tuple[Checkpoint, ...]  # after each epoch
    rows: tuple[Mapping[str, float], ...]  # of metrics, for each epoch
    network: Network


def train(kind: str, store: CropStore, state: Checkpoint | None = None) -> Trained:
    """All epochs that are not done, from fresh weights or from a checkpoint in its files."""
    network = norms.learner(SPECS[kind], seed=0)
    optimiser = epochs.make_optimiser(network, QUICK)
    lesson = lesson_of(kind, store)
    rows, states = [], []
    if state:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.write(folder, state)
            kept = checkpoints.read(folder, len(state.history), {"seed": 0})
        rows = checkpoints.restore(kept, network, optimiser)
    for epoch in range(len(rows), EPOCHS):
        place = Place(0, epoch, EPOCHS)
        rows.append(epochs.run_epoch(network, optimiser, lesson, QUICK, place))
        now = copy.deepcopy((network.state_dict(), optimiser.state_dict()))
        states.append(Checkpoint(*now, {"seed": 0}, tuple(rows)))
    return Trained(network.state_dict(), tuple(states), tuple(rows), network)


@pytest.fixture(scope="module")
def stores(draw: Draw) -> tuple[CropStore, CropStore]:
    """A drawn problem: what is trained on, and what is held out."""
    learnt, held_out = drawn_crops(draw, range(12)), drawn_crops(draw, range(100, 120))
    return CropStore.of(learnt, LABELS), CropStore.of(held_out, LABELS)


@pytest.fixture(scope="module")
def taught(stores: tuple[CropStore, CropStore]) -> Callable[[str], Trained]:
    """Trains a network of each kind once."""
    return cache(lambda kind: train(kind, stores[0]))


Taught = Callable[[str], Trained]
every_kind = pytest.mark.parametrize("kind", SPECS)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@every_kind
def test_training_lowers_the_loss_and_finds_marks_it_never_saw(
    kind: str, taught: Taught, stores: tuple[CropStore, CropStore]
) -> None:
    done = taught(kind)
    assert done.rows[-1]["loss"] < 0.5 * done.rows[0]["loss"]
    lesson = lesson_of(kind, stores[1])
    untrained = epochs.validate(norms.learner(SPECS[kind], 0), lesson)
    found = epochs.validate(done.network, lesson)
    assert found["validation_window_ap"] > 0.9
    assert found["validation_loss"] < untrained["validation_loss"]


@every_kind
def test_the_network_without_its_norms_has_learnt_the_same(
    kind: str, taught: Taught, stores: tuple[CropStore, CropStore]
) -> None:
    done, lesson = taught(kind), lesson_of(kind, stores[1])
    plain = norms.fold_norms(done.network.eval())
    np.testing.assert_allclose(
        *(epochs.score_crops(net, lesson, stores[1].logos)[0] for net in (plain, done.network)),
        atol=1e-5,
    )


@every_kind
def test_the_same_seed_gives_the_same_weights_bit_for_bit_also_when_resumed(
    kind: str, taught: Taught, stores: tuple[CropStore, CropStore]
) -> None:
    """Two epochs anew are the first two, and what goes on from them ends where the first did."""
    done = taught(kind)
    resumed = train(kind, stores[0], done.states[1])
    assert same(resumed.weights, done.weights)
    assert resumed.rows == done.rows
    again = norms.learner(SPECS[kind], 0)
    optimiser = epochs.make_optimiser(again, QUICK)
    lesson = lesson_of(kind, stores[0])
    for epoch in range(2):
        epochs.run_epoch(again, optimiser, lesson, QUICK, Place(0, epoch, EPOCHS))
    assert same(again.state_dict(), done.states[1].network)


@every_kind
def test_an_epochs_row_has_the_parts_of_its_loss_and_its_learning_rate(
    kind: str, taught: Taught
) -> None:
    ends = [QUICK.steps * (epoch + 1) - 1 for epoch in range(EPOCHS)]
    total = QUICK.steps * EPOCHS
    parts = ["logo_loss", "background_loss"] + ["box_loss"] * (kind == "judge")
    for row, end in zip(taught(kind).rows, ends, strict=True):
        assert row.keys() == {"loss", "learning_rate", *parts}
        assert row["loss"] == pytest.approx(sum(row[part] for part in parts), rel=1e-5)
        assert row["learning_rate"] == epochs.learning_rate(QUICK, end, total)


# Gradients of several batches


@dataclass
class Pieces:
    """A lesson of fixed windows, of which each batch is the next so many."""

    at_once: int
    store: CropStore

    def begin(self, network: Any, place: Place) -> None:
        """Nothing to look at."""

    def losses(self, network: Any, place: Place, step: int) -> Mapping[str, torch.Tensor]:
        rng = rng_of(1)
        windows = torch.from_numpy(rng.integers(0, 256, (24, 3, *WINDOW)).astype(np.uint8))
        classes = torch.from_numpy(rng.integers(0, 2, 24))
        mine = slice(step * self.at_once, (step + 1) * self.at_once)
        logits = network(windows[mine]).flatten(1)[:, :2]
        each = torch.nn.functional.cross_entropy(logits, classes[mine], reduction="none")
        return {"logo_loss": 0.25 * each.mean(), "background_loss": 0.75 * each.mean()}

    def logits(self, network: Any, crops: Any) -> torch.Tensor:
        raise NotImplementedError


def after_batches(kind: str, store: CropStore, at_once: int) -> tuple[Weights, Mapping[str, float]]:
    """Weights and metrics after three updates by eight windows, so many in a batch."""
    asked = replace(QUICK, steps=3, accumulate=8 // at_once, bfloat16=False)
    network = norms.learner(SPECS[kind], 0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    lesson = Pieces(at_once, store)
    row = epochs.run_epoch(network, optimiser, lesson, asked, Place(0, 0, 1))
    return network.state_dict(), row


def test_the_gradients_of_small_batches_make_the_step_of_a_large_one(
    stores: tuple[CropStore, CropStore],
) -> None:
    whole, metrics = after_batches("lenet", stores[0], at_once=8)
    for at_once in (4, 2, 1):
        found, row = after_batches("lenet", stores[0], at_once)
        assert all(torch.allclose(found[name], whole[name], atol=1e-6) for name in whole)
        assert row == pytest.approx(metrics, rel=1e-5)
    untrained = norms.learner(LENET, 0).state_dict()
    assert not any(torch.allclose(untrained[name], whole[name], atol=1e-4) for name in whole)


def test_which_is_not_quite_so_where_batches_have_statistics(
    stores: tuple[CropStore, CropStore],
) -> None:
    """Each batch is normalised by its own: a small one is no part of a large one."""
    whole, _ = after_batches("scout", stores[0], at_once=8)
    found, _ = after_batches("scout", stores[0], at_once=4)
    assert not all(torch.allclose(found[name], whole[name], atol=1e-4) for name in whole)


def test_background_gets_harder_with_the_epoch_however_many_batches_it_has() -> None:
    place = Place(0, 1, 10)
    one, four = (replace(QUICK, accumulate=count) for count in (1, 4))
    for step in range(QUICK.steps):
        expected = hardest_share(one, place, step)
        assert hardest_share(four, place, 4 * step) == pytest.approx(expected)


@every_kind
def test_every_seed_epoch_and_rank_sees_other_windows(
    kind: str, stores: tuple[CropStore, CropStore]
) -> None:
    """Of the same weights, which hardly change, the loss says what was seen."""
    still = replace(QUICK, steps=1, learning_rate=1e-12)

    def loss(place: Place) -> float:
        network = norms.learner(SPECS[kind], 0)
        optimiser = epochs.make_optimiser(network, still)
        lesson = lesson_of(kind, stores[0], still)
        return epochs.run_epoch(network, optimiser, lesson, still, place)["loss"]

    places = [Place(0, 0, 2), Place(1, 0, 2), Place(0, 1, 2), Place(0, 0, 2, rank=1)]
    losses = [loss(place) for place in places]
    assert len(set(losses)) == 4
    assert loss(places[0]) == losses[0]


@every_kind
def test_labels_at_random_teach_nothing(kind: str, draw: Draw) -> None:
    """The control: labels known by another way than by the picture would show here."""
    every = drawn_crops(draw, range(40))
    labels = [crop.label for crop in every]
    rng_of(6).shuffle(labels)
    mixed = [replace(crop, label=label) for crop, label in zip(every, labels, strict=True)]
    learnt, held_out = CropStore.of(mixed[:40], LABELS), CropStore.of(mixed[40:], LABELS)
    found = epochs.validate(train(kind, learnt).network, lesson_of(kind, held_out))
    base_rate = len(held_out.logos) / (len(held_out.logos) + len(held_out.background))
    assert found["validation_window_ap"] == pytest.approx(base_rate, abs=0.2)


# Validation


@every_kind
def test_crops_are_scored_in_their_order_with_probabilities(
    kind: str, taught: Taught, stores: tuple[CropStore, CropStore]
) -> None:
    """The label of a scout is its own: any logo is that."""
    some = [stores[1].logos[0], stores[1].background[0]] * 150  # more than one pass takes
    scores, classes = epochs.score_crops(taught(kind).network, lesson_of(kind, stores[1]), some)
    assert scores.shape == (300, 2)
    assert classes.tolist() == [1, 0] * 150
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_allclose(scores, np.tile(scores[:2], (150, 1)), atol=1e-6)


def test_validation_figures_are_those_of_the_scores(taught: Taught, draw: Draw) -> None:
    store = CropStore.of(drawn_crops(draw, range(200, 206)), LABELS)
    some = (*store.logos, *store.background)
    network, lesson = taught("lenet").network, lesson_of("lenet", store)
    scores, classes = epochs.score_crops(network, lesson, some)
    found = epochs.validate(network, lesson)
    own = [row[label] for row, label in zip(scores, classes, strict=True)]
    assert found["validation_loss"] == pytest.approx(-np.mean(np.log(own)))
    expected = evaluation.average_precision(scores[:, 1], classes == 1, len(store.logos))
    assert found["validation_window_ap"] == pytest.approx(expected)


@every_kind
@pytest.mark.parametrize("kept", ["nothing", "logos", "background"])
def test_without_crops_to_validate_on_figures_are_nan(
    kind: str, kept: str, stores: tuple[CropStore, CropStore]
) -> None:
    store = replace(
        stores[1],
        logos=stores[1].logos if kept == "logos" else (),
        classes=stores[1].classes if kept == "logos" else stores[1].classes[:0],
        background=stores[1].background if kept == "background" else (),
    )
    found = epochs.validate(norms.learner(SPECS[kind], 0), lesson_of(kind, store))
    assert math.isnan(found["validation_window_ap"])
    assert math.isnan(found["validation_loss"]) == (kept == "nothing")
