"""The judge's batches: where a proposal says that the logo is, the pixels show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from nnst import boxes
from nnst.records import BACKGROUND, Crop
from nnst.training.batches import IGNORED, CropStore
from nnst.training.proposals import (
    BACKGROUND_IOU,
    BOX_IOU,
    LOGO_IOU,
    ProposalBatch,
    ProposalSettings,
    cut_still,
    draw_proposals,
)
from nnst.training.settings import AugmentSettings

UNCHANGED = AugmentSettings(**{field.name: 0.0 for field in fields(AugmentSettings)})
ROUGH = replace(UNCHANGED, rotate=10, stretch=0.15, shear=0.1, perspective=0.06)
RED, BLUE = (250, 5, 5), (5, 5, 250)
WINDOW = (60, 72)
ASPECT = 1.6
KINDS = {"near": 40, "moved": 20, "far": 160}


def crop_of(pixels: np.ndarray, box: Sequence[float], label: str = "mark") -> Crop:
    where = np.array(box, np.float32)
    return Crop(pixels, label, "positive" if label else "negative", "ab" * 32, where, where)


def logo_crop(half_xy: tuple[int, int] = (30, 15), label: str = "mark", power: int = 0) -> Crop:
    """Red on blue: a rectangle, or where x^power + y^power < 1 in half sides."""
    rows, columns = np.indices((200, 240)) + 0.5
    x, y = abs(columns - 120) / half_xy[0], abs(rows - 100) / half_xy[1]
    inside = (x**power + y**power < 1) if power else (np.maximum(x, y) < 1)
    pixels = np.where(inside[..., None], RED, BLUE).astype(np.uint8)
    middle, half = np.array([120, 100]), np.array(half_xy)
    return crop_of(pixels, np.concatenate([middle - half, middle + half]), label)


def plain_store(*logos: Crop, background: int = 1) -> CropStore:
    """The logos, and background crops that each have a blue of their own, and no red."""
    blues = [
        crop_of(np.full((60, 96, 3), (5, 5, 250 - 10 * index), np.uint8), (24, 15, 72, 45), "")
        for index in range(background)
    ]
    chosen = logos or (logo_crop(),)
    return CropStore.of([*chosen, *blues], ("", *sorted({crop.label for crop in chosen})))


def proposal_settings(**changes: Any) -> ProposalSettings:
    values: dict[str, Any] = {
        "window_hw": WINDOW,
        "context": 3.0,
        "aspect": ASPECT,
        "reach": 0.2,
        "scale": 1.2,
        "background": 10,
        "augment": UNCHANGED,
    }
    return ProposalSettings(**(values | KINDS | changes))


def edges(line: np.ndarray) -> tuple[float, float]:
    """Where what has weight begins and ends, between pixels where these are part full."""
    places = np.flatnonzero(line > 0.5)
    first, last = places[0], places[-1]
    before = line[first - 1] if first > 0 else 0.0
    after = line[last + 1] if last + 1 < len(line) else 0.0
    return first + 1 - line[first] - before, last + line[last] + after


def shown_box(window: np.ndarray) -> np.ndarray | None:
    """(4,) where the window (3, h, w) shows red, or None unless it shows it whole."""
    weights = (window[0].astype(float) - BLUE[0]) / (RED[0] - BLUE[0])
    rim = np.concatenate([weights[0], weights[-1], weights[:, 0], weights[:, -1]])
    if weights.max() < 0.9 or rim.max() > 0.1:
        return None
    (x0, x1), (y0, y1) = edges(weights.max(axis=0)), edges(weights.max(axis=1))
    return np.array([x0, y0, x1, y1])


def own_box(context: float, hw: tuple[int, int] = WINDOW) -> np.ndarray:
    """(4,) in any window, the box that is judged."""
    middle = half = np.array(hw[::-1]) / 2
    return np.concatenate([middle - half / context, middle + half / context]).astype(np.float32)


def rows_of(kind: str) -> slice:
    """Where a kind of proposal stands in a batch."""
    order = [*KINDS]
    start = sum(KINDS[name] for name in order[: order.index(kind)])
    return slice(start, start + KINDS[kind])


def kind_of(batch: ProposalBatch, kind: str) -> ProposalBatch:
    rows = rows_of(kind)
    columns = (batch.windows, batch.classes, batch.deltas, batch.on_logo)
    return ProposalBatch(*(column[rows] for column in columns))


@pytest.fixture(scope="module")
def batch() -> ProposalBatch:
    """Of a rectangle of 60 x 30 pixels, nothing augmented."""
    return draw_proposals(plain_store(), proposal_settings(), (0, 0, 0, 0))


def test_a_batch_has_the_shapes_and_kinds_that_were_asked_for(batch: ProposalBatch) -> None:
    count = sum(KINDS.values()) + 10
    assert batch.windows.shape == (count, 3, *WINDOW)
    assert batch.deltas.shape == (count, 4)
    assert batch.classes.shape == batch.on_logo.shape == (count,)
    kinds = (batch.windows, batch.classes, batch.deltas, batch.on_logo)
    assert [kind.dtype for kind in kinds] == [np.uint8, np.int64, np.float32, bool]
    assert (batch.classes[: KINDS["near"] + KINDS["moved"]] == 1).all()
    assert (batch.classes[-10:] == BACKGROUND).all()
    assert not batch.on_logo[-10:].any()
    assert (batch.deltas[~batch.on_logo] == 0).all()


@pytest.mark.parametrize(
    ("power", "augment", "off"), [(0, UNCHANGED, 0.3), (4, ROUGH, 1.2)], ids=["still", "rough"]
)
def test_deltas_move_every_proposal_onto_the_logo(
    power: int, augment: AugmentSettings, off: float
) -> None:
    """The logo is looked for in the window's pixels, as the judge will have to."""
    context = 2.5
    wanted = proposal_settings(context=context, augment=augment)
    found = draw_proposals(plain_store(logo_crop(power=power)), wanted, (0, 0, 0, 0))
    compared = 0
    for window, deltas, on_logo in zip(found.windows, found.deltas, found.on_logo, strict=True):
        expected = shown_box(window)
        if on_logo and expected is not None:
            moved = boxes.move(own_box(context)[None], deltas[None])[0]
            np.testing.assert_allclose(moved, expected, atol=off)
            compared += 1
    assert compared > 55


def test_far_proposals_are_named_by_what_they_share_with_the_logo() -> None:
    wide = proposal_settings(context=4.0, window_hw=(120, 144))
    far = kind_of(draw_proposals(plain_store(), wide, (0, 0, 0, 0)), "far")
    own = own_box(4.0, (120, 144))[None]
    sure: list[tuple[float, int, bool]] = []
    for window, named, on_logo in zip(far.windows, far.classes, far.on_logo, strict=True):
        box = shown_box(window)
        if box is not None:
            iou = float(boxes.pairwise_iou(own, box[None].astype(np.float32))[0, 0])
            if min(abs(iou - limit) for limit in (LOGO_IOU, BACKGROUND_IOU, BOX_IOU)) > 0.015:
                sure.append((iou, int(named), bool(on_logo)))
    assert len(sure) > 60
    for iou, named, on_logo in sure:
        assert named == (1 if iou > LOGO_IOU else BACKGROUND if iou < BACKGROUND_IOU else IGNORED)
        assert on_logo == (iou > BOX_IOU)
    assert {named for _, named, _ in sure} == {1, BACKGROUND, IGNORED}


def test_near_proposals_are_as_the_scout_gives_them(batch: ProposalBatch) -> None:
    """Of one aspect, within reach, too large or too small by a factor at most."""
    near = kind_of(batch, "near")
    assert near.on_logo.all()
    assert np.abs(near.deltas[:, :2]).max() <= 0.2 + 1e-5
    assert np.abs(near.deltas[:, :2]).max() > 0.17
    aspects = 2.0 * np.exp(near.deltas[:, 3] - near.deltas[:, 2])  # the logo's is 2
    np.testing.assert_allclose(aspects, ASPECT, rtol=1e-4)
    larger = near.deltas[:, 2:].mean(axis=1)
    assert np.abs(larger).max() <= math.log(1.2) + 1e-5
    assert np.abs(larger).max() > 0.9 * math.log(1.2)


def test_proposals_that_the_judge_moved_are_nearly_right(batch: ProposalBatch) -> None:
    moved = kind_of(batch, "moved")
    assert moved.on_logo.all()
    box = own_box(3.0)[None].repeat(len(moved.deltas), axis=0)
    ious = np.diagonal(boxes.pairwise_iou(box, boxes.move(box, moved.deltas)))
    assert ious.min() > 0.5
    assert 0.7 < ious.mean() < 0.95


def test_a_logo_far_from_the_windows_shape_is_still_a_logo_where_the_scout_finds_it() -> None:
    """The box it is found by shares little with it: it must be moved all the more."""
    store = plain_store(logo_crop((60, 6)))
    found = kind_of(draw_proposals(store, proposal_settings(), (0, 0, 0, 0)), "near")
    assert (found.classes == 1).all()
    assert found.on_logo.all()


def test_classes_are_drawn_equally_often_and_shown_as_such() -> None:
    """Logos of another label have another shape: the deltas tell which was drawn."""
    store = plain_store(*[logo_crop(label="a")] * 9, logo_crop((15, 30), "b"))
    wanted = proposal_settings(near=400, moved=1, far=1)
    found = draw_proposals(store, wanted, (0, 0, 0, 0))
    classes, deltas = found.classes[:400], found.deltas[:400]
    np.testing.assert_allclose(np.bincount(classes)[1:], 200, rtol=0.2)
    wide = deltas[:, 2] > deltas[:, 3]
    np.testing.assert_array_equal(wide, classes == 1)


def blues(batch: ProposalBatch, count: int) -> np.ndarray:
    """(count,) which background crop each of the last windows shows."""
    middle = batch.windows[-count:, 2, WINDOW[0] // 2, WINDOW[1] // 2].astype(int)
    return (250 - middle) // 10


def test_half_of_the_background_is_hard_when_some_is_known() -> None:
    store, wanted = plain_store(background=12), proposal_settings(background=60)
    picks = blues(draw_proposals(store, wanted, (0, 0, 0, 0), np.array([3, 7])), 60)
    assert {*picks[:30]} == {3, 7}
    assert 8 < np.sum(picks[:30] == 3) < 22
    assert len({*picks[30:]}) > 7
    for nothing in (None, np.zeros(0, np.int64)):
        picks = blues(draw_proposals(store, wanted, (0, 0, 0, 0), nothing), 60)
        assert len({*picks[:30]}) > 7


def test_a_batch_depends_on_seed_epoch_step_and_rank_and_on_nothing_else() -> None:
    store = plain_store(background=5)
    wanted = proposal_settings(augment=AugmentSettings(), near=4, moved=4, far=4)

    def drawn(*seed: int) -> bytes:
        found = draw_proposals(store, wanted, seed, np.array([1]))  # type: ignore[arg-type]
        columns = (found.windows, found.classes, found.deltas, found.on_logo)
        return b"".join(column.tobytes() for column in columns)

    first = drawn(1, 2, 3, 4)
    np.random.seed(9)  # noqa: NPY002 - the global state must not matter
    others = [drawn(0, 2, 3, 4), drawn(1, 0, 3, 4), drawn(1, 2, 0, 4), drawn(1, 2, 3, 0)]
    assert drawn(1, 2, 3, 4) == first
    assert len({first, *others}) == 5


def greyness(windows: np.ndarray) -> np.ndarray:
    """(B, h, w) 1 where a pixel is grey, 0 where it is red, blue or between them."""
    low, high = windows.min(axis=1).astype(float), windows.max(axis=1).astype(float)
    return (low - 5) / (high - 5)


def test_no_grey_shows_beside_a_logo_whose_crop_ends() -> None:
    """Windows three times as large as the box, and a crop that ends right behind the logo."""
    small = crop_of(logo_crop().pixels[80:120, 85:155], (5, 5, 65, 35))
    store = plain_store(small)
    found = draw_proposals(store, proposal_settings(near=30), (0, 0, 0, 0)).windows[:30]
    grey = greyness(found)
    assert (grey > 0.1).mean() < 0.001
    bare = draw_proposals(
        replace(store, background=()), proposal_settings(background=0), (0, 0, 0, 0)
    )
    assert (greyness(bare.windows) > 0.9).mean() > 0.2  # the measure sees it


@pytest.mark.parametrize("context", [1.0, 1.3, 2.0])
def test_a_still_window_is_the_box_stretched_to_it_with_context(context: float) -> None:
    crops = [logo_crop((30, 15)), logo_crop((12, 40))]
    for window in cut_still(crops, WINDOW, context):
        if context > 1.2:
            found = shown_box(window)
            assert found is not None
            np.testing.assert_allclose(found, own_box(context), atol=0.3)
        else:
            assert (window[0] > 120).all()


def test_no_crops_have_no_still_windows() -> None:
    assert cut_still([], WINDOW, 1.3).shape == (0, 3, *WINDOW)
