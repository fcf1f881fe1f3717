"""Levels scored through canvases give what each level gives alone, at every window.

Tiles that lay over each other, or a window taken from the wrong place, would show at once: the
levels are noise, of which no two windows are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import pyramid, windows
from nnst.models import Network, networks
from nnst.models.scoring import ready
from nnst.pyramid import Halves
from nnst.records import ModelSpec, PyramidLevel
from nnst.windows import Canvas, canvases
from nnst.windows.maps import span, tiles

SPEC = ModelSpec("scout", ("", "object"), (16, 24), 4, widths=(3, 4, 4, 6))
Levels = list[np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Many small passes: two threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def scorer(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    """How a cascade asks its scout."""
    return lambda canvas: windows.score_batch(network, canvas[None])[0]


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Logits agree to 1e-5 of the largest, as far as float32 adds alike in another order."""
    assert found.shape == expected.shape
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """A scout of any window, or one of the other networks that may be laid over levels."""
    name = draw(st.sampled_from(["scout", "scout", "lenet", "mlp"]))
    widths = {"scout": (3, 4, 4, 6), "lenet": (4, 6, 8), "mlp": (5,)}[name]
    sides = st.integers(4, 9).map(lambda side: 4 * side)
    window_hw = draw(sides), draw(sides)
    stride = networks.stride_of(name, window_hw)
    return ModelSpec(name, ("", "object"), window_hw, stride, widths=widths)


@st.composite
def level_sets(draw: st.DrawFn) -> Levels:
    """Levels of several pictures: none, smaller than any window, larger than any canvas here."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 170), st.integers(1, 210)), max_size=7))
    return [noise(hw, seed) for seed, hw in enumerate(sizes)]


SIDES = st.integers(40, 150)
CANVASES = st.builds(Canvas, st.tuples(SIDES, SIDES), st.sampled_from([8, 64, 2048]))


@settings(max_examples=40, deadline=None)
@given(spec=specs(), levels=level_sets(), canvas=CANVASES, seed=st.integers(0, 99))
def test_scores_through_canvases_are_those_of_each_level_alone(
    spec: ModelSpec, levels: Levels, canvas: Canvas, seed: int
) -> None:
    network = networks.build(spec, seed)
    maps = windows.score_maps(levels, spec, scorer(network), canvas)
    assert len(maps) == len(levels)
    for level, found in zip(levels, maps, strict=True):
        assert_same(found, windows.score_map(network, level))


@settings(max_examples=10, deadline=None)
@given(spec=specs(), levels=level_sets(), canvas=CANVASES)
def test_scores_through_canvases_are_those_of_each_window_alone(
    spec: ModelSpec, levels: Levels, canvas: Canvas
) -> None:
    network = networks.build(spec, seed=1)
    maps = windows.score_maps(levels, spec, scorer(network), canvas)
    for level, found in zip(levels, maps, strict=True):
        assert_same(found, windows.score_windows_one_by_one(network, level))


def test_levels_of_several_pictures_on_canvases_of_the_real_size() -> None:
    """A large picture, a small one, and one that is smaller than the window, pyramids and all."""
    spec = ModelSpec("scout", ("", "object"), (24, 44), 8)
    network = networks.build(spec, seed=3)
    levels = [
        level.pixels
        for seed, hw in enumerate([(700, 900), (120, 90), (9, 200), (10, 12)])
        for level in pyramid.levels(Halves(noise(hw, seed)), [1.5, 1.0, 0.5, 0.2], (22, 12))
    ]
    maps = windows.score_maps([*levels, noise((23, 500))], spec, scorer(network))
    assert max(level.shape[1] for level in levels) > 2 * windows.CANVAS.hw[1]
    for level, found in zip(levels, maps, strict=False):
        assert found.size
        assert_same(found, windows.score_map(network, level))
    assert maps[-1].shape == (2, 0, 0)


def test_no_levels_are_no_maps_and_nobody_is_asked() -> None:
    def never(canvas: np.ndarray) -> np.ndarray:
        raise AssertionError

    assert windows.score_maps([], SPEC, never) == []
    (empty,) = windows.score_maps([noise((15, 99))], SPEC, never)
    assert empty.shape == (2, 0, 0)


@settings(max_examples=40, deadline=None)
@given(levels=level_sets(), canvas=CANVASES)
def test_no_tile_lies_over_another_and_no_more_of_a_canvas_is_scored_than_is_used(
    levels: Levels, canvas: Canvas
) -> None:
    """Each tile lies whole on its canvas, where a window of the network can begin."""
    whole_hw = canvases._at_least(canvas.hw, SPEC)
    assert all(side % SPEC.stride == 0 for side in whole_hw)
    cut = [
        canvases._Tile(index, rows, columns, level[span(rows, SPEC, 0), span(columns, SPEC, 1)])
        for index, level in enumerate(levels)
        for rows, columns in tiles(windows.grid_hw(level.shape[:2], SPEC), whole_hw, SPEC)
    ]
    placed = canvases._place(cut, whole_hw, SPEC.stride)
    assert sorted(map(id, (place.tile for place in placed))) == sorted(map(id, cut))
    taken: dict[int, np.ndarray] = {}
    for place in placed:
        height, width = place.tile.pixels.shape[:2]
        assert (place.y % SPEC.stride, place.x % SPEC.stride) == (0, 0)
        assert place.y + height <= whole_hw[0]
        assert place.x + width <= whole_hw[1]
        covered = taken.setdefault(place.canvas, np.zeros(whole_hw, np.int64))
        covered[place.y : place.y + height, place.x : place.x + width] += 1
    assert all(covered.max() == 1 for covered in taken.values())
    assert sorted(taken) == list(range(len(taken)))  # none is scored for nothing

    seen: list[tuple[int, ...]] = []
    network = networks.build(SPEC)

    def score(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return windows.score_batch(network, pixels[None])[0]

    windows.score_maps(levels, SPEC, score, canvas)
    wanted = []
    for covered in taken.values():
        used = [int(np.flatnonzero(covered.any(axis=axis)).max()) + 1 for axis in (1, 0)]
        rounded = [-(-side // canvas.grain) * canvas.grain for side in used]
        wanted.append((*map(min, rounded, whole_hw), 3))
    assert sorted(seen) == sorted(wanted)


def test_a_canvas_that_is_smaller_than_the_window_grows() -> None:
    network = networks.build(SPEC)
    level = noise((60, 90))
    (found,) = windows.score_maps([level], SPEC, scorer(network), Canvas((5, 7), 64))
    assert_same(found, windows.score_map(network, level))


def test_many_small_levels_share_a_canvas() -> None:
    """Else each would cost as much as a large one."""
    levels = [noise((40, 60), seed) for seed in range(40)]
    asked = 0

    def score(canvas: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += 1
        return np.zeros((2, 125, 123), np.float32)

    windows.score_maps(levels, SPEC, score)
    assert asked == 1


# --- In bfloat16, as a cascade's scout looks


def mark() -> np.ndarray:
    """(16, 24, 3) a few coarse blocks."""
    blocks = np.array([[255, 0, 0, 255], [0, 255, 0, 0], [255, 0, 255, 255]], np.uint8)
    colours = np.stack([blocks, blocks[::-1], 255 - blocks], axis=2)
    return cv2.resize(colours, (24, 16), interpolation=cv2.INTER_CUBIC)


def scout_of_mark() -> Network:
    """A scout of wide random layers whose last one is fitted to tell the mark from noise."""
    spec = replace(SPEC, widths=(16, 24, 24, 48))
    network = networks.build(spec, seed=0)
    seen: list[torch.Tensor] = []
    hook = network.layers.relu4.register_forward_hook(lambda *call: seen.append(call[2]))
    rng = np.random.default_rng(0)
    ground = np.stack([scene_ground(rng, (16, 24)) for _ in range(600)])
    marks = np.stack([mark()] * 100)
    with torch.inference_mode():
        windows.score_batch(network, np.concatenate([ground, marks]))
    hook.remove()
    features = seen[0][:, :, 0, 0].double()  # (700, 48)
    wanted = torch.cat([torch.full((600,), -4.0), torch.full((100,), 4.0)]).double()
    columns = torch.cat([features, torch.ones(700, 1)], dim=1)
    gram = columns.T @ columns + 1e-3 * torch.eye(columns.shape[1])
    weights = torch.linalg.solve(gram, columns.T @ wanted)
    with torch.no_grad():
        network.layers.score.weight.zero_()
        network.layers.score.bias.zero_()
        network.layers.score.weight[1, :, 0, 0] = weights[:-1].float()
        network.layers.score.bias[1] = weights[-1].float()
    return network.eval()


def scene_ground(rng: np.random.Generator, hw: tuple[int, int]) -> np.ndarray:
    coarse = rng.uniform(70, 180, (3, 4, 3)).astype(np.float32)
    ground = cv2.resize(coarse, hw[::-1]) + rng.normal(0, 4, (*hw, 3))
    return np.clip(ground, 0, 255).astype(np.uint8)


def test_a_scout_in_bfloat16_says_nearly_the_same_and_finds_the_same_marks() -> None:
    network = scout_of_mark()
    scene = scene_ground(np.random.default_rng(5), (300, 400))
    corners = [(40, 64), (120, 200), (200, 40), (264, 344)]  # y, x: multiples of the stride
    for y, x in corners:
        scene[y : y + 16, x : x + 24] = mark()
    level = PyramidLevel((1.0, 1.0), scene)
    maps = [
        windows.score_maps([scene], network.spec, scorer(ready(network, "cpu", dtype)))[0]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    plain, rough = (each[1] - each[0] for each in maps)
    spread = float(plain.std())
    assert 0 < np.abs(rough - plain).max() < 0.1 * max(spread, np.abs(plain).max())
    for odds in (plain, rough):
        cells = windows.peaks(odds, least=0.0)
        best = cells[np.argsort(-odds[tuple(cells.T)])[: len(corners)]]
        boxes = windows.window_boxes(best, level, network.spec)
        assert sorted((int(y), int(x)) for x, y in boxes[:, :2]) == corners
