"""EXIF's eight orientations on pixels and on boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nnst.images.orientation import boxes_stored, boxes_upright, upright, upright_hw

ORIENTATIONS = range(1, 9)
eighths = st.integers(-800, 8_000).map(lambda n: n / 8)


def marked(hw: tuple[int, int], box: np.ndarray) -> np.ndarray:
    """(H, W, 3) black, white inside the box."""
    pixels = np.zeros((*hw, 3), np.uint8)
    x0, y0, x1, y1 = box.astype(int)
    pixels[y0:y1, x0:x1] = 255
    return pixels


def white_box(pixels: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(pixels[..., 0])
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("hw", [(5, 9), (9, 5), (1, 4)])
def test_upright_is_what_pillow_makes_of_the_same_orientation(orientation, hw):
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    expected = np.asarray(ImageOps.exif_transpose(image))

    turned = upright(pixels, orientation)

    assert np.array_equal(turned, expected)
    assert turned.flags.c_contiguous
    assert turned.shape[:2] == upright_hw(hw, orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_that_are_read_only_can_be_turned(orientation):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels.setflags(write=False)
    assert upright(pixels, orientation).size == pixels.size


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_box_goes_where_its_pixels_go(orientation):
    box = np.array([[2, 1, 7, 4]], np.float32)
    stored = marked((6, 11), box[0])

    moved = boxes_upright(box, (6, 11), orientation)

    assert moved.tolist() == [white_box(upright(stored, orientation))]
    assert boxes_stored(moved, (6, 11), orientation).tolist() == box.tolist()


@given(
    rows=st.lists(st.tuples(eighths, eighths, eighths, eighths), max_size=4),
    hw=st.tuples(st.integers(1, 65_500), st.integers(1, 65_500)),
    orientation=st.sampled_from(ORIENTATIONS),
)
@settings(max_examples=150, deadline=None)
def test_upright_and_stored_boxes_are_exact_inverses(rows, hw, orientation):
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    untouched = boxes.copy()

    there = boxes_upright(boxes, hw, orientation)

    assert np.array_equal(boxes_stored(there, hw, orientation), boxes)
    back = boxes_stored(boxes, hw, orientation)
    assert np.array_equal(boxes_upright(back, hw, orientation), boxes)
    assert np.array_equal(boxes, untouched)
    assert there.dtype == np.float32
    assert np.array_equal(there[:, 2] >= there[:, 0], _ordered(boxes, orientation, axis=0))


def _ordered(boxes: np.ndarray, orientation: int, axis: int) -> np.ndarray:
    """Whether x0 <= x1 has to hold upright: the stored x or y corners in order."""
    if orientation >= 5:
        axis = 1 - axis
    return boxes[:, axis + 2] >= boxes[:, axis]
