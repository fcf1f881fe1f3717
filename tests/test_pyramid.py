"""The pyramid has every size that is wanted, and says exactly where each level pixel lies."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import pyramid

SIDES = st.integers(1, 3000)


def drawn(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture with soft shapes of many sizes."""
    noise = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3).reshape(*hw, 3)


@settings(max_examples=200, deadline=None)
@given(
    hw=st.tuples(SIDES, SIDES),
    window_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    levels_per_octave=st.integers(1, 8),
    max_scale=st.floats(0.1, 4),
)
def test_scales_fall_evenly_from_the_largest_to_where_the_picture_fits(
    hw: tuple[int, int], window_hw: tuple[int, int], levels_per_octave: int, max_scale: float
) -> None:
    found = pyramid.scales(hw, window_hw, levels_per_octave=levels_per_octave, max_scale=max_scale)
    assert found[0] == max_scale
    for side, window in zip(hw, window_hw, strict=True):
        assert side * found[-1] <= window * (1 + 1e-9)
    for larger, smaller in pairwise(found):
        assert smaller / larger == pytest.approx(2 ** (-1 / levels_per_octave))
        # Every level but the last was needed: at it the picture was still too large.
        assert any(side * larger > window for side, window in zip(hw, window_hw, strict=True))


def test_a_picture_smaller_than_the_window_has_one_level() -> None:
    assert pyramid.scales((1, 1), (22, 75), levels_per_octave=4, max_scale=1.0) == (1.0,)


def test_the_same_scale_comes_again_each_octave() -> None:
    found = pyramid.scales((1000, 1000), (40, 40), levels_per_octave=3, max_scale=1.0)
    assert found[::3] == (1.0, 0.5, 0.25, 0.125, 0.0625)


@pytest.mark.parametrize(
    ("levels_per_octave", "max_scale", "hw"), [(0, 1.0, (9, 9)), (3, 0.0, (9, 9)), (3, 1, (0, 9))]
)
def test_scales_of_nothing_are_refused(
    levels_per_octave: int, max_scale: float, hw: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="above 0"):
        pyramid.scales(hw, (22, 75), levels_per_octave=levels_per_octave, max_scale=max_scale)


@settings(max_examples=40, deadline=None)
@given(
    hw=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    pad_xy=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    max_scale=st.floats(0.2, 2),
)
def test_scale_xy_is_exactly_level_size_over_picture_size(
    hw: tuple[int, int], pad_xy: tuple[int, int], max_scale: float
) -> None:
    scales = pyramid.scales(hw, (8, 8), levels_per_octave=3, max_scale=max_scale)
    levels = list(pyramid.levels(drawn(hw), scales, pad_xy))
    assert len(levels) == len(scales)
    for level, scale in zip(levels, scales, strict=True):
        inner = [level.pixels.shape[axis] - 2 * pad_xy[1 - axis] for axis in (0, 1)]
        assert level.scale_xy == (inner[1] / hw[1], inner[0] / hw[0])
        assert inner == [max(1, round(side * scale)) for side in hw]
        assert level.pixels.dtype == np.uint8
        assert level.pad_xy == pad_xy


def test_the_border_is_the_colour_and_the_picture_lies_inside_it() -> None:
    pixels = drawn((20, 30))
    (level,) = pyramid.levels(pixels, [1.0], (5, 3), (10.0, 20.4, 30.6))
    assert np.array_equal(level.pixels[3:-3, 5:-5], pixels)
    border = np.ones(level.pixels.shape[:2], dtype=bool)
    border[3:-3, 5:-5] = False
    assert (level.pixels[border] == [10, 20, 31]).all()


def test_levels_are_read_only_and_the_picture_stays_as_it_was() -> None:
    pixels = drawn((64, 64))
    before = pixels.copy()
    for level in pyramid.levels(pixels, [1.0, 0.5, 0.2]):
        assert not level.pixels.flags.writeable
    assert np.array_equal(pixels, before)
    assert pixels.flags.writeable


@pytest.mark.parametrize("hw", [(256, 256), (241, 323)], ids=["even", "odd"])
@pytest.mark.parametrize("scale", [0.9, 0.7, 0.5, 0.31, 0.11, 0.04])
def test_a_point_of_the_picture_lies_where_scale_xy_says(hw: tuple[int, int], scale: float) -> None:
    """The centre of a soft spot moves less than a tenth of a level pixel, however it was halved."""
    rows, columns = np.mgrid[: hw[0], : hw[1]] + 0.5
    y, x, spread = 0.41 * hw[0], 0.57 * hw[1], max(4, 1.5 / scale)
    spot = 250 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2))
    pixels = np.repeat(spot[..., None], 3, axis=2).astype(np.uint8)
    (level,) = pyramid.levels(pixels, [scale], (7, 5), (0.0, 0.0, 0.0))
    weight = level.pixels[..., 0].astype(float)
    level_rows, level_columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    found_x = (level_columns * weight).sum() / weight.sum()
    found_y = (level_rows * weight).sum() / weight.sum()
    assert found_x == pytest.approx(x * level.scale_xy[0] + 7, abs=0.1)
    assert found_y == pytest.approx(y * level.scale_xy[1] + 5, abs=0.1)


@pytest.mark.parametrize("scale", [0.6, 0.5, 0.3, 0.21, 0.1, 0.06])
def test_fine_stripes_become_grey_and_not_other_stripes(scale: float) -> None:
    """A linear resize alone would skip lines and turn one-pixel stripes into wide ones."""
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    (level,) = pyramid.levels(stripes, [scale])
    plain = cv2.resize(stripes, level.pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if scale <= 0.5:
        assert level.pixels.std() < 3
    assert level.pixels.std() <= plain.std()


def test_levels_come_one_at_a_time() -> None:
    """Only what is asked for is made: a picture's pyramid never lies in memory as a whole."""
    scales = iter([1.0, 0.5, 0.25])
    levels = pyramid.levels(drawn((50, 50)), scales)
    assert next(levels).pixels.shape == (50, 50, 3)
    assert next(scales) == 0.5


@pytest.mark.parametrize("hw", [(1, 1), (1, 40_000), (40_000, 1), (3, 70_000)])
def test_odd_shapes_have_levels_too(hw: tuple[int, int]) -> None:
    pixels = np.full((*hw, 3), 77, np.uint8)
    scales = pyramid.scales(hw, (22, 75), levels_per_octave=2, max_scale=1.0)
    for level in pyramid.levels(pixels, scales):
        assert (level.pixels == 77).all()
