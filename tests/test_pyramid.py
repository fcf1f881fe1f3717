"""The pyramid has every size that is wanted, and says exactly where each level pixel lies."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import pyramid
from nnst.pyramid import Halves

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
    hw=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    pad_xy=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    max_scale=st.floats(0.2, 2),
)
def test_scale_xy_is_exactly_level_size_over_picture_size(
    hw: tuple[int, int], pad_xy: tuple[int, int], max_scale: float
) -> None:
    scales = pyramid.scales(hw, (8, 8), levels_per_octave=3, max_scale=max_scale)
    levels = list(pyramid.levels(Halves(drawn(hw)), scales, pad_xy))
    assert len(levels) == len(scales)
    for level, scale in zip(levels, scales, strict=True):
        inner = [level.pixels.shape[axis] - 2 * pad_xy[1 - axis] for axis in (0, 1)]
        assert level.scale_xy == (inner[1] / hw[1], inner[0] / hw[0])
        exact = [max(1, round(side * scale)) for side in hw]
        halved = min(hw) >= 2 * pyramid.LARGE and min(inner) >= pyramid.LARGE
        assert np.abs(np.subtract(inner, exact)).max() <= (1 if halved else 0)
        assert level.pixels.dtype == np.uint8
        assert level.pad_xy == pad_xy


def test_an_odd_picture_is_halved_as_if_it_were_even() -> None:
    """What is lost is one row and one column, as a level at half the size shows little of them."""
    pixels = drawn((1001, 1401))
    (level,) = pyramid.levels(Halves(pixels), [0.5])
    assert level.scale_xy == (700 / 1401, 500 / 1001)
    assert np.array_equal(level.pixels, cv2.resize(pixels[:1000, :1400], (700, 500)))


def test_the_border_is_the_colour_and_the_picture_lies_inside_it() -> None:
    pixels = drawn((20, 30))
    (level,) = pyramid.levels(Halves(pixels), [1.0], (5, 3), (10.0, 20.4, 30.6))
    assert np.array_equal(level.pixels[3:-3, 5:-5], pixels)
    border = np.ones(level.pixels.shape[:2], dtype=bool)
    border[3:-3, 5:-5] = False
    assert (level.pixels[border] == [10, 20, 31]).all()


def test_levels_are_read_only_and_the_picture_stays_as_it_was() -> None:
    pixels = drawn((64, 64))
    before = pixels.copy()
    for level in pyramid.levels(Halves(pixels), [1.0, 0.5, 0.2]):
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
    (level,) = pyramid.levels(Halves(pixels), [scale], (7, 5), (0.0, 0.0, 0.0))
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
    (level,) = pyramid.levels(Halves(stripes), [scale])
    plain = cv2.resize(stripes, level.pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if scale <= 0.5:
        assert level.pixels.std() < 3
    assert level.pixels.std() <= plain.std()


def test_levels_come_one_at_a_time() -> None:
    """Only what is asked for is made: a picture's pyramid never lies in memory as a whole."""
    scales = iter([1.0, 0.5, 0.25])
    levels = pyramid.levels(Halves(drawn((50, 50))), scales)
    assert next(levels).pixels.shape == (50, 50, 3)
    assert next(scales) == 0.5


@pytest.mark.parametrize("hw", [(1, 1), (1, 40_000), (40_000, 1), (3, 70_000)])
def test_odd_shapes_have_levels_too(hw: tuple[int, int]) -> None:
    pixels = np.full((*hw, 3), 77, np.uint8)
    scales = pyramid.scales(hw, (22, 75), levels_per_octave=2, max_scale=1.0)
    for level in pyramid.levels(Halves(pixels), scales):
        assert (level.pixels == 77).all()


# --- Halves


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    wanted=st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
def test_the_copy_for_a_size_is_the_smallest_that_is_no_smaller(
    sides: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """Per axis less than twice the wanted side, give or take the odd pixels that halving drops."""
    copy = Halves(np.zeros((*sides, 3), np.uint8)).for_hw(wanted)
    for side, want, got in zip(sides, wanted, copy.shape[:2], strict=True):
        halvings = 0
        while side // 2**halvings >= 2 * want:
            halvings += 1
        assert got == side // 2**halvings
        assert got >= min(side, want)


def test_a_copy_does_not_depend_on_which_were_asked_for_before() -> None:
    """The sides of an odd picture pass a half at different wishes."""
    pixels = drawn((101, 200))
    used = Halves(pixels)
    assert used.for_hw((51, 100)).shape[:2] == (101, 100)
    for wanted in ((25, 50), (101, 90), (40, 100), (12, 12)):
        fresh = Halves(pixels).for_hw(wanted)
        assert np.array_equal(used.for_hw(wanted), fresh)


def test_copies_are_made_once_and_the_picture_itself_never_changes() -> None:
    pixels = drawn((64, 96))
    before = pixels.copy()
    halves = Halves(pixels)
    assert halves.for_hw((64, 96)) is pixels
    assert halves.for_hw((200, 200)) is pixels
    quarter = halves.for_hw((16, 24))
    assert quarter.shape == (16, 24, 3)
    assert halves.for_hw((10, 20)) is quarter
    assert halves.for_hw((31, 48)).shape == (32, 48, 3)
    assert halves.pixels is pixels
    assert np.array_equal(pixels, before)


def test_levels_of_halves_that_were_used_before_are_those_of_fresh_ones() -> None:
    """Copies that another wish left behind must not change what is seen."""
    pixels = drawn((203, 310))
    used = Halves(pixels)
    used.cut(np.array([5, 5, 290, 200], np.float32), (20, 20), 128)
    used.for_hw((3, 3))
    scales = [0.9, 0.4, 0.2, 0.07]
    fresh = list(pyramid.levels(Halves(pixels), scales, (4, 6)))
    for level, other in zip(pyramid.levels(used, scales, (4, 6)), fresh, strict=True):
        assert level.scale_xy == other.scale_xy
        assert np.array_equal(level.pixels, other.pixels)


@pytest.mark.parametrize("scale", [1.6, 1.0, 0.8, 0.5])
def test_levels_of_half_the_size_and_more_are_one_plain_resize(scale: float) -> None:
    pixels = drawn((120, 200))
    (level,) = pyramid.levels(Halves(pixels), [scale])
    plain = cv2.resize(pixels, level.pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(level.pixels, plain)


# --- Cut

GREY = 128


@settings(max_examples=60, deadline=None)
@given(
    corner=st.tuples(st.integers(0, 100), st.integers(0, 60)),
    size=st.tuples(st.integers(16, 100), st.integers(16, 90)),
    zoom=st.floats(0.2, 2),
    stretch=st.floats(0.75, 1.33),
)
def test_a_cut_shows_what_a_plain_crop_and_resize_show(
    corner: tuple[int, int], size: tuple[int, int], zoom: float, stretch: float
) -> None:
    """But for the outermost pixels, for which a cut looks at what lies beyond the box.

    One pixel beside, the same crop differs by 5.4 in the middle.
    """
    soft = cv2.GaussianBlur(drawn((150, 200)), (0, 0), 4).astype(float)
    pixels = np.clip((soft - soft.mean()) / soft.std() * 50 + 128, 0, 255).astype(np.uint8)
    (x, y), (width, height) = corner, size
    hw = max(8, round(height * zoom)), max(8, round(width * zoom * stretch))
    box = np.array([x, y, x + width, y + height], np.float32)
    found = Halves(pixels).cut(box, hw, GREY)
    assert found.shape == (*hw, 3)
    assert found.dtype == np.uint8
    plain = cv2.resize(
        pixels[y : y + height, x : x + width], hw[::-1], interpolation=cv2.INTER_AREA
    )
    inner = np.s_[1:-1, 1:-1]
    assert np.abs(found[inner].astype(int) - plain[inner].astype(int)).mean() < 4


@pytest.mark.parametrize("hw", [(64, 96), (32, 48), (20, 31), (9, 13), (200, 300)], ids=str)
@pytest.mark.parametrize("by", [0.0, 0.25, 0.5])
def test_a_rectangle_lands_where_it_should(hw: tuple[int, int], by: float) -> None:
    """Its centre of weight, to a tenth of a pixel of the cut, whatever copy it is cut from."""
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[120:180, 140:230] = 240  # x 140 to 230, y 120 to 180
    box = np.array([100 + by, 90 + by, 300 + by, 222 + by], np.float32)
    weight = Halves(pixels).cut(box, hw, 0)[..., 0].astype(float)
    rows, columns = np.mgrid[: hw[0], : hw[1]] + 0.5
    zoom = hw[1] / 200, hw[0] / 132
    assert (columns * weight).sum() / weight.sum() == pytest.approx(
        (185 - 100 - by) * zoom[0], abs=0.1 * max(1, zoom[0])
    )
    assert (rows * weight).sum() / weight.sum() == pytest.approx(
        (150 - 90 - by) * zoom[1], abs=0.1 * max(1, zoom[1])
    )
    assert weight.sum() == pytest.approx(240 * 90 * 60 * zoom[0] * zoom[1], rel=0.03)


def test_what_lies_outside_the_picture_is_the_colour() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    around = Halves(pixels).cut(np.array([-60, -40, 120, 80], np.float32), (60, 90), GREY)
    assert (around[21:39, 31:59] == 200).all()
    around[19:41, 29:61] = GREY  # the picture, and the pixel between it and the outside
    assert (around == GREY).all()
    beside = Halves(pixels).cut(np.array([100, 100, 130, 120], np.float32), (8, 12), GREY)
    assert (beside == GREY).all()


def test_a_box_without_any_size_still_gives_the_pixels_asked_for() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    found = Halves(pixels).cut(np.array([10, 10, 10, 10], np.float32), (8, 12), GREY)
    assert (found == 200).all()
