"""A level scored at once gives what each window scored alone gives, and boxes find their way back.

The first test is the one that the whole detector rests on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import boxes as boxes_
from nnst import pyramid, windows
from nnst.models import networks
from nnst.pyramid import Halves
from nnst.records import ModelSpec, PyramidLevel

SPEC = ModelSpec("lenet", ("", "logo"), (22, 33), 4, widths=(4, 6, 8))
WINDOWS = {
    "mlp": st.tuples(st.integers(1, 24), st.integers(1, 40)),
    "lenet": st.tuples(st.integers(16, 30), st.integers(16, 80)),
    "scout": st.tuples(*[st.integers(2, 12).map(lambda side: 4 * side)] * 2),
    "judge": st.tuples(st.integers(31, 40), st.integers(31, 48)),
}
WIDTHS = {"mlp": (7,), "lenet": (4, 6, 8), "scout": (3, 4, 4, 6), "judge": (3, 4, 4, 4, 5, 6)}
LAID_OVER_LEVELS = ("mlp", "lenet", "scout")  # a judge sees one box at a time


def drawn(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Many small passes: two threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Logits agree to 1e-5 of the largest.

    A logit is a sum of parts larger than itself, which float32 adds up in another order for
    another shape: its error follows the size of the parts, however small the sum.
    """
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


@st.composite
def specs(draw: st.DrawFn, **fixed: object) -> ModelSpec:
    """A model of any architecture that is laid over levels, any window and number of labels."""
    name = draw(st.sampled_from(LAID_OVER_LEVELS))
    labels = tuple(str(label) for label in range(draw(st.integers(2, 4))))
    window_hw = draw(WINDOWS[name])
    stride = networks.stride_of(name, window_hw)
    spec = ModelSpec(name, labels, window_hw, stride, widths=WIDTHS[name])
    return replace(spec, **fixed)


@st.composite
def levels(draw: st.DrawFn, spec: ModelSpec) -> PyramidLevel:
    """Any level of the pyramid of a small picture, with half a window of border."""
    picture = drawn(
        (draw(st.integers(1, 70)), draw(st.integers(1, 110))), seed=draw(st.integers(0))
    )
    height, width = spec.window_hw
    scale = draw(st.floats(0.3, 1.6))
    return next(pyramid.levels(Halves(picture), [scale], (width // 2, height // 2)))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_dense_scores_are_those_of_each_window_alone(data: st.DataObject) -> None:
    spec = data.draw(specs())
    level = data.draw(levels(spec))
    network = networks.build(spec, seed=data.draw(st.integers(0, 99)))
    alone = windows.score_windows_one_by_one(network, level.pixels, batch=64)
    dense = windows.score_map(network, level.pixels)
    assert dense.shape == (len(spec.labels), *windows.grid_hw(level.pixels.shape[:2], spec))
    assert dense.size > 0
    assert_same(dense, alone)


def test_every_architecture_is_in_the_tables_above() -> None:
    assert set(WINDOWS) == set(WIDTHS) == set(networks.ARCHITECTURES)


@pytest.mark.parametrize("architecture", ["mlp", "lenet"])
def test_the_talks_own_window_at_full_width(architecture: str) -> None:
    spec = ModelSpec(architecture, ("", "logo"), (22, 75), 4)
    network = networks.build(spec, seed=2)
    pixels = drawn((35, 101))
    alone = windows.score_windows_one_by_one(network, pixels)
    assert alone.shape == (2, 4, 7)
    assert_same(windows.score_map(network, pixels), alone)


@settings(max_examples=20, deadline=None)
@given(spec=specs(), tile_hw=st.tuples(st.integers(30, 90), st.integers(40, 130)))
def test_tiles_do_not_change_the_scores(spec: ModelSpec, tile_hw: tuple[int, int]) -> None:
    network = networks.build(spec)
    pixels = drawn((59, 97))
    whole = windows.score_map(network, pixels, tile_hw=(1000, 1000))
    tiled = windows.score_map(network, pixels, tile_hw)
    assert_same(tiled, whole)


def test_a_cell_holds_the_score_of_the_window_at_its_own_place() -> None:
    """Were rows and columns mixed up, twins that share the mistake would still agree."""
    network = networks.build(SPEC)
    pixels = drawn((60, 90))
    dense = windows.score_map(network, pixels)
    for row, column in [(0, 0), (3, 1), (1, 7)]:
        window = pixels[row * 4 : row * 4 + 22, column * 4 : column * 4 + 33]
        with torch.inference_mode():
            alone = network(torch.tensor(window).permute(2, 0, 1)[None])[0, :, 0, 0]
        assert_same(dense[:, row, column], alone.numpy())


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_judge_gives_each_crop_of_a_batch_what_it_gives_it_alone(data: st.DataObject) -> None:
    """Its window is the whole of what it sees: a logit for each label, and four moves."""
    window_hw = data.draw(WINDOWS["judge"])
    spec = ModelSpec("judge", ("", "a", "b"), window_hw, 8, widths=WIDTHS["judge"])
    network = networks.build(spec, seed=data.draw(st.integers(0, 99)))
    crops = np.stack([drawn(window_hw, seed) for seed in range(5)])
    batch = windows.score_batch(network, crops)
    assert batch.shape == (5, 3 + networks.BOX_DELTAS, 1, 1)
    for crop, row in zip(crops, batch, strict=True):
        assert_same(row, windows.score_batch(network, crop[None])[0])


def test_a_level_smaller_than_the_window_has_no_cells() -> None:
    network = networks.build(SPEC)
    for score in (windows.score_map, windows.score_windows_one_by_one):
        assert score(network, drawn((21, 99))).shape == (2, 0, 0)
    level = PyramidLevel((1.0, 1.0), drawn((21, 99)))
    assert len(windows.candidates(np.empty((2, 0, 0), np.float32), level, SPEC, 0.0)) == 0
    with pytest.raises(ValueError, match="no window"):
        windows.nearest_cells(boxes_.as_boxes([[0, 0, 9, 9]]), level, SPEC)


def test_the_box_of_a_window_is_its_middle_seen_through_border_and_scale() -> None:
    """By hand: cell (2, 3), stride 4, window 22 x 33, border 10 and 6, scale 1/2 and 1/4."""
    level = PyramidLevel((0.5, 0.25), drawn((60, 90)), pad_xy=(10, 6))
    cells = np.array([[2, 3]])
    # Level corner (12 - 10, 8 - 6) = (2, 2), so x 2 to 35 and y 2 to 24 of the level.
    assert windows.window_boxes(cells, level, SPEC).tolist() == [[4, 8, 70, 96]]
    # With context 2 the object is half as large around the same centre (37, 52).
    halved = windows.window_boxes(cells, level, replace(SPEC, context=2.0))
    assert halved.tolist() == [[20.5, 30, 53.5, 74]]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_box_moves_at_most_half_a_stride_on_its_way_to_a_cell_and_back(
    data: st.DataObject,
) -> None:
    spec = data.draw(specs(context=data.draw(st.floats(1, 2))))
    level = data.draw(levels(spec))
    last = np.array(windows.grid_hw(level.pixels.shape[:2], spec)) - 1
    # Any centre between those of the first and the last window, in level pixels.
    row, column = (data.draw(st.floats(0, float(end))) for end in last)
    center_level = np.array([column, row]) * spec.stride + np.array(spec.window_hw[::-1]) / 2
    center = (center_level - level.pad_xy) / level.scale_xy
    object_hw = np.array(spec.window_hw) / spec.context / np.array(level.scale_xy)[::-1]
    box = boxes_.from_center(center, object_hw)

    cells = windows.nearest_cells(box, level, spec)
    back = windows.window_boxes(cells, level, spec)
    moved = (back - box) * np.array([*level.scale_xy, *level.scale_xy])  # in level pixels
    assert np.abs(moved).max() <= spec.stride / 2 + 1e-3
    np.testing.assert_allclose(boxes_.size_hw(back), boxes_.size_hw(box), rtol=1e-4, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_box_of_a_cell_finds_that_cell_again(data: st.DataObject) -> None:
    spec = data.draw(specs(context=data.draw(st.floats(1, 2))))
    level = data.draw(levels(spec))
    cells = np.argwhere(np.ones(windows.grid_hw(level.pixels.shape[:2], spec)))
    boxes = windows.window_boxes(cells, level, spec)
    assert np.array_equal(windows.nearest_cells(boxes, level, spec), cells)


def test_a_box_beyond_the_level_gets_the_nearest_window_there_is() -> None:
    level = PyramidLevel((1.0, 1.0), drawn((40, 60)))
    far = boxes_.as_boxes([[-900, -900, -800, -800], [800, 800, 900, 900]])
    rows, columns = windows.grid_hw((40, 60), SPEC)
    assert windows.nearest_cells(far, level, SPEC).tolist() == [[0, 0], [rows - 1, columns - 1]]


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=5),
    calibration=st.tuples(st.floats(0.1, 3), st.floats(-3, 3)),
)
def test_probabilities_are_the_softmax_where_nothing_is_calibrated(
    logits: list[float], calibration: tuple[float, float]
) -> None:
    spec = replace(SPEC, labels=tuple(map(str, range(len(logits)))))
    values = np.array(logits, np.float32).reshape(-1, 1, 1)
    softmax = torch.tensor(values, dtype=torch.float64).softmax(0)[1:]
    np.testing.assert_allclose(windows.probabilities(values, spec), softmax, rtol=1e-5, atol=1e-12)

    slope, offset = calibration
    others = torch.stack(
        [
            torch.cat([torch.tensor(logits[:k]), torch.tensor(logits[k + 1 :])]).double()
            for k in range(1, len(logits))
        ]
    )
    odds = torch.tensor(logits[1:], dtype=torch.float64) - others.logsumexp(1)
    expected = torch.sigmoid(slope * odds + offset).view(-1, 1, 1)
    found = windows.probabilities(values, replace(spec, calibration=calibration))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)


def test_extreme_logits_give_probabilities_of_none_and_one() -> None:
    values = np.array([[[-1e9, 1e9]], [[1e9, -1e9]]], np.float32)
    assert windows.probabilities(values, SPEC).tolist() == [[[1.0, 0.0]]]


def level_of(logits: np.ndarray) -> PyramidLevel:
    """A level with as many windows as there are cells."""
    height, width = logits.shape[1:]
    return PyramidLevel((1.0, 1.0), drawn((22 + 4 * (height - 1), 33 + 4 * (width - 1))))


def test_candidates_are_the_peaks_that_score_enough() -> None:
    log_odds = np.full((5, 6), -9.0, np.float32)
    log_odds[1, 1], log_odds[1, 2], log_odds[2, 1] = 3.0, 2.0, 2.9  # one peak and its slope
    log_odds[4, 5] = 0.0  # another, in the corner
    log_odds[3, 3] = -5.0  # too low: sigmoid(-5) is 0.0067
    logits = np.stack([np.zeros_like(log_odds), log_odds])
    found = windows.candidates(logits, level_of(logits), SPEC, 0.01)
    assert found.boxes.tolist() == [[4, 4, 37, 26], [20, 16, 53, 38]]
    assert found.scores == pytest.approx([0.952574, 0.5], abs=1e-6)
    assert found.labels.tolist() == [1, 1]
    every = windows.candidates(logits, level_of(logits), SPEC, 0.01, peaks_only=False)
    assert len(every) == 4


def test_cells_that_tie_at_the_top_are_all_candidates() -> None:
    logits = np.stack([np.zeros((3, 3)), np.ones((3, 3))]).astype(np.float32)
    assert len(windows.candidates(logits, level_of(logits), SPEC, 0.5)) == 9


def test_peaks_are_found_for_each_label_by_itself() -> None:
    """A window may be a candidate for two labels; background never is one."""
    spec = replace(SPEC, labels=("", "a", "b"))
    logits = np.zeros((3, 3, 4), np.float32)
    logits[1, 1, 1], logits[2, 1, 2], logits[0, 2, 3] = 4.0, 5.0, 50.0
    found = windows.candidates(logits, level_of(logits), spec, 0.4)
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [[4, 4, 37, 26], [8, 4, 41, 26]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), min_score=st.floats(0.01, 0.9))
def test_peaks_are_what_a_plain_loop_finds(seed: int, min_score: float) -> None:
    """Scores are drawn from few values, so that neighbours often tie."""
    log_odds = np.random.default_rng(seed).integers(-3, 3, (6, 7)).astype(np.float32)
    logits = np.stack([np.zeros_like(log_odds), log_odds])
    expected = []
    for row in range(6):
        for column in range(7):
            around = log_odds[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            score = 1 / (1 + np.exp(-np.float64(log_odds[row, column])))
            if log_odds[row, column] >= around.max() and score >= min_score:
                expected.append([4.0 * column, 4.0 * row])
    found = windows.candidates(logits, level_of(logits), SPEC, min_score)
    assert found.boxes[:, :2].tolist() == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), least=st.integers(-3, 2))
def test_peaks_of_a_map_are_the_candidates_of_its_cells(seed: int, least: int) -> None:
    """What a cascade takes from the scout, and what one network takes, is one rule."""
    odds = np.random.default_rng(seed).integers(-3, 3, (6, 7)).astype(np.float32)
    cells = windows.peaks(odds, least)
    logits = np.stack([np.zeros_like(odds), odds])
    floor = 1 / (1 + np.exp(-np.float64(least) + 1e-6))
    found = windows.candidates(logits, level_of(logits), SPEC, floor)
    assert (4.0 * cells[:, ::-1]).tolist() == found.boxes[:, :2].tolist()


def test_a_map_without_cells_has_no_peaks() -> None:
    for hw in ((0, 0), (0, 5)):
        assert windows.peaks(np.zeros(hw, np.float32), -9.0).shape == (0, 2)


def test_large_levels_take_no_more_memory_than_a_tile() -> None:
    """The hidden maps of the dense pass are never larger than those of one tile."""
    network = networks.build(SPEC)
    seen: list[int] = []
    network.layers.conv1.register_forward_hook(lambda *call: seen.append(call[2].numel()))
    windows.score_map(network, drawn((900, 2100)))
    tile = SPEC.widths[0] * windows.TILE_HW[0] * windows.TILE_HW[1]
    assert len(seen) > 4
    assert max(seen) <= tile
