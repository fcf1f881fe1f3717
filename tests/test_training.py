"""Training: what a window shows, what a batch holds, and that learning is learning, repeatably."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import crops, evaluation, images, models, records
from nnst.boxes import pairwise_iou
from nnst.crops import GREY, CropSettings
from nnst.errors import InputError
from nnst.evaluation import JudgedPicture
from nnst.ledger import Job, Ledger, write_part
from nnst.records import BACKGROUND, Annotation, Crop, ModelSpec, Receipt
from nnst.training import batches, epochs
from nnst.training.augmentation import degrade, paste, view, warp
from nnst.training.batches import STILL, BatchSettings, CropStore, draw_batch
from nnst.training.epochs import Place
from nnst.training.operating import OperatingPoint, fit_operating_point
from nnst.training.settings import AugmentSettings, TrainingSettings
from nnst.training.stores import check_split, read_stores

FEW = settings(max_examples=40, deadline=None)
UNCHANGED = AugmentSettings(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
RED, BLUE = (250, 5, 5), (5, 5, 250)
WINDOW = (20, 32)
LABELS = ("background", "mark")


@pytest.fixture(autouse=True, scope="module")
def _repeatable() -> Iterator[None]:
    """As workers train: one thread, and only algorithms that repeat themselves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def drawn(hw: tuple[int, int], box: Sequence[int], inside: tuple[int, ...] = RED) -> np.ndarray:
    """(H, W, 3) one colour in the box, another around it."""
    pixels = np.full((*hw, 3), BLUE, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = inside
    return pixels


def crop_of(pixels: np.ndarray, box: Sequence[float], label: str = "mark") -> Crop:
    where = np.array(box, np.float32)
    return Crop(pixels, label, "positive" if label else "negative", "ab" * 32, where, where)


def redness(pixels: np.ndarray) -> np.ndarray:
    """(H, W) how much of each pixel is red rather than blue, from 0 to 1."""
    return (pixels[..., 0].astype(float) - BLUE[0]) / (RED[0] - BLUE[0])


def centroid(weights: np.ndarray) -> np.ndarray:
    """(2,) x, y of the middle of what has weight; the first pixel's middle is 0.5."""
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


def corners_of(box: Sequence[float], matrix: np.ndarray) -> np.ndarray:
    """(4, 2) the box's corners in the window, clockwise."""
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) @ matrix[:, :2].T + matrix[:, 2]


def area_of(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


# Views


sides = st.floats(4, 80)
placements = st.tuples(st.floats(-15, 15), st.floats(-15, 15), st.floats(0.3, 2.5))


@FEW
@given(width=sides, height=sides, placement=placements, seed=st.integers(0, 99))
def test_a_view_puts_the_box_where_and_as_large_as_its_placement_says(
    width: float, height: float, placement: tuple[float, float, float], seed: int
) -> None:
    """Turned, slanted and stretched: its centre and its area do not change."""
    box = np.array([7, 5, 7 + width, 5 + height], np.float32)
    rough = AugmentSettings(rotate=20, stretch=0.2, shear=0.2)
    matrix = view(box, WINDOW, placement, rough, np.random.default_rng(seed))
    corners = corners_of(box, matrix)
    middle = (WINDOW[1] / 2 + placement[0], WINDOW[0] / 2 + placement[1])
    np.testing.assert_allclose(corners.mean(axis=0), middle, atol=1e-3)
    expected = placement[2] ** 2 * WINDOW[0] * WINDOW[1]
    assert area_of(corners) == pytest.approx(expected, rel=1e-4)


@FEW
@given(width=sides, height=sides, placement=placements)
def test_a_view_without_augmentation_only_moves_and_scales(
    width: float, height: float, placement: tuple[float, float, float]
) -> None:
    box = np.array([7, 5, 7 + width, 5 + height], np.float32)
    matrix = view(box, WINDOW, placement, STILL, np.random.default_rng(0))
    scale = placement[2] * math.sqrt(WINDOW[0] * WINDOW[1] / (width * height))
    np.testing.assert_allclose(matrix[:, :2], np.eye(2) * scale, rtol=1e-4)


def test_augmentation_has_the_strength_that_its_settings_say() -> None:
    rng = np.random.default_rng(3)
    box = np.array([0, 0, 30, 30], np.float32)
    turns = [
        view(box, (30, 30), (0, 0, 1), AugmentSettings(rotate=6, stretch=0, shear=0), rng)
        for _ in range(2000)
    ]
    angles = [math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) for matrix in turns]
    assert np.std(angles) == pytest.approx(6, rel=0.1)
    assert np.mean(angles) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    "sides_xy", [(16, 10), (32, 20), (48, 30), (80, 50), (160, 100), (320, 200)]
)
def test_the_window_on_a_box_is_its_canonical_window_resized(sides_xy: tuple[int, int]) -> None:
    """From boxes half as large as the window to ten times."""
    coarse = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
    pixels = images.resize(coarse, (2 * sides_xy[1], 2 * sides_xy[0]))
    box = [sides_xy[0] / 2, sides_xy[1] / 2, sides_xy[0] * 1.5, sides_xy[1] * 1.5]
    crop = crop_of(pixels, box)
    expected = crops.picture_to_look_at(crop, WINDOW).astype(float)
    found = batches.centred_windows([crop], WINDOW, 1.0)[0].transpose(1, 2, 0)
    assert np.abs(found - expected).mean() < 4
    moved = view(crop.box_in_crop, WINDOW, (2, 0, 1), STILL, np.random.default_rng(0))
    assert np.abs(warp(pixels, moved, WINDOW) - expected).mean() > 6  # the measure sees a shift


@FEW
@given(
    width=st.integers(40, 240),
    aspect=st.floats(0.8, 1.25),
    placement=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.38, 0.6)),
    seed=st.integers(0, 99),
)
def test_pixels_go_where_the_matrix_says(
    width: int, aspect: float, placement: tuple[float, float, float], seed: int
) -> None:
    """A box drawn in the middle is found in the window to a third of a pixel, however it shrinks.

    The crop is four times as large as the box, so the window sees nothing beyond it.
    """
    height = round(width / aspect)
    left, top = 3 * width // 8, 3 * height // 8
    box = [left, top, left + width // 4, top + height // 4]
    gentle = AugmentSettings(rotate=2, stretch=0.03, shear=0.02)
    matrix = view(np.array(box, np.float32), (48, 48), placement, gentle, rng_of(seed))
    found = redness(warp(drawn((height, width), box), matrix, (48, 48)))
    corners = corners_of(box, matrix)
    np.testing.assert_allclose(centroid(found), corners.mean(axis=0), atol=0.33)
    assert found.sum() == pytest.approx(area_of(corners), rel=0.08)


def test_a_crop_with_an_odd_side_is_halved_without_a_shift() -> None:
    box = [20, 20, 28, 28]
    pixels = drawn((31, 31), box)
    matrix = np.array([[0.45, 0, 2], [0, 0.45, 3]])
    found = redness(warp(pixels, matrix, (19, 18)))[3:16, 2:15]  # within the crop's grey border
    expected = corners_of(box, matrix).mean(axis=0) - (2, 3)
    np.testing.assert_allclose(centroid(found), expected, atol=0.2)


def test_what_is_too_fine_for_the_window_is_averaged() -> None:
    """A board of single pixels becomes grey; sampled, it would become stripes."""
    board = np.indices((120, 120)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[..., None].astype(np.uint8), 3, axis=2)
    matrix = np.array([[0.27, 0, 0], [0, 0.27, 0]])
    window = warp(pixels, matrix, (30, 30))
    assert abs(window.astype(float) - 127.5).max() < 8


def test_a_window_is_grey_where_the_crop_has_nothing() -> None:
    pixels = drawn((30, 30), (10, 10, 20, 20))
    matrix = view(np.array([10, 10, 20, 20], np.float32), WINDOW, (0, 0, 0.2), STILL, rng_of(0))
    window = warp(pixels, matrix, WINDOW)
    assert (window[0, 0] == GREY).all()
    assert (window[-1, -1] == GREY).all()
    assert redness(window)[WINDOW[0] // 2, WINDOW[1] // 2] > 0.5


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("angle", [0, 8])
def test_paste_keeps_the_box_and_takes_the_rest_from_the_background(angle: float) -> None:
    box = np.array([10, 12, 30, 26], np.float32)
    turned = AugmentSettings(rotate=angle, stretch=0, shear=0)
    matrix = view(box, (40, 60), (3, -2, 0.5), turned, rng_of(4))
    window, other = (np.full((40, 60, 3), colour, np.uint8) for colour in (RED, BLUE))
    found = redness(paste(window, other, box, matrix))
    corners = corners_of(box, matrix)
    np.testing.assert_allclose(centroid(found), corners.mean(axis=0), atol=0.1)
    assert found.sum() == pytest.approx(area_of(corners), rel=0.03)
    assert found.max() == 1
    assert found.min() == 0
    assert ((found > 0.01) & (found < 0.99)).sum() < 4 * 110  # the seam, along 110 pixels


# Light, lens and codec


@FEW
@given(
    hw=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    strength=st.floats(0, 4),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
def test_a_degraded_window_is_a_window_and_the_same_for_the_same_draws(
    hw: tuple[int, int], strength: float, share: float, seed: int
) -> None:
    pixels = rng_of(1).integers(0, 256, (*hw, 3), np.uint8)
    before = pixels.copy()
    asked = AugmentSettings(
        gamma=strength, contrast=strength, channel=strength, blur=share, noise=share, jpeg=share
    )
    found = degrade(pixels, asked, rng_of(seed))
    assert found.shape == (*hw, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, degrade(pixels, asked, rng_of(seed)))
    np.testing.assert_array_equal(pixels, before)


def test_at_no_strength_a_window_stays_as_it_is() -> None:
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(degrade(pixels, UNCHANGED, rng_of(0)), pixels)


SHARES = ("blur", "noise", "jpeg")


@pytest.mark.parametrize("change", ["gamma", "contrast", "channel", *SHARES])
def test_every_change_changes_something_and_keeps_the_picture(change: str) -> None:
    coarse = rng_of(2).integers(60, 200, (6, 8, 3), np.uint8)
    pixels = images.resize(coarse, (40, 56))
    found = degrade(
        pixels, replace(UNCHANGED, **{change: 1.0 if change in SHARES else 0.2}), rng_of(3)
    )
    apart = np.abs(found.astype(int) - pixels).mean()
    assert 0.2 < apart < 40


def test_noise_has_no_bias_and_the_strength_of_a_camera() -> None:
    grey = np.full((60, 60, 3), 128, np.uint8)
    noisy = replace(UNCHANGED, noise=1.0)
    grains = [degrade(grey, noisy, rng_of(seed)).astype(float) - 128 for seed in range(40)]
    assert abs(np.mean(grains)) < 0.1
    assert min(map(np.std, grains)) > 0.8
    assert max(map(np.std, grains)) < 10


@pytest.mark.parametrize(
    "wrong", [{"rotate": -1.0}, {"blur": 1.5}, {"paste": -0.1}, {"gamma": float("nan")}]
)
def test_augmentation_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"logos": 0}, {"patches": 0}, {"hardest": 0.0}, {"learning_rate": 0.0}],
)
def test_training_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingSettings(**wrong)


# Batches


def batch_settings(**changes: Any) -> BatchSettings:
    values: dict[str, Any] = {
        "window_hw": WINDOW,
        "context": 1.25,
        "logos": 12,
        "near_misses": 8,
        "patches": 3,
        "patch_hw": (40, 64),
        "shift": 2.5,
        "scale": 1.1,
        "augment": UNCHANGED,
    }
    return BatchSettings(**(values | changes))


def plain_store(*labels: str) -> CropStore:
    """Red logos on blue, one of each label, and background of one green."""
    box = (16, 10, 48, 30)  # of the window's shape
    logos = [crop_of(drawn((40, 64), box), box, label) for label in labels or ("mark",)]
    nothing = crop_of(np.full((60, 96, 3), (5, 250, 5), np.uint8), (24, 15, 72, 45), "")
    return CropStore.of([*logos, nothing], ("background", *sorted({*labels} or {"mark"})))


def test_a_store_sorts_crops_and_knows_their_classes() -> None:
    store = plain_store("a", "b", "a")
    assert [crop.label for crop in store.logos] == ["a", "b", "a"]
    assert store.classes.tolist() == [1, 2, 1]
    assert [crop.label for crop in store.background] == [""]


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="nike"):
        CropStore.of([crop_of(drawn((9, 9), (1, 1, 5, 5)), (1, 1, 5, 5), "nike")], LABELS)


def test_a_batch_has_the_shapes_and_classes_that_were_asked_for() -> None:
    batch = draw_batch(plain_store(), batch_settings(), (0, 0, 0, 0))
    assert batch.windows.shape == (20, 3, *WINDOW)
    assert batch.patches.shape == (3, 3, 40, 64)
    assert batch.windows.dtype == batch.patches.dtype == np.uint8
    assert batch.classes.tolist() == [1] * 12 + [BACKGROUND] * 8


def test_a_batch_depends_on_seed_epoch_step_and_rank_and_on_nothing_else() -> None:
    store, wanted = plain_store(), batch_settings(augment=AugmentSettings())

    def batch(*seed: int) -> bytes:
        found = draw_batch(store, wanted, seed)
        return found.windows.tobytes() + found.patches.tobytes()

    first = batch(1, 2, 3, 4)
    np.random.seed(9)  # noqa: NPY002 - the global state must not matter
    others = [batch(0, 2, 3, 4), batch(1, 0, 3, 4), batch(1, 2, 0, 4), batch(1, 2, 3, 0)]
    assert batch(1, 2, 3, 4) == first
    assert len({first, *others}) == 5


def test_classes_are_drawn_equally_often_however_many_crops_they_have() -> None:
    store = plain_store(*["a"] * 30, "b", "b", "c")
    classes = np.concatenate(
        [draw_batch(store, batch_settings(logos=60), (0, 0, step, 0)).classes for step in range(20)]
    )
    counts = np.bincount(classes)[1:]
    np.testing.assert_allclose(counts, 400, rtol=0.15)


def test_a_window_on_a_logo_shows_it_with_the_models_context_and_within_the_grids_play() -> None:
    wanted = batch_settings(logos=60, near_misses=1)
    batch = draw_batch(plain_store(), wanted, (0, 0, 0, 0))
    shown = [redness(window.transpose(1, 2, 0)) for window in batch.windows[:60]]
    sizes = np.sqrt([found.sum() / found.size for found in shown])
    middles = np.array([centroid(found) for found in shown]) - (WINDOW[1] / 2, WINDOW[0] / 2)
    assert sizes.mean() == pytest.approx(1 / 1.25, abs=0.02)
    assert sizes.min() > 1 / 1.25 / 1.13
    assert sizes.max() < 1.13 / 1.25
    assert 1.5 < np.abs(middles).max() < 2.6


def test_a_centred_window_shows_its_logo_with_the_models_context() -> None:
    (window,) = batches.centred_windows(plain_store().logos, WINDOW, 1.25)
    found = redness(window.transpose(1, 2, 0))
    assert math.sqrt(found.sum() / found.size) == pytest.approx(1 / 1.25, abs=0.01)
    np.testing.assert_allclose(centroid(found), (WINDOW[1] / 2, WINDOW[0] / 2), atol=0.05)


@pytest.mark.parametrize("context", [1.0, 1.15, 2.0])
def test_a_near_miss_shares_less_than_the_limit_with_the_logo(context: float) -> None:
    """As boxes in the window: the object that the window stands for, and where the logo is."""
    wanted = batch_settings(context=context)
    rng = rng_of(0)
    middle = np.array([WINDOW[1] / 2, WINDOW[0] / 2])
    ious, seen = [], []
    for _ in range(500):
        dx, dy, size = batches.near_miss_placement(wanted, rng)
        logo = around(middle + np.array([dx, dy]), middle * size)
        ious.append(pairwise_iou(around(middle, middle / context), logo)[0, 0])
        seen.append(pairwise_iou(around(middle, middle), logo)[0, 0] > 0)
    assert max(ious) < batches.NEAR_MISS_IOU + 1e-4
    assert max(ious) > 0.9 * batches.NEAR_MISS_IOU
    assert all(seen)  # near: the window sees some of the logo


def around(middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(1, 4) the box with this middle and half of its sides."""
    return np.concatenate([middle - half, middle + half]).astype(np.float32)[None]


def test_near_misses_are_drawn_where_they_say() -> None:
    batch = draw_batch(plain_store(), batch_settings(logos=1, near_misses=40), (0, 0, 0, 0))
    shares = [redness(window.transpose(1, 2, 0)).clip(0).mean() for window in batch.windows[1:]]
    assert np.std(shares) > 0.1
    assert max(shares) > 0.9  # a logo much too large fills the window


def test_patches_hold_background_and_little_of_nothing() -> None:
    """The crop is green, what lies outside it grey: no patch may hold another colour."""
    batch = draw_batch(plain_store(), batch_settings(patches=40), (0, 0, 0, 0))
    patches = batch.patches.transpose(0, 2, 3, 1).astype(int)
    assert (patches[..., 0] <= GREY).all()
    assert (patches[..., 1] >= GREY).all()
    assert (patches[..., 1] == 250).mean() > 0.85


def test_a_pasted_logo_stands_on_background() -> None:
    always = replace(UNCHANGED, paste=1.0)
    wanted = batch_settings(augment=always, near_misses=1, shift=0, scale=1)
    batch = draw_batch(plain_store(), wanted, (0, 0, 0, 0))
    for window in batch.windows[:12]:
        assert window[1, 0, 0] > 200  # green
        assert window[0, 10, 16] > 200  # red
        assert window[2, 0, 0] < 20  # none of its own blue


# Loss and schedule


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@FEW
@given(
    counts=st.lists(st.integers(0, 6), min_size=2, max_size=4).filter(any),
    cells=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)),
    hardest=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_the_loss_is_that_of_its_plain_twin(
    counts: list[int], cells: tuple[int, int, int], hardest: float, seed: int
) -> None:
    rng = rng_of(seed)
    classes = np.repeat(np.arange(len(counts)), counts)
    windows = rng.normal(size=(len(classes), len(counts), 1, 1)).astype(np.float32) * 3
    patches = rng.normal(size=(cells[0], len(counts), *cells[1:])).astype(np.float32) * 3
    found = epochs.loss(
        torch.tensor(windows), torch.tensor(classes), torch.tensor(patches), hardest
    )
    present = sum(count > 0 for count in counts)
    weights = [1 / (counts[label] * present) for label in classes]
    own = softmax(windows[..., 0, 0])[np.arange(len(classes)), classes]
    each = sorted(-np.log(softmax(patches)[:, BACKGROUND].ravel()), reverse=True)
    kept = each[: max(1, round(hardest * len(each)))]
    assert found[0].item() == pytest.approx(-np.sum(weights * np.log(own)), rel=1e-4)
    assert found[1].item() == pytest.approx(np.mean(kept), rel=1e-4)


def test_class_weights_make_every_class_count_the_same() -> None:
    classes = [0] * 6 + [2] * 3 + [3]
    weights = epochs.class_weights(classes, 5).double()
    sums = [sum(weights[each].item() for each in classes if each == label) for label in (0, 2, 3)]
    np.testing.assert_allclose(sums, len(classes) / 3, rtol=1e-6)
    assert weights[torch.tensor(classes)].mean().item() == pytest.approx(1)
    assert weights[[1, 4]].tolist() == [0, 0]


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


def test_the_parts_of_all_ranks_make_one_batch() -> None:
    spec = ModelSpec("lenet", LABELS, (40, 42), 4, context=1.15)
    asked = TrainingSettings(logos=48, near_misses=32, patches=4)
    alone, shared = (epochs.batch_settings(spec, asked, world) for world in (1, 4))
    assert (alone.logos, alone.near_misses, alone.patches) == (48, 32, 4)
    assert (shared.logos, shared.near_misses, shared.patches) == (12, 8, 1)
    assert alone.context == 1.15
    assert alone.patch_hw == (80, 84)


def test_an_expensive_network_sees_fewer_patches() -> None:
    spec = ModelSpec("mlp", LABELS, (22, 75), 4)
    wanted = epochs.batch_settings(spec, TrainingSettings(patches=16), 1)
    cost = models.multiply_adds(spec, wanted.patch_hw)
    assert 1 <= wanted.patches < 16
    assert (wanted.patches + 1) * cost > epochs.PATCH_BUDGET


# Learning


SPEC = ModelSpec("lenet", LABELS, WINDOW, 4, widths=(6, 8, 12), context=1.15)
QUICK = TrainingSettings(
    steps=12, logos=16, near_misses=8, patches=4, learning_rate=5e-3, levels_per_octave=4
)
EPOCHS = 6

Draw = Callable[..., np.ndarray]
Weights = Mapping[str, torch.Tensor]


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
    states: tuple[bytes, ...]  # a checkpoint after each epoch
    losses: tuple[float, ...]
    rates: tuple[float, ...]  # of learning, as each epoch ended
    network: models.Network


def checkpoint(network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> bytes:
    sink = io.BytesIO()
    torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict()}, sink)
    return sink.getvalue()


def train(store: CropStore, state: bytes = b"", done: int = 0, seed: int = 0) -> Trained:
    """All epochs that are not done, from fresh weights or from a checkpoint."""
    network = models.build(SPEC, seed)
    optimiser = epochs.make_optimiser(network, QUICK)
    if state:
        kept = torch.load(io.BytesIO(state), weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
    states, metrics = [], []
    for epoch in range(done, EPOCHS):
        place = Place(seed, epoch, EPOCHS)
        metrics.append(epochs.run_epoch(network, optimiser, store, QUICK, place))
        states.append(checkpoint(network, optimiser))
    losses = tuple(each.loss for each in metrics)
    rates = tuple(each.learning_rate for each in metrics)
    return Trained(network.state_dict(), tuple(states), losses, rates, network)


@pytest.fixture(scope="module")
def stores(draw: Draw) -> tuple[CropStore, CropStore]:
    """A drawn problem: what is trained on, and what is held out."""
    learnt, held_out = drawn_crops(draw, range(12)), drawn_crops(draw, range(100, 120))
    return CropStore.of(learnt, LABELS), CropStore.of(held_out, LABELS)


@pytest.fixture(scope="module")
def trained(stores: tuple[CropStore, CropStore]) -> Trained:
    return train(stores[0])


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_lowers_the_loss_and_finds_marks_it_never_saw(
    trained: Trained, stores: tuple[CropStore, CropStore]
) -> None:
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    untrained = epochs.validate(models.build(SPEC, 0), stores[1])
    found = epochs.validate(trained.network, stores[1])
    assert found["validation_window_ap"] > 0.9
    assert found["validation_loss"] < untrained["validation_loss"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit_also_when_resumed(
    trained: Trained, stores: tuple[CropStore, CropStore]
) -> None:
    """Two epochs anew are the first two, and what goes on from them ends where the first did."""
    resumed = train(stores[0], trained.states[1], done=2)
    assert same(resumed.weights, trained.weights)
    assert resumed.losses == trained.losses[2:]
    again = models.build(SPEC, 0)
    optimiser = epochs.make_optimiser(again, QUICK)
    for epoch in range(2):
        epochs.run_epoch(again, optimiser, stores[0], QUICK, Place(0, epoch, EPOCHS))
    first = torch.load(io.BytesIO(trained.states[1]), weights_only=True)
    assert same(again.state_dict(), first["network"])


def test_the_learning_rate_follows_its_schedule_through_all_epochs(trained: Trained) -> None:
    ends = [QUICK.steps * (epoch + 1) - 1 for epoch in range(EPOCHS)]
    total = QUICK.steps * EPOCHS
    assert list(trained.rates) == [epochs.learning_rate(QUICK, end, total) for end in ends]


def test_every_seed_epoch_and_rank_sees_other_windows(stores: tuple[CropStore, CropStore]) -> None:
    """Of the same weights, which hardly change, the loss says what was seen."""
    still = replace(QUICK, steps=1, learning_rate=1e-12)

    def loss(place: Place) -> float:
        network = models.build(SPEC, 0)
        optimiser = epochs.make_optimiser(network, still)
        return epochs.run_epoch(network, optimiser, stores[0], still, place).loss

    places = [Place(0, 0, 2), Place(1, 0, 2), Place(0, 1, 2), Place(0, 0, 2, rank=1)]
    losses = [loss(place) for place in places]
    assert len(set(losses)) == 4
    assert loss(places[0]) == losses[0]


def test_labels_at_random_teach_nothing(draw: Draw) -> None:
    """The control: labels known by another way than by the picture would show here."""
    every = drawn_crops(draw, range(40))
    labels = [crop.label for crop in every]
    rng_of(6).shuffle(labels)
    mixed = [replace(crop, label=label) for crop, label in zip(every, labels, strict=True)]
    learnt, held_out = CropStore.of(mixed[:40], LABELS), CropStore.of(mixed[40:], LABELS)
    found = epochs.validate(train(learnt).network, held_out)
    base_rate = len(held_out.logos) / (len(held_out.logos) + len(held_out.background))
    assert found["validation_window_ap"] == pytest.approx(base_rate, abs=0.2)


def test_a_checkpoint_holds_no_code(trained: Trained) -> None:
    """`weights_only` refuses anything but tensors and plain values."""
    state = torch.load(io.BytesIO(trained.states[-1]), weights_only=True)
    assert same(state["network"], trained.weights)


# Validation


def test_crops_are_scored_in_their_order_with_probabilities(trained: Trained) -> None:
    some = [*plain_store().logos, *plain_store().background] * 150  # more than one pass takes
    scores, classes = epochs.score_crops(trained.network, some, LABELS)
    assert scores.shape == (300, 2)
    assert classes.tolist() == [1, 0] * 150
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_allclose(scores, np.tile(scores[:2], (150, 1)), atol=1e-6)


def test_validation_figures_are_those_of_the_scores(trained: Trained, draw: Draw) -> None:
    store = CropStore.of(drawn_crops(draw, range(200, 206)), LABELS)
    some = (*store.logos, *store.background)
    scores, classes = epochs.score_crops(trained.network, some, LABELS)
    found = epochs.validate(trained.network, store)
    own = [row[label] for row, label in zip(scores, classes, strict=True)]
    assert found["validation_loss"] == pytest.approx(-np.mean(np.log(own)))
    expected = evaluation.average_precision(scores[:, 1], classes == 1, len(store.logos))
    assert found["validation_window_ap"] == pytest.approx(expected)


@pytest.mark.parametrize("kept", ["nothing", "logos", "background"])
def test_without_crops_to_validate_on_figures_are_nan(kept: str) -> None:
    store = plain_store()
    store = replace(
        store,
        logos=store.logos if kept == "logos" else (),
        classes=store.classes if kept == "logos" else store.classes[:0],
        background=store.background if kept == "background" else (),
    )
    found = epochs.validate(models.build(SPEC, 0), store)
    assert math.isnan(found["validation_window_ap"])
    assert math.isnan(found["validation_loss"]) == (kept == "nothing")


# Crop sets


@dataclass(frozen=True)
class Picture:
    """One row of a crop set: the picture's name and split, and what is on it."""

    name: str
    split: str
    label: str = ""  # of its one crop; "" is background
    bits: int = 0  # its perceptual hash
    image_id: str = ""

    @property
    def identity(self) -> str:
        return self.image_id or images.content_hash(self.name.encode())


def crop_set(out: Path, *pictures: Picture) -> Ledger:
    """A finished crop set with one crop from each picture."""
    row = {"container": "a", "offset": -1, "bytes": 0, "stamp": "", "shard": 0, "reason": None}
    inputs = [row | {"image": picture.name} for picture in pictures]
    book = Ledger.create(str(out), Job("crop", pa.Table.from_pylist(inputs, records.INPUTS), {}))
    picture_rows, crop_rows = [], []
    for picture in pictures:
        facts = {
            "image_id": picture.identity,
            "perceptual_hash": f"{picture.bits:016x}",
            "split": picture.split,
        }
        picture_rows.append(crops.picture_row(picture.name, None, records.OK, **facts))
        box = (2, 2, 8, 8)
        crop = replace(crop_of(drawn((10, 10), box), box, picture.label), image_id=picture.identity)
        crop_rows.append(crops.crop_row(picture.name, crop, picture.split))
    files = tuple(
        write_part(book.out, name, 0, pa.Table.from_pylist(rows, schema))
        for name, rows, schema in (
            ("pictures", picture_rows, records.PICTURES),
            ("crops", crop_rows, records.CROPS),
        )
    )
    count = len(pictures)
    book.commit(Receipt(0, count, count, 0, files, book.fingerprint))
    book.succeed()
    return book


LOGO = Picture("logo.png", "train", "mark")
NOTHING = Picture("nothing.png", "train", bits=0xFFFF)


def names_of(found: Sequence[Crop]) -> list[str]:
    return [crop.image_id for crop in found]


def test_stores_hold_each_side_of_the_split(tmp_path: Path) -> None:
    other = Picture("other.png", "validation", "mark")
    book = crop_set(tmp_path / "crops", LOGO, other, NOTHING)
    outside = crop_set(tmp_path / "background", Picture("far.png", "validation"))
    found = read_stores([book], [outside], LABELS)
    assert names_of(found.train.logos) == [LOGO.identity]
    assert names_of(found.train.background) == [NOTHING.identity]
    assert names_of(found.validation.logos) == [other.identity]
    assert names_of(found.validation.background) == [Picture("far.png", "").identity]


def test_an_annotated_picture_is_no_background_wherever_else_it_lies(tmp_path: Path) -> None:
    """Its logo would be taught as background."""
    book = crop_set(tmp_path / "crops", LOGO, NOTHING)
    copies = (
        Picture("copy.png", "train", image_id=LOGO.identity),
        Picture("held-out-copy.png", "validation", image_id=LOGO.identity),
        Picture("far.png", "train"),
    )
    outside = crop_set(tmp_path / "background", *copies)
    found = read_stores([book], [outside], LABELS)
    assert names_of(found.train.background) == [NOTHING.identity, copies[2].identity]
    assert found.validation.background == ()


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ([NOTHING, Picture("b", "validation", "mark")], "no crop of a logo is for training"),
        ([LOGO, Picture("b", "validation")], "no crop of background is for training"),
    ],
)
def test_crop_sets_with_nothing_to_learn_from_are_refused(
    tmp_path: Path, pictures: list[Picture], words: str
) -> None:
    book = crop_set(tmp_path / "crops", *pictures)
    with pytest.raises(InputError, match=f"{words} in .*crops; "):
        read_stores([book], [], LABELS)


def test_near_duplicates_on_both_sides_are_refused(tmp_path: Path) -> None:
    """Planted in two crop sets, three bits apart: the split of one set cannot know the other."""
    one = crop_set(tmp_path / "one", LOGO, NOTHING)
    twin = replace(LOGO, name="twin.png", split="validation", bits=0b111)
    two = crop_set(tmp_path / "two", twin)
    with pytest.raises(InputError, match=r"logo\.png is for train .*twin\.png for validation; cut"):
        check_split([one, two])
    check_split([one])
    check_split([one, crop_set(tmp_path / "three", replace(twin, split="train"))])
    check_split([one, crop_set(tmp_path / "four", replace(twin, bits=0xFF))])  # 8 bits: far enough


# Calibration and threshold


def judged(scores: Sequence[float], is_true: Sequence[bool], aside: str = "") -> JudgedPicture:
    """A picture with a detection for each score, on a box of its own where it is true."""
    count = len(scores)
    boxes = np.array([[20 * n, 0, 20 * n + 10, 10] for n in range(count)], np.float32)
    marked = boxes[np.array(is_true, bool)]
    flags = [False] * len(marked)
    truth = Annotation(
        "a",
        "",
        marked,
        ("mark",) * len(marked),
        ignore=[True] * len(marked) if aside == "ignore" else flags,
        difficult=[True] * len(marked) if aside == "difficult" else flags,
    )
    return JudgedPicture("a", boxes, np.array(scores), ["mark"] * count, truth)


def calibrated(point: OperatingPoint, score: float) -> float:
    slope, offset = point.calibration
    return 1 / (1 + math.exp(-(slope * math.log(score / (1 - score)) + offset)))


MARK = ("mark",)


def test_the_threshold_parts_true_from_false_detections() -> None:
    true, false = [0.9, 0.8, 0.75, 0.95], [0.3, 0.2, 0.6, 0.05, 0.1]
    point = fit_operating_point([judged(true, [True] * 4), judged(false, [False] * 5)], MARK)
    assert calibrated(point, 0.6) < point.threshold < calibrated(point, 0.75)


@FEW
@given(
    true=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=9),
    false=st.lists(st.floats(0.01, 0.99), max_size=9),
)
def test_calibration_never_turns_the_order_of_scores_around(
    true: list[float], false: list[float]
) -> None:
    pictures = [judged(true, [True] * len(true)), judged(false, [False] * len(false))]
    point = fit_operating_point(pictures, MARK)
    assert point.calibration[0] > 0
    assert 0.01 <= point.threshold <= 0.99


def test_calibrated_scores_are_probabilities() -> None:
    """Of raw scores that are far too sure, at 0.99 half are true."""
    rng = rng_of(0)
    raw = np.where(rng.random(2000) < 0.5, 0.99, 0.9).tolist()
    is_true = [rng.random() < (0.5 if score == 0.99 else 0.1) for score in raw]
    pictures = [judged(raw[n : n + 40], is_true[n : n + 40]) for n in range(0, 2000, 40)]
    point = fit_operating_point(pictures, MARK)
    assert calibrated(point, 0.99) == pytest.approx(0.5, abs=0.05)
    assert calibrated(point, 0.9) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("true", [0, 2])
def test_with_too_few_true_detections_nothing_is_fitted(true: int) -> None:
    few = judged([0.9, 0.8, 0.2, 0.1], [n < true for n in range(4)])
    assert fit_operating_point([few], MARK) == OperatingPoint((1.0, 0.0), 0.5)
    assert fit_operating_point([], MARK) == OperatingPoint((1.0, 0.0), 0.5)


@pytest.mark.parametrize("aside", ["ignore", "difficult"])
def test_boxes_set_aside_neither_help_nor_harm(aside: str) -> None:
    plain = [judged([0.9, 0.8, 0.7], [True] * 3), judged([0.2, 0.4], [False] * 2)]
    more = judged([0.99, 0.01], [True, True], aside)
    assert fit_operating_point([*plain, more], MARK) == fit_operating_point(plain, MARK)


def test_boxes_that_are_no_logo_are_background_to_the_threshold() -> None:
    """Boxes of a negative label were drawn to be told apart, not to be found."""
    plain = [judged([0.9, 0.8, 0.7], [True] * 3), judged([0.2, 0.4], [False] * 2)]
    other = replace(plain[1], truth=Annotation("b", "", [[0, 0, 9, 9]], ("other",), [0], [0]))
    assert fit_operating_point([plain[0], other], MARK) == fit_operating_point(plain, MARK)
