"""Augmentation: where a turned and tilted logo comes to lie, and what light and lens do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import images
from nnst.crops import GREY
from nnst.training.augmentation import Distortion, corners, degrade, distort, frame, paste, warp
from nnst.training.batches import STILL
from nnst.training.settings import AugmentSettings

FEW = settings(max_examples=40, deadline=None)
UNCHANGED = AugmentSettings(**{field.name: 0.0 for field in fields(AugmentSettings)})
ROUGH = AugmentSettings(rotate=15, stretch=0.2, shear=0.15, perspective=0.1)
RED, BLUE = (250, 5, 5), (5, 5, 250)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(hw: tuple[int, int], box: Sequence[int]) -> np.ndarray:
    """(H, W, 3) red in the box, blue around it."""
    pixels = np.full((*hw, 3), BLUE, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = RED
    return pixels


def superellipse(hw: tuple[int, int], box: Sequence[float]) -> np.ndarray:
    """(H, W, 3) red where x^4 + y^4 < 1 in half sides of the box, blue around it."""
    x0, y0, x1, y1 = box
    rows, columns = np.indices(hw) + 0.5
    x, y = (2 * columns - x0 - x1) / (x1 - x0), (2 * rows - y0 - y1) / (y1 - y0)
    return np.where((x**4 + y**4 < 1)[..., None], RED, BLUE).astype(np.uint8)


def redness(pixels: np.ndarray) -> np.ndarray:
    """(H, W) how much of each pixel is red rather than blue, from 0 to 1."""
    return (pixels[..., 0].astype(float) - BLUE[0]) / (RED[0] - BLUE[0])


def bounds(weights: np.ndarray) -> np.ndarray:
    """(4,) the box of all that weighs more than a half."""
    rows, columns = np.nonzero(weights > 0.5)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def centroid(weights: np.ndarray) -> np.ndarray:
    """(2,) x, y of the middle of what has weight; the first pixel's middle is 0.5."""
    rows, columns = np.indices(weights.shape) + 0.5
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


def area_and_centroid(polygon: np.ndarray) -> tuple[float, np.ndarray]:
    """Of a polygon, by the shoelace formula."""
    following = np.roll(polygon, -1, axis=0)
    cross = polygon[:, 0] * following[:, 1] - following[:, 0] * polygon[:, 1]  # (N,)
    middle = ((polygon + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    return abs(cross.sum()) / 2, middle


def seen(logo: Distortion, hw: tuple[int, int], scale: float) -> np.ndarray:
    """(3, 3) crop -> window with the logo in the window's middle."""
    return frame(logo.center, np.full(2, scale), (hw[1] / 2, hw[0] / 2)) @ logo.matrix


def placed(point: Sequence[float], matrix: np.ndarray) -> np.ndarray:
    """(2,) where a point comes to lie."""
    x, y, depth = matrix @ (*point, 1)
    return np.array([x, y]) / depth


# Shapes


corner, sides = st.floats(-30, 30), st.floats(2, 80)
boxes = st.tuples(corner, corner, sides, sides).map(
    lambda found: np.array([*found[:2], found[0] + found[2], found[1] + found[3]], np.float32)
)
seeds = st.integers(0, 999)


@FEW
@given(box=boxes, seed=seeds)
def test_without_distortion_the_plane_is_the_crop_around_the_box(
    box: np.ndarray, seed: int
) -> None:
    logo = distort(box, STILL, rng_of(seed))
    half = (box[2:] - box[:2]).astype(float) / 2
    np.testing.assert_allclose(logo.box, [*-half, *half], atol=1e-5)
    np.testing.assert_allclose(logo.matrix[:, :2], np.eye(3, 2))
    np.testing.assert_allclose(placed((box[:2] + box[2:]) / 2, logo.matrix), (0, 0), atol=1e-5)
    np.testing.assert_allclose(logo.center, (0, 0), atol=1e-5)
    np.testing.assert_allclose(logo.size, 2 * half, atol=1e-5)


@FEW
@given(box=boxes, seed=seeds)
def test_a_distortion_keeps_the_boxs_centre_and_the_scale_in_it(box: np.ndarray, seed: int) -> None:
    logo = distort(box, ROUGH, rng_of(seed))
    middle = (box[:2].astype(float) + box[2:]) / 2
    np.testing.assert_allclose(placed(middle, logo.matrix), (0, 0), atol=1e-9)
    step = 1e-5
    right, down = (placed(middle + move, logo.matrix) / step for move in ((step, 0.0), (0.0, step)))
    assert right[0] * down[1] - right[1] * down[0] == pytest.approx(1, abs=0.01)  # area there


@FEW
@given(width=st.integers(30, 90), height=st.integers(30, 90), seed=seeds)
def test_the_box_of_a_distorted_logo_bounds_what_of_it_is_seen(
    width: int, height: int, seed: int
) -> None:
    """Drawn as a superellipse, turned, slanted, stretched and in perspective; found by pixels."""
    box = np.array([95 - width, 95 - height, 95 + width, 95 + height], np.float32)
    logo = distort(box, ROUGH, rng_of(seed))
    window = warp(superellipse((190, 190), box.tolist()), seen(logo, (330, 330), 0.8), (330, 330))
    expected = 165 + np.array([*-logo.size, *logo.size]) * 0.8 / 2
    inside = redness(np.where(window == GREY, BLUE, window))
    np.testing.assert_allclose(bounds(inside), expected, atol=1.5 + 0.015 * logo.size.max())


@pytest.mark.parametrize("perspective", [0.3, 1.0, 100.0])
def test_however_strong_the_perspective_a_logo_stays_before_the_eye(perspective: float) -> None:
    box = np.array([10, 20, 50, 40], np.float32)
    strong = replace(UNCHANGED, perspective=perspective)
    for seed in range(50):
        logo = distort(box, strong, rng_of(seed))
        points = logo.matrix @ np.array([[10, 50, 50, 10], [20, 20, 40, 40], [1, 1, 1, 1]])
        assert points[2].min() >= 0.19
        assert (logo.size > 0).all()


def test_augmentation_has_the_strength_that_its_settings_say() -> None:
    rng = rng_of(3)
    box = np.array([0, 0, 30, 30], np.float32)
    turning = replace(UNCHANGED, rotate=6)
    turns = [distort(box, turning, rng).matrix for _ in range(2000)]
    angles = [math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])) for matrix in turns]
    assert np.std(angles) == pytest.approx(6, rel=0.1)
    assert np.mean(angles) == pytest.approx(0, abs=0.5)


def test_stretch_is_the_relative_change_of_aspect() -> None:
    rng = rng_of(4)
    box = np.array([0, 0, 60, 20], np.float32)
    stretching = replace(UNCHANGED, stretch=0.1)
    sizes = np.array([distort(box, stretching, rng).size for _ in range(2000)])
    assert np.std(np.log(sizes[:, 0] / sizes[:, 1] / 3)) == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(sizes.prod(axis=1), 1200)


def test_a_box_without_area_can_be_distorted() -> None:
    logo = distort(np.array([5, 5, 5, 5], np.float32), ROUGH, rng_of(0))
    assert np.isfinite(logo.matrix).all()
    assert np.isfinite(logo.box).all()


# Windows


@FEW
@given(
    center=st.tuples(corner, corner),
    scale=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    at=st.tuples(corner, corner),
)
def test_a_frame_brings_the_centre_where_it_is_wanted_and_scales_around_it(
    center: tuple[float, float], scale: tuple[float, float], at: tuple[float, float]
) -> None:
    matrix = frame(np.array(center), np.array(scale), at)
    np.testing.assert_allclose(placed(center, matrix), at, atol=1e-9)
    beside = placed((center[0] + 1, center[1] - 2), matrix) - at
    np.testing.assert_allclose(beside, (scale[0], -2 * scale[1]), atol=1e-9)


@FEW
@given(
    width=st.integers(40, 240),
    aspect=st.floats(0.8, 1.25),
    side=st.floats(18, 28),
    shift=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    perspective=st.sampled_from([0.0, 0.02]),
    seed=seeds,
)
def test_pixels_go_where_the_matrix_says(
    width: int,
    aspect: float,
    side: float,
    shift: tuple[float, float],
    perspective: float,
    seed: int,
) -> None:
    """A box drawn in the middle is found in the window to a third of a pixel, however it shrinks.

    What lies farther from it is not looked at: the crop is four times as large as the box, but a
    window may see beyond its border, where the picture is mirrored.
    """
    height = round(width / aspect)
    left, top = 3 * width // 8, 3 * height // 8
    box = [left, top, left + width // 4, top + height // 4]
    gentle = AugmentSettings(rotate=2, stretch=0.03, shear=0.02, perspective=perspective)
    logo = distort(np.array(box, np.float32), gentle, rng_of(seed))
    at = 24 + shift[0], 24 + shift[1]
    matrix = frame(logo.center, np.full(2, side * 4 / width), at) @ logo.matrix
    found = redness(warp(drawn((height, width), box), matrix, (48, 48)))
    outline = corners(matrix, tuple(box))
    area, middle = area_and_centroid(outline)
    (x0, y0), (x1, y1) = np.floor(outline.min(0)) - 3, np.ceil(outline.max(0)) + 3
    near = np.zeros_like(found)
    near[max(0, int(y0)) : int(y1), max(0, int(x0)) : int(x1)] = 1
    found = found * near
    np.testing.assert_allclose(centroid(found), middle, atol=0.33)
    assert found.sum() == pytest.approx(area, rel=0.08)


def test_a_crop_with_an_odd_side_is_halved_without_a_shift() -> None:
    box = [20, 20, 28, 28]
    matrix = np.array([[0.45, 0, 2], [0, 0.45, 3], [0, 0, 1]])
    window = warp(drawn((31, 31), box), matrix, (19, 18))
    found = redness(window)[3:16, 2:15]  # within the crop's grey border
    expected = corners(matrix, (20, 20, 28, 28)).mean(axis=0) - (2, 3)
    np.testing.assert_allclose(centroid(found), expected, atol=0.2)


@pytest.mark.parametrize("tilt", [0.0, 1e-4])
def test_what_is_too_fine_for_the_window_is_averaged(tilt: float) -> None:
    """A board of single pixels becomes grey; sampled, it would become stripes."""
    board = np.indices((120, 120)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[..., None].astype(np.uint8), 3, axis=2)
    matrix = np.array([[0.27, 0, 0], [0, 0.27, 0], [tilt, 0, 1]])
    window = warp(pixels, matrix, (30, 30))
    assert abs(window.astype(float) - 127.5).max() < 8


def test_a_window_is_grey_where_the_crop_has_nothing() -> None:
    logo = distort(np.array([10, 10, 20, 20], np.float32), STILL, rng_of(0))
    window = warp(drawn((30, 30), (10, 10, 20, 20)), seen(logo, (20, 32), 0.5), (20, 32))
    assert (window[0, 0] == GREY).all()
    assert (window[-1, -1] == GREY).all()
    assert redness(window)[10, 16] > 0.5


def test_a_crop_of_one_pixel_can_be_shown() -> None:
    window = warp(np.full((1, 1, 3), 200, np.uint8), np.diag([0.1, 0.1, 1]), (4, 4))
    assert window.shape == (4, 4, 3)


@pytest.mark.parametrize("angle", [0, 8])
def test_paste_keeps_the_polygon_and_takes_the_rest_from_the_scenery(angle: float) -> None:
    turned = replace(UNCHANGED, rotate=angle)
    logo = distort(np.array([10, 12, 30, 26], np.float32), turned, rng_of(4))
    matrix = frame(logo.center, np.full(2, 1.5), (33.0, 18.0)) @ logo.matrix
    polygon = corners(matrix, (10, 12, 30, 26))
    window, scenery = (np.full((40, 60, 3), colour, np.uint8) for colour in (RED, BLUE))
    found = redness(paste(window, scenery, polygon))
    area, middle = area_and_centroid(polygon)
    np.testing.assert_allclose(centroid(found), middle, atol=0.6)
    assert area - 10 < found.sum() < area + 0.6 * 102  # a pixel that the edge touches is inside
    assert found.max() == pytest.approx(1, abs=0.01)
    assert found.min() == pytest.approx(0, abs=0.01)
    assert ((found > 0.02) & (found < 0.98)).sum() < 4 * 110  # the seam, along 102 pixels


# Light, lens and codec


@FEW
@given(
    hw=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    strength=st.floats(0, 4),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=seeds,
)
def test_a_degraded_window_is_a_window_and_the_same_for_the_same_draws(
    hw: tuple[int, int], strength: float, share: float, seed: int
) -> None:
    pixels = rng_of(1).integers(0, 256, (*hw, 3), np.uint8)
    before = pixels.copy()
    asked = AugmentSettings(
        **dict.fromkeys(("gamma", "contrast", "channel"), strength),
        **dict.fromkeys(SHARES, share),
    )
    found = degrade(pixels, asked, rng_of(seed))
    assert found.shape == (*hw, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, degrade(pixels, asked, rng_of(seed)))
    np.testing.assert_array_equal(pixels, before)


def test_at_no_strength_a_window_stays_as_it_is() -> None:
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(degrade(pixels, UNCHANGED, rng_of(0)), pixels)


SHARES = ("occlude", "blur", "noise", "jpeg")


@pytest.mark.parametrize("change", ["gamma", "contrast", "channel", *SHARES])
def test_every_change_changes_something_and_keeps_the_picture(change: str) -> None:
    coarse = rng_of(2).integers(60, 200, (6, 8, 3), np.uint8)
    pixels = images.resize(coarse, (40, 56))
    asked = replace(UNCHANGED, **{change: 1.0 if change in SHARES else 0.2})
    found = degrade(pixels, asked, rng_of(3))
    apart = np.abs(found.astype(int) - pixels).mean()
    assert 0.2 < apart < 40


def test_an_occlusion_is_one_block_of_one_colour_and_leaves_most_of_the_window() -> None:
    pixels = np.full((40, 60, 3), RED, np.uint8)
    covered = []
    for seed in range(60):
        found = degrade(pixels, replace(UNCHANGED, occlude=1.0), rng_of(seed))
        other = (found != pixels).any(axis=2)
        covered.append(other.mean())
        if other.any():
            x0, y0, x1, y1 = bounds(other)
            assert other[y0:y1, x0:x1].all()
            assert len(np.unique(found[other], axis=0)) == 1
    assert max(covered) < 0.2
    assert np.mean(covered) > 0.01


def test_noise_has_no_bias_and_the_strength_of_a_camera() -> None:
    grey = np.full((60, 60, 3), 128, np.uint8)
    noisy = replace(UNCHANGED, noise=1.0)
    grains = [degrade(grey, noisy, rng_of(seed)).astype(float) - 128 for seed in range(40)]
    assert abs(np.mean(grains)) < 0.1
    assert min(map(np.std, grains)) > 0.8
    assert max(map(np.std, grains)) < 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotate": -1.0},
        {"blur": 1.5},
        {"paste": -0.1},
        {"occlude": 1.1},
        {"perspective": -0.1},
        {"gamma": float("nan")},
    ],
)
def test_augmentation_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentSettings(**wrong)
