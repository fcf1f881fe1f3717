"""Batches: what a patch shows, and that its targets speak of what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import crops, images
from nnst.crops import GREY
from nnst.records import BACKGROUND, Crop
from nnst.training import batches
from nnst.training.augmentation import frame
from nnst.training.batches import (
    BACKGROUND_IOU,
    IGNORED,
    BatchSettings,
    CropStore,
    cell_targets,
    centred_windows,
    draw_batch,
)
from nnst.training.settings import AugmentSettings

UNCHANGED = AugmentSettings(**{field.name: 0.0 for field in fields(AugmentSettings)})
RED, GREEN, BLUE = (250, 5, 5), (5, 250, 5), (5, 5, 250)
WINDOW, PATCH = (20, 32), (40, 64)
LABELS = ("background", "mark")
CONTEXT = 1.25


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(hw: tuple[int, int], box: Sequence[int]) -> np.ndarray:
    """(H, W, 3) red in the box, blue around it."""
    pixels = np.full((*hw, 3), BLUE, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = RED
    return pixels


def crop_of(pixels: np.ndarray, box: Sequence[float], label: str = "mark") -> Crop:
    where = np.array(box, np.float32)
    return Crop(pixels, label, "positive" if label else "negative", "ab" * 32, where, where)


def redness(plane: np.ndarray) -> np.ndarray:
    """(H, W) of (3, H, W): how much of each pixel is red, from 0 to 1."""
    return (plane[0].astype(float) - BLUE[0]) / (RED[0] - BLUE[0])


def bounds(weights: np.ndarray) -> np.ndarray:
    """(4,) the box of all that has weight, its edges between pixels where these are part full."""
    found = []
    for line in (weights.max(axis=0), weights.max(axis=1)):
        places = np.flatnonzero(line > 0.5)
        first, last = places[0], places[-1]
        before = line[first - 1] if first > 0 else 0.0
        after = line[last + 1] if last + 1 < len(line) else 0.0
        found.append((first + 1 - line[first] - before, last + line[last] + after))
    (x0, x1), (y0, y1) = found
    return np.array([x0, y0, x1, y1])


def batch_settings(**changes: Any) -> BatchSettings:
    values: dict[str, Any] = {
        "window_hw": WINDOW,
        "stride": 4,
        "context": CONTEXT,
        "logos": 12,
        "background": 3,
        "patch_hw": PATCH,
        "logo_iou": 0.6,
        "scale": 1.1,
        "strays": 0.0,
        "augment": UNCHANGED,
    }
    return BatchSettings(**(values | changes))


def plain_store(*labels: str) -> CropStore:
    """Red logos on blue, one of each label, and background of one green."""
    box = (16, 10, 48, 30)  # of the window's shape
    logos = [crop_of(drawn((40, 64), box), box, label) for label in labels or ("mark",)]
    nothing = crop_of(np.full((60, 96, 3), GREEN, np.uint8), (24, 15, 72, 45), "")
    return CropStore.of([*logos, nothing], ("background", *sorted({*labels} or {"mark"})))


# Stores


def test_a_store_sorts_crops_and_knows_their_classes() -> None:
    store = plain_store("a", "b", "a")
    assert [crop.label for crop in store.logos] == ["a", "b", "a"]
    assert store.classes.tolist() == [1, 2, 1]
    assert [crop.label for crop in store.background] == [""]


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="nike"):
        CropStore.of([crop_of(drawn((9, 9), (1, 1, 5, 5)), (1, 1, 5, 5), "nike")], LABELS)


# Targets


def plain_iou(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def around(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


@settings(max_examples=100, deadline=None)
@given(
    window_hw=st.tuples(st.integers(8, 24), st.integers(8, 40)),
    room=st.tuples(st.integers(8, 30), st.integers(8, 30)),
    stride=st.sampled_from([4, 8]),
    context=st.floats(1, 2),
    middle=st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)),
    factor=st.tuples(st.floats(0.7, 1.5), st.floats(0.7, 1.5)),
)
def test_targets_equal_their_plain_twin(
    window_hw: tuple[int, int],
    room: tuple[int, int],
    stride: int,
    context: float,
    middle: tuple[float, float],
    factor: tuple[float, float],
) -> None:
    """Window by window: the logo, reshaped to the window's aspect, against the window's object."""
    patch_hw = window_hw[0] + room[0], window_hw[1] + room[1]
    wanted = batch_settings(window_hw=window_hw, patch_hw=patch_hw, stride=stride, context=context)
    height, width = window_hw[0] / context, window_hw[1] / context
    x, y = (window_hw[1 - n] / 2 + middle[n] * room[1 - n] for n in (0, 1))
    box = around(x, y, width * factor[0], height * factor[1])
    found = cell_targets(np.array(box), 3, wanted)
    rows, columns = range(0, room[0] + 1, stride), range(0, room[1] + 1, stride)
    assert found.shape == (len(rows), len(columns))
    assert found.dtype == np.int64
    side = math.sqrt(factor[0] * factor[1])
    logo = around(x, y, width * side, height * side)
    for row, top in enumerate(rows):
        for column, left in enumerate(columns):
            own = around(left + window_hw[1] / 2, top + window_hw[0] / 2, width, height)
            iou = plain_iou(own, logo)
            least, most = wanted.logo_iou, BACKGROUND_IOU * wanted.logo_iou
            if min(abs(iou - least), abs(iou - most)) > 1e-4:
                named = 3 if iou > least else BACKGROUND if iou < most else IGNORED
                assert found[row, column] == named


def test_a_patch_of_one_window_has_one_target() -> None:
    wanted = batch_settings(patch_hw=WINDOW)
    on_it = np.array(around(16, 10, 32 / CONTEXT, 20 / CONTEXT))
    assert cell_targets(on_it, 1, wanted).tolist() == [[1]]
    assert cell_targets(on_it + 9, 1, wanted).tolist() == [[BACKGROUND]]
    assert cell_targets(on_it + np.array([5, 0, 5, 0]), 1, wanted).tolist() == [[1]]
    assert cell_targets(on_it + np.array([9, 0, 9, 0]), 1, wanted).tolist() == [[IGNORED]]


def test_a_box_without_area_is_nowhere() -> None:
    assert (cell_targets(np.array([30.0, 20, 30, 20]), 1, batch_settings()) == BACKGROUND).all()


# Batches


def test_a_batch_has_the_shapes_and_classes_that_were_asked_for() -> None:
    batch = draw_batch(plain_store("a", "b"), batch_settings(), (0, 0, 0, 0))
    assert batch.patches.shape == (15, 3, *PATCH)
    assert batch.patches.dtype == np.uint8
    assert batch.targets.shape == (15, 6, 9)
    assert batch.targets.dtype == np.int64
    assert {*np.unique(batch.targets[:12])} == {IGNORED, BACKGROUND, 1, 2}
    assert (batch.targets[12:] == BACKGROUND).all()


def test_a_batch_depends_on_seed_epoch_step_and_rank_and_on_nothing_else() -> None:
    store, wanted = plain_store(), batch_settings(augment=AugmentSettings(), strays=0.5)

    def batch(*seed: int) -> bytes:
        found = draw_batch(store, wanted, seed)  # type: ignore[arg-type]
        return found.patches.tobytes() + found.targets.tobytes()

    first = batch(1, 2, 3, 4)
    np.random.seed(9)  # noqa: NPY002 - the global state must not matter
    others = [batch(0, 2, 3, 4), batch(1, 0, 3, 4), batch(1, 2, 0, 4), batch(1, 2, 3, 0)]
    assert batch(1, 2, 3, 4) == first
    assert len({first, *others}) == 5


def test_classes_are_drawn_equally_often_however_many_crops_they_have() -> None:
    classes = np.array([1] * 30 + [2, 2, 3])
    picks = np.concatenate([batches.balanced(classes, 60, rng_of(step)) for step in range(20)])
    np.testing.assert_allclose(np.bincount(classes[picks])[1:], 400, rtol=0.15)
    assert {*picks} == {*range(33)}


@pytest.mark.parametrize("strays", [0.0, 1.0])
def test_the_targets_of_a_patch_are_those_of_the_logo_that_it_shows(strays: float) -> None:
    """The logo's box is measured in the pixels; next to a limit a measure may err."""
    wanted = batch_settings(logos=80, strays=strays)
    batch = draw_batch(plain_store(), wanted, (0, 0, 0, 0))
    compared = 0
    for patch, targets in zip(batch.patches[:80], batch.targets[:80], strict=True):
        box = bounds(redness(patch))
        if (box[:2] > 1).all() and (box[2:] < (PATCH[1] - 1, PATCH[0] - 1)).all():
            nudged = [cell_targets(box + nudge, 1, wanted) for nudge in NUDGES]
            sure = (np.stack(nudged) == nudged[0]).all(axis=0)
            np.testing.assert_array_equal(targets[sure], nudged[0][sure])
            compared += int(sure.sum())
    assert compared > 20 * 54 * 0.8


SIDEWAYS = [(0, 0, 0, 0), (1, 0, 1, 0), (-1, 0, -1, 0), (0, 1, 0, 1), (0, -1, 0, -1)]
NUDGES = 0.5 * np.array([*SIDEWAYS, (-1, -1, 1, 1), (1, 1, -1, -1)])


def sizes_of(strays: float) -> np.ndarray:
    """(N,) of logos that are shown whole: side over that of the object which a window shows."""
    wanted = batch_settings(logos=200, background=1, strays=strays)
    batch = draw_batch(plain_store(), wanted, (0, 0, 0, 0))
    found = [bounds(redness(patch)) for patch in batch.patches[:200]]
    whole = [box for box in found if (box[:2] > 1).all() and (box[2:] < (63, 39)).all()]
    return np.array([(box[2] - box[0]) / (32 / CONTEXT) for box in whole])


def test_logos_are_of_the_sizes_that_a_level_shows_and_strays_of_any() -> None:
    plain, stray = sizes_of(strays=0), sizes_of(strays=1)
    assert len(plain) > 30
    assert plain.min() > 0.96 / 1.1
    assert plain.max() < 1.04 * 1.1
    assert plain.std() > 0.03
    assert stray.min() < 0.6
    assert stray.max() > 1.5


def test_logos_come_to_lie_all_over_a_patch() -> None:
    batch = draw_batch(plain_store(), batch_settings(logos=300), (0, 0, 0, 0))
    assert (batch.targets == 1).any(axis=0).all()  # every window has been on a logo


@pytest.mark.parametrize(
    "sides_xy", [(16, 10), (32, 20), (48, 30), (80, 50), (160, 100), (320, 200)]
)
def test_the_window_on_a_box_is_its_canonical_window_resized(sides_xy: tuple[int, int]) -> None:
    """From boxes half as large as the window to ten times."""
    coarse = rng_of(5).integers(0, 256, (6, 8, 3), np.uint8)
    pixels = images.resize(coarse, (2 * sides_xy[1], 2 * sides_xy[0]))
    box = np.array([sides_xy[0] / 2, sides_xy[1] / 2, sides_xy[0] * 1.5, sides_xy[1] * 1.5])
    crop = crop_of(pixels, box)
    expected = crops.picture_to_look_at(crop, WINDOW).astype(float)

    def apart(shown: Crop) -> float:
        found = centred_windows([shown], WINDOW, 1.0)[0].transpose(1, 2, 0)
        return float(np.abs(found - expected).mean())

    assert apart(crop) < 4
    shift = 2 * sides_xy[0] / WINDOW[1]
    assert apart(crop_of(pixels, box - (shift, 0, shift, 0))) > 6  # the measure sees a shift


def test_a_centred_window_shows_its_logo_with_the_models_context() -> None:
    (window,) = centred_windows(plain_store().logos, WINDOW, CONTEXT)
    middle, half = np.array([16, 10]), np.array([16, 10]) / CONTEXT
    expected = np.concatenate([middle - half, middle + half])
    np.testing.assert_allclose(bounds(redness(window)), expected, atol=0.1)


def test_no_crops_have_no_windows() -> None:
    assert centred_windows([], WINDOW, 1.0).shape == (0, 3, *WINDOW)


# Background


def test_patches_of_background_hold_background_and_little_of_nothing() -> None:
    """The crop is green, what lies outside it grey: no patch may hold another colour."""
    batch = draw_batch(plain_store(), batch_settings(background=40), (0, 0, 0, 0))
    patches = batch.patches[12:].transpose(0, 2, 3, 1).astype(int)
    assert (patches[..., 0] <= GREY).all()
    assert (patches[..., 1] >= GREY).all()
    assert (patches[..., 1] == 250).mean() > 0.9


def greyness(planes: np.ndarray) -> np.ndarray:
    """(B, H, W) 1 where a pixel is grey, 0 where it is one of the three colours or between them."""
    low, high = planes.min(axis=1).astype(float), planes.max(axis=1).astype(float)
    return (low - 5) / (high - 5).clip(1)


@pytest.mark.parametrize("augment", [UNCHANGED, replace(UNCHANGED, rotate=20, perspective=0.1)])
def test_no_grey_shows_outside_of_a_crop_where_there_is_scenery(augment: AugmentSettings) -> None:
    """Nor along the seam; without scenery much is grey."""
    store, wanted = plain_store(), batch_settings(logos=60, strays=1.0, augment=augment)
    found = greyness(draw_batch(store, wanted, (0, 0, 0, 0)).patches[:60])
    assert (found > 0.1).mean() < 0.001
    crop = store.logos[0]
    matrix = frame(np.zeros(2), np.full(2, 0.5), (32.0, 20.0))
    bare = replace(store, background=())
    without, with_ = (
        greyness(
            batches.planes([batches.show(own, crop, matrix, PATCH, augment, rng_of(0))], PATCH)
        )
        for own in (bare, store)
    )
    assert (without > 0.9).mean() > 0.5
    assert (with_ > 0.1).mean() < 0.001


def test_a_pasted_logo_stands_on_scenery() -> None:
    always = replace(UNCHANGED, paste=1.0)
    batch = draw_batch(plain_store(), batch_settings(augment=always), (0, 0, 0, 0))
    logos = batch.patches[:12].transpose(0, 2, 3, 1).astype(int)
    assert ((logos[..., 1] > 240) & (logos[..., 0] < 10)).mean() > 0.6  # green
    assert (logos[..., 0] > 240).any(axis=(1, 2)).all()  # red in each
    assert (logos[..., 2] > 200).mean() < 0.005  # none of its own blue


def test_background_is_never_pasted() -> None:
    store = plain_store()
    crop = crop_of(drawn((40, 64), (16, 10, 48, 30)), (16, 10, 48, 30), "")
    always = replace(UNCHANGED, paste=1.0)
    shown = batches.show(store, crop, np.eye(3), (40, 64), always, rng_of(0))
    np.testing.assert_array_equal(shown, crop.pixels)
