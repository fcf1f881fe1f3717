"""The drawn scenes: their boxes are where the marks are, and nothing that is learnt is searched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import images, imglab, scenes
from nnst.boxes import pairwise_intersection
from nnst.scenes import artwork, drawing, signs

EVEN = np.full((427, 640, 3), 120, np.uint8)  # a photograph of nothing


def seeded(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


# --- Artwork


@pytest.mark.parametrize("mark", [artwork.OURS, *artwork.OTHERS], ids=lambda mark: mark.name)
def test_a_word_mark_fills_its_rectangle(mark: artwork.WordMark) -> None:
    """Else the box that is taken around the artwork would not be tight."""
    drawn = artwork.render(mark, mark.colours, 120)
    assert drawn.shape == (*mark.size_hw(120), 4)
    rows, columns = np.nonzero(drawn[..., 3] > 0.5)
    assert rows.min() <= 1
    assert rows.max() >= drawn.shape[0] - 2
    assert columns.min() <= 12  # a round emblem keeps away from the corners
    assert columns.max() >= drawn.shape[1] - 3
    assert (drawn[..., :3] <= drawn[..., 3:] + 1e-6).all()  # colours are times alpha


def test_our_mark_is_shaped_like_a_word_mark() -> None:
    height, width = artwork.OURS.size_hw(100)
    assert 3 <= width / height <= 4


def test_every_colour_of_a_mark_is_seen() -> None:
    drawn = artwork.render(artwork.OURS, artwork.OURS.colours, 200)
    seen = {tuple(pixel) for pixel in np.round(drawn[drawn[..., 3] == 1][:, :3] * 255).astype(int)}
    assert set(artwork.OURS.colours.values()) <= seen


def test_artwork_is_the_same_at_every_size() -> None:
    """A large one made small is what is drawn small."""
    small = artwork.render(artwork.OURS, artwork.OURS.colours, 40)
    large = artwork.render(artwork.OURS, artwork.OURS.colours, 160)
    shrunk = images.resize(np.uint8(large[..., :3] * 255), small.shape[:2])
    assert np.abs(shrunk / 255 - small[..., :3]).mean() < 0.02


def test_the_names_differ() -> None:
    names = [mark.name for mark in (artwork.OURS, *artwork.OTHERS)]
    assert len(set(names)) == len(names)


# --- Signs


def test_letters_stand_out_from_what_is_behind_them() -> None:
    """On light and dark ground, painted or on a plate."""
    for number in range(40):
        ground = np.full((50, 120, 3), (0.05, 0.3, 0.7, 0.95)[number % 4], np.float32)
        sign = signs.draw_sign(artwork.OURS, 60, ground, seeded(number))
        alpha = sign.layer[..., 3:]
        seen = (ground[0, 0] * (1 - alpha) + sign.layer[..., :3]).mean(axis=2)
        letters = sign.masks[..., 0] > 0.5
        letters[:, : round((signs.MARGIN + 1.2) * 60)] = False  # the emblem has other colours
        around = cv2.dilate(letters.astype(np.uint8), np.ones((7, 7), np.uint8)) > letters
        assert abs(seen[letters].mean() - seen[around].mean()) > 0.15


# --- Scenes


@given(st.integers(0, 2**32), st.integers(0, 2), st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_boxes_lie_inside_the_picture_and_apart(seed: int, ours: int, others: int) -> None:
    scene = scenes.draw(EVEN, ours, others, seeded(seed))
    height, width = scene.pixels.shape[:2]
    assert scene.pixels.dtype == np.uint8
    assert 480 <= height <= 600
    assert 640 <= width <= 900
    assert scene.labels.count("nnst") <= ours
    assert scene.labels.count(scenes.OTHER) <= others
    assert len(scene.boxes) == len(scene.labels)
    x0, y0, x1, y1 = scene.boxes.T
    assert (x0 >= 0).all()
    assert (y0 >= 0).all()
    assert (x1 <= width).all()
    assert (y1 <= height).all()
    assert (x1 - x0 >= 0.9 * drawing.SMALLEST).all()
    assert (x1 - x0 <= 1.02 * drawing.LARGEST * width).all()
    shared = pairwise_intersection(scene.boxes, scene.boxes)
    assert (shared[~np.eye(len(scene.boxes), dtype=bool)] == 0).all()


def test_a_scene_without_marks_has_empty_boxes() -> None:
    scene = scenes.draw(EVEN, 0, 0, seeded(1))
    assert scene.boxes.shape == (0, 4)
    assert scene.labels == ()


def test_boxes_are_tight_around_the_marks() -> None:
    """On even dark ground all that is light is the mark, or the plate that it is on."""
    bare = 0
    for number in range(16):
        scene = scenes.draw(np.full((427, 640, 3), 40, np.uint8), 1, 0, seeded(number))
        light = cv2.medianBlur(scene.pixels.max(axis=2), 3).astype(np.float32)  # less noise
        ground = np.median(light)
        seen = light > ground + 0.25 * (light.max() - ground)
        x, y, width, height = cv2.boundingRect(seen.astype(np.uint8))
        found = np.array([x, y, x + width, y + height])
        outside = (scene.boxes[0] - found) * (1, 1, -1, -1)  # left, above, right, below
        assert (outside >= -3).all()
        if seen[y : y + height, x : x + width].mean() < 0.55:  # letters, not a plate
            assert (outside <= 3).all()
            bare += 1
    assert bare >= 4


def test_a_scene_depends_on_its_seed_alone() -> None:
    first, again = (scenes.draw(EVEN, 1, 1, seeded(3)) for _ in range(2))
    other = scenes.draw(EVEN, 1, 1, seeded(4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert (first.labels, first.quality) == (again.labels, again.quality)
    assert first.pixels.shape != other.pixels.shape or (first.pixels != other.pixels).any()


def test_a_mark_that_finds_no_room_is_left_out() -> None:
    """Thirty signs do not fit; those that do are apart."""
    scene = scenes.draw(EVEN, 30, 0, seeded(5))
    assert 3 < len(scene.boxes) < 30


# --- Photographs


def test_nothing_that_is_learnt_from_is_searched() -> None:
    assert set(scenes.TO_LEARN_FROM) & set(scenes.TO_SEARCH) == set()
    shots = scenes.photographs()
    prints = {name: images.perceptual_hash(pixels) for name, pixels in shots.items()}
    learnt = [prints[name] for name in scenes.TO_LEARN_FROM]
    for name in scenes.TO_SEARCH:
        assert min(images.hamming(prints[name], other) for other in learnt) > 10


def test_photographs_are_as_wide_as_they_need_to_be() -> None:
    shots = scenes.photographs()
    assert set(shots) == {*scenes.TO_LEARN_FROM, *scenes.TO_SEARCH}
    for pixels in shots.values():
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 300


# --- Sets


@pytest.mark.parametrize("chosen", scenes.SETS, ids=lambda chosen: chosen.folder)
def test_a_set_is_written_with_its_truth(chosen: scenes.PictureSet, tmp_path: Path) -> None:
    """The truth names every picture with its true size, and no box leaves its picture."""
    names = list(scenes.write(str(tmp_path), chosen, 4, seed=0))
    assert sorted(path.name for path in (tmp_path / chosen.folder).glob("*.jpg")) == sorted(names)
    if not chosen.truth:
        assert not list(tmp_path.rglob("*.xml"))
        return
    dataset = imglab.read(tmp_path / chosen.truth)
    assert dataset.warnings == ()
    assert len(dataset.images) == 4
    for image in dataset.images:
        pixels = images.decode(dataset.resolve(image).read_bytes()).pixels
        assert pixels.shape == (image.height, image.width, 3)
        assert {box.label for box in image.boxes} <= set(chosen.labels)
        for box in image.boxes:
            assert 0 <= box.left < box.left + box.width <= pixels.shape[1]
            assert 0 <= box.top < box.top + box.height <= pixels.shape[0]


def test_a_larger_set_begins_as_a_smaller_one(tmp_path: Path) -> None:
    chosen = scenes.SETS[0]
    few = list(scenes.write(str(tmp_path / "few"), chosen, 2, seed=0))
    more = list(scenes.write(str(tmp_path / "more"), chosen, 3, seed=0))
    assert more[:2] == few
    for name in few:
        one, other = (tmp_path / folder / chosen.folder / name for folder in ("few", "more"))
        assert one.read_bytes() == other.read_bytes()


def test_every_photograph_gets_every_number_of_marks() -> None:
    """Else the model could learn the photograph instead of the mark."""
    for chosen in scenes.SETS:
        assert np.gcd(len(chosen.photographs), len(chosen.marks)) == 1
