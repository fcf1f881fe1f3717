"""Crops hold their box where they say, nothing of another box, and never leak across the split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from nnst import boxes as boxes_
from nnst import crops, images, imglab, records, storage
from nnst.archive import stream
from nnst.crops import GREY, CropSettings, cut, cut_crops
from nnst.crops.cutting import MOST_OF_BOX, MOST_OF_WINDOW
from nnst.errors import InputError
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Annotation, Receipt

FEW = settings(max_examples=40, deadline=None)
NO_NEGATIVES = CropSettings(negatives=0)
RED, BLUE = (255, 0, 0), (0, 0, 255)
WINDOW = (12, 20)
HW = (90, 130)


def ground(hw: tuple[int, int] = HW, seed: int = 0) -> np.ndarray:
    """(H, W, 3) dim colours, none of them as bright as what the tests draw on them."""
    few = np.random.default_rng(seed).integers(20, 120, (5, 6, 3), np.uint8)
    return np.asarray(cv2.resize(few, hw[::-1], interpolation=cv2.INTER_LINEAR))


def marked(*boxes: tuple[float, ...], **columns: object) -> Annotation:
    """An annotation of these boxes, all of them labelled `logo` and none set aside."""
    count = len(boxes)
    values = {
        "image": "a.png",
        "image_id": "ab" * 32,
        "boxes": np.array(boxes, np.float32),
        "labels": ("logo",) * count,
        "ignore": [False] * count,
        "difficult": [False] * count,
    }
    return Annotation(**(values | columns))


def painted(boxes: list[tuple[int, ...]], colours: list[tuple[int, ...]]) -> np.ndarray:
    pixels = ground()
    for (x0, y0, x1, y1), colour in zip(boxes, colours, strict=True):
        pixels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = colour
    return pixels


def is_like(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """(H, W) where pixels have the colour, or a good part of it."""
    strong = np.array(colour) > 0
    return (pixels[..., strong] > 150).all(axis=-1) & (pixels[..., ~strong] < 110).all(axis=-1)


def extent(mask: np.ndarray) -> list[int]:
    """The box around all that is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@st.composite
def rectangles(draw: st.DrawFn, least: int = 3, most: int = 60) -> tuple[int, int, int, int]:
    """A box of whole pixels; it may overhang the picture or lie outside."""
    width, height = (draw(st.integers(least, most)) for _ in range(2))
    left, top = draw(st.integers(-40, HW[1] + 10)), draw(st.integers(-40, HW[0] + 10))
    return left, top, left + width, top + height


# Windows


@FEW
@given(box=rectangles(least=1), window=st.tuples(st.integers(16, 90), st.integers(16, 90)))
def test_a_canonical_window_has_the_boxes_centre_and_area_and_the_windows_aspect(
    box: tuple[int, ...], window: tuple[int, int]
) -> None:
    boxes = np.array([box], np.float32)
    found = crops.canonical_windows(boxes, window)
    height, width = boxes_.size_hw(found)[0]
    np.testing.assert_allclose(boxes_.center(found), boxes_.center(boxes), atol=1e-3)
    np.testing.assert_allclose(boxes_.area(found), boxes_.area(boxes), rtol=1e-3)
    assert width / height == pytest.approx(window[1] / window[0], rel=1e-3)


def test_canonical_windows_of_no_box_are_none() -> None:
    assert crops.canonical_windows(np.zeros((0, 4), np.float32), WINDOW).shape == (0, 4)


def test_the_default_window_has_the_median_aspect_at_the_talks_area() -> None:
    narrow, wide = (0, 0, 10, 10), (0, 0, 75, 22)
    height, width = crops.default_window([marked(wide, narrow), marked(wide)])
    assert (height, width) == (22, 75)


def test_the_default_window_counts_no_ignored_and_no_empty_box() -> None:
    ignored = marked((0, 0, 10, 10), (0, 0, 10, 90), (5, 5, 5, 9), ignore=[False, True, False])
    assert crops.default_window([ignored], area=400) == (20, 20)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((0, 0, 1000, 1), (16, 141)),  # no wider than 12 to 1, no lower than 16 pixels
        ((0, 0, 1, 1000), (141, 16)),
        ((0, 0, 50, 50), (41, 41)),
    ],
)
def test_the_default_window_keeps_to_its_limits(
    box: tuple[int, ...], window: tuple[int, int]
) -> None:
    assert crops.default_window([marked(box)]) == window


def test_the_default_window_sees_boxes_as_they_stand_upright() -> None:
    lying = marked((0, 0, 22, 75), image="phone.jpg")
    assert crops.default_window([lying]) == (75, 22)
    assert crops.default_window([lying], {"phone.jpg"}) == (22, 75)


def test_without_a_box_that_counts_there_is_no_default_window() -> None:
    with pytest.raises(ValueError, match="no box"):
        crops.default_window([marked((0, 0, 9, 9), ignore=[True]), marked()])


# Cutting


@FEW
@given(frame=rectangles(least=1))
def test_a_cut_holds_the_pixels_inside_and_grey_outside(frame: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*HW, 3), np.uint8)
    x0, y0, x1, y1 = frame
    border = 100
    wide = np.full((HW[0] + 2 * border, HW[1] + 2 * border, 3), GREY, np.uint8)
    wide[border:-border, border:-border] = pixels
    expected = wide[y0 + border : y1 + border, x0 + border : x1 + border]
    found = cut(pixels, np.array(frame, np.float32), (y1 - y0, x1 - x0))
    np.testing.assert_array_equal(found, expected)


def test_a_cut_to_another_size_is_the_same_piece_resized() -> None:
    pixels = ground()
    found = cut(pixels, np.array([10, 20, 50, 44], np.float32), (12, 20))
    np.testing.assert_array_equal(found, images.resize(pixels[20:44, 10:50], (12, 20)))


@pytest.mark.parametrize("orientation", range(1, 9))
@settings(max_examples=15, deadline=None)
@given(box=rectangles(), oversample=st.sampled_from([0.7, 1.5, 8.0]))
def test_the_box_is_in_the_crop_where_it_says_to_the_pixel(
    orientation: int, box: tuple[int, int, int, int], oversample: float
) -> None:
    """A red box drawn on the stored picture is found in the upright crop, overhanging or not."""
    truth = marked(box)
    asked = replace(NO_NEGATIVES, oversample=oversample)
    found = list(cut_crops(painted([box], [RED]), orientation, truth, WINDOW, asked))
    inside = boxes_.clip(truth.boxes, HW)
    if boxes_.area(inside)[0] <= 0.25 * boxes_.area(truth.boxes)[0]:
        assert not found
        return
    (crop,) = found
    np.testing.assert_array_equal(crop.box, box)  # in the picture as stored
    whole, seen = images.boxes_upright(np.stack([truth.boxes[0], inside[0]]), HW, orientation)
    scale = (crop.box_in_crop[2:] - crop.box_in_crop[:2]) / (whole[2:] - whole[:2])
    expected = crop.box_in_crop + (seen - whole) * np.tile(scale, 2)  # of the part that is there
    height, width = crop.pixels.shape[:2]
    expected = np.clip(expected, 0, (width, height, width, height))  # a long box leaves its crop
    limit = 0.01 if (scale == 1).all() else 1.0
    if (expected[2:] - expected[:2]).min() < (3 if limit == 1.0 else 1):
        return  # beyond the crop, or so thin that no pixel of it is as red as it was
    np.testing.assert_allclose(extent(is_like(crop.pixels, RED)), expected, atol=limit)


def test_a_crop_has_context_and_no_more_resolution_than_asked_for_or_than_there_is() -> None:
    truth = marked((40, 30, 80, 54), (100, 60, 110, 66))  # twice the window, half of it
    large, small = cut_crops(ground(), 1, truth, WINDOW, NO_NEGATIVES)
    assert large.pixels.shape == (36, 60, 3)  # 2 x context, 1.5 x resolution
    assert small.pixels.shape == (12, 20, 3)  # 2 x context, as the picture has it


def test_crops_keep_label_identity_and_origin() -> None:
    truth = marked((10, 10, 40, 30), (60, 40, 90, 60), labels=("nike", "puma"))
    found = list(cut_crops(ground(), 1, truth, WINDOW, CropSettings(negatives=3)))
    assert [crop.label for crop in found] == ["nike", "puma", "", "", ""]
    assert [crop.origin for crop in found] == ["positive"] * 2 + ["negative"] * 3
    assert {crop.image_id for crop in found} == {truth.image_id}


def test_a_box_with_a_negative_label_is_background() -> None:
    truth = marked((10, 10, 40, 30), (60, 40, 90, 60), labels=("nike", "not logo"))
    asked = CropSettings(negatives=0, negative_label=("not logo",))
    logo, other = cut_crops(ground(), 1, truth, WINDOW, asked)
    assert (logo.label, logo.origin) == ("nike", "positive")
    assert (other.label, other.origin) == ("", "negative")
    np.testing.assert_array_equal(other.box, (60, 40, 90, 60))


def test_an_ignore_box_gives_no_crop_whatever_its_label() -> None:
    truth = marked((10, 10, 40, 30), (60, 40, 90, 60), labels=("a", "b"), ignore=[True, True])
    assert not list(cut_crops(ground(), 1, truth, WINDOW, replace(NO_NEGATIVES)))
    asked = CropSettings(negatives=0, negative_label=("b",))
    assert not list(cut_crops(ground(), 1, truth, WINDOW, asked))


def test_a_crop_shows_its_own_box_whole_and_no_other() -> None:
    """The neighbour would be taught as background by a window that lies beside the box."""
    own, neighbour = (40, 30, 60, 42), (55, 30, 75, 42)  # they overlap
    pixels = painted([neighbour, own], [BLUE, RED])
    for ignore in ([False, False], [False, True]):
        crop = next(
            cut_crops(pixels, 1, marked(own, neighbour, ignore=ignore), WINDOW, CropSettings())
        )
        assert extent(is_like(crop.pixels, RED)) == crop.box_in_crop.tolist()
        assert not is_like(crop.pixels, BLUE).any()
        assert (crop.pixels[14, -1] == GREY).all()


def test_a_crop_keeps_what_a_negative_label_marks_beside_it() -> None:
    own, neighbour = (40, 30, 60, 42), (62, 30, 70, 42)
    truth = marked(own, neighbour, labels=("logo", "no"))
    asked = CropSettings(negatives=0, negative_label=("no",))
    logo, _ = cut_crops(painted([own, neighbour], [RED, BLUE]), 1, truth, WINDOW, asked)
    assert is_like(logo.pixels, BLUE).any()


@FEW
@given(
    boxes=st.lists(rectangles(), min_size=1, max_size=4),
    orientation=st.integers(1, 8),
    data=st.data(),
)
def test_no_background_crop_shows_a_logo_or_an_ignore_box(
    boxes: list[tuple[int, int, int, int]], orientation: int, data: st.DataObject
) -> None:
    flags = st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))
    labels = [data.draw(st.sampled_from(["logo", "no"])) for _ in boxes]
    truth = marked(*boxes, labels=labels, ignore=data.draw(flags))
    logo = [label == "logo" or aside for label, aside in zip(labels, truth.ignore, strict=True)]
    order = sorted(range(len(boxes)), key=lambda index: logo[index])  # logos on top
    pixels = painted([boxes[i] for i in order], [RED if logo[i] else BLUE for i in order])
    asked = CropSettings(negatives=6, negative_label=("no",))
    for crop in cut_crops(pixels, orientation, truth, WINDOW, asked):
        if crop.origin == "negative":
            assert not is_like(crop.pixels, RED).any()


# Background


@FEW
@given(
    boxes=st.lists(rectangles(), max_size=4),
    hw=st.tuples(st.integers(5, 200), st.integers(5, 200)),
    window=st.sampled_from([(12, 20), (40, 16)]),
)
def test_background_lies_in_the_picture_and_shares_next_to_nothing_with_any_box(
    boxes: list[tuple[int, int, int, int]], hw: tuple[int, int], window: tuple[int, int]
) -> None:
    avoid = boxes_.as_boxes(boxes)
    found = crops.background_boxes(hw, avoid, window, CropSettings(negatives=5), "cd" * 32)
    assert len(found) <= 5
    assert boxes or len(found) == 5
    for x0, y0, x1, y1 in found.tolist():
        assert x0 >= -0.01
        assert y0 >= -0.01
        assert x1 <= hw[1] + 0.01
        assert y1 <= hw[0] + 0.01
        assert (x1 - x0) / (y1 - y0) == pytest.approx(window[1] / window[0], rel=0.01)
        for left, top, right, bottom in boxes:
            width = max(0.0, min(x1, right) - max(x0, left))
            shared = width * max(0.0, min(y1, bottom) - max(y0, top))
            assert shared <= MOST_OF_WINDOW * (x1 - x0) * (y1 - y0) + 0.01
            assert shared <= MOST_OF_BOX * (right - left) * (bottom - top) + 0.01


def test_background_avoids_the_box_that_stands_in_its_way() -> None:
    """The same windows without the box would overlap it: the limits above have something to do."""
    hw, avoid = (60, 90), np.array([[10, 10, 70, 50]], np.float32)
    asked = CropSettings(negatives=40)
    free = crops.background_boxes(hw, avoid[:0], WINDOW, asked, "ef" * 32)
    kept = crops.background_boxes(hw, avoid, WINDOW, asked, "ef" * 32)
    assert (boxes_.pairwise_intersection(free, avoid) > 0.1 * boxes_.area(free)[:, None]).any()
    assert len(kept) > 0
    assert {tuple(box) for box in kept.tolist()} != {tuple(box) for box in free.tolist()}


def test_background_depends_on_the_picture_and_the_seed_and_on_nothing_else() -> None:
    nothing = np.zeros((0, 4), np.float32)

    def found(image_id: str, seed: int, negatives: int = 4) -> list[list[float]]:
        asked = CropSettings(negatives=negatives, seed=seed)
        return crops.background_boxes(HW, nothing, WINDOW, asked, image_id).tolist()

    first = found("aa" * 32, 0)
    found("bb" * 32, 0)
    assert found("aa" * 32, 0) == first
    assert found("bb" * 32, 0) != first
    assert found("aa" * 32, 1) != first


def test_background_comes_in_the_sizes_at_which_a_picture_is_scanned() -> None:
    nothing = np.zeros((0, 4), np.float32)
    asked = CropSettings(negatives=200)
    found = crops.background_boxes((600, 1000), nothing, WINDOW, asked, "aa" * 32)
    scales = np.log2(boxes_.size_hw(found)[:, 0] / WINDOW[0])
    assert scales.min() == pytest.approx(np.log2(0.75), abs=0.2)
    assert scales.max() == pytest.approx(np.log2(50), abs=0.2)
    assert np.histogram(scales, 4)[0].min() > 30  # as many of each size


@pytest.mark.parametrize(
    "wrong",
    [{"context": 0.5}, {"oversample": 0.0}, {"negatives": -1}, {"context": float("nan")}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CropSettings(**wrong)


def test_a_picture_to_look_at_is_the_window_on_the_box() -> None:
    box = (40, 30, 80, 54)
    (crop,) = cut_crops(painted([box], [RED]), 1, marked(box), WINDOW, NO_NEGATIVES)
    look = crops.picture_to_look_at(crop, WINDOW)
    assert look.shape == (*WINDOW, 3)
    assert is_like(look, RED).all()


# Groups and split


def by_union_find(image_ids: list[str], hashes: list[int]) -> list[str]:
    parent = {index: index for index in range(len(hashes))}

    def root(index: int) -> int:
        return index if parent[index] == index else root(parent[index])

    for one, other in combinations(range(len(hashes)), 2):
        if images.hamming(hashes[one], hashes[other]) <= crops.NEAR_DUPLICATE_BITS:
            parent[root(one)] = root(other)
    return [
        min(image_ids[other] for other in parent if root(other) == root(index)) for index in parent
    ]


@st.composite
def near_hashes(draw: st.DrawFn) -> list[int]:
    """Hashes in chains: each is a few bits away from one before it, or anywhere."""
    found = [draw(st.integers(0, 2**64 - 1))]
    for _ in range(draw(st.integers(0, 12))):
        value = draw(st.sampled_from([*found, draw(st.integers(0, 2**64 - 1))]))
        for bit in draw(st.lists(st.integers(0, 63), max_size=9)):
            value ^= 1 << bit
        found.append(value)
    return found


@FEW
@given(hashes=near_hashes(), random=st.randoms(use_true_random=False))
def test_near_duplicates_are_grouped_as_by_comparing_all_pairs(
    hashes: list[int], random: object
) -> None:
    image_ids = [f"{index:02}" for index in range(len(hashes))]
    random.shuffle(image_ids)
    assert crops.near_duplicate_groups(image_ids, hashes) == by_union_find(image_ids, hashes)


def test_groups_among_hashes_that_share_their_bands_are_those_of_all_pairs() -> None:
    """So few bits vary that the bands of hashes are crowded."""
    rng = Random(5)
    varying = sum(1 << bit for bit in rng.sample(range(64), 26))
    hashes = [rng.getrandbits(64) & varying for _ in range(250)]
    for _ in range(150):
        flips = rng.sample(range(64), rng.randrange(9))
        hashes.append(rng.choice(hashes) ^ sum(1 << bit for bit in flips))
    image_ids = [f"{index:04}" for index in range(len(hashes))]
    groups = crops.near_duplicate_groups(image_ids, hashes)
    assert groups == by_union_find(image_ids, hashes)
    assert 50 < len(set(groups)) < 350


def test_pictures_alike_through_a_third_are_one_group() -> None:
    ends = [0, (1 << 12) - 1]  # 12 bits apart, and 6 from the one between
    assert crops.near_duplicate_groups(["a", "b"], ends) == ["a", "b"]
    assert crops.near_duplicate_groups(["b", "c", "a"], [*ends, (1 << 6) - 1]) == ["a"] * 3


def test_no_pictures_have_no_groups() -> None:
    assert crops.near_duplicate_groups([], []) == []
    assert crops.split_groups([], 0.2) == {}


@FEW
@given(hashes=near_hashes(), share=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_near_duplicates_are_on_one_side_of_the_split(hashes: list[int], share: float) -> None:
    groups = crops.near_duplicate_groups([f"{n:02}" for n in range(len(hashes))], hashes)
    sides = crops.split_groups(groups, share)
    for one, other in combinations(range(len(hashes)), 2):
        if images.hamming(hashes[one], hashes[other]) <= crops.NEAR_DUPLICATE_BITS:
            assert sides[groups[one]] == sides[groups[other]]


@FEW
@given(
    names=st.lists(st.text("abcdef", min_size=1), unique=True, min_size=1, max_size=9),
    share=st.floats(0, 0.99),
)
def test_neither_side_is_empty_when_there_are_two_groups(names: list[str], share: float) -> None:
    sides = set(crops.split_groups(names, share).values())
    assert sides == ({"train", "validation"} if len(names) > 1 else {"train"})


def test_one_group_alone_is_for_training() -> None:
    """Whatever its place: there is nothing else to learn from."""
    for name in "abcdefgh":
        assert crops.split_groups([name], 0.5) == {name: "train"}


def test_a_group_stays_on_its_side_when_others_are_added() -> None:
    few = [storage.sha256(bytes([index])) for index in range(30)]
    many = few + [storage.sha256(bytes([index, 1])) for index in range(200)]
    before, after = crops.split_groups(few, 0.3), crops.split_groups(many, 0.3)
    assert {name: after[name] for name in few} == before


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_held_out_is_about_what_was_asked_for(share: float) -> None:
    names = [storage.sha256(index.to_bytes(4)) for index in range(4000)]
    held_out = [side == "validation" for side in crops.split_groups(names, share).values()]
    assert np.mean(held_out) == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


# Tables


def crop_set(out: Path, rows: dict[str, list[dict[str, object]]]) -> Ledger:
    """A finished crop set of one shard."""
    row = {"container": "a", "offset": -1, "bytes": 0, "stamp": "", "reason": None, "shard": 0}
    count = len(rows.get("pictures", ["one"]))
    planned = [row | {"image": f"{number}"} for number in range(count)]
    inputs = pa.Table.from_pylist(planned, schema=records.INPUTS)
    book = Ledger.create(str(out), Job("crop", inputs, {}))
    files = tuple(
        write_part(
            book.out,
            name,
            0,
            pa.Table.from_pylist(rows[name], schema=getattr(records, name.upper())),
        )
        for name in rows
    )
    book.commit(Receipt(0, count, count, 0, files, book.fingerprint))
    book.succeed()
    return book


def test_crops_come_back_from_a_crop_set_as_they_went_in(tmp_path: Path) -> None:
    truth = marked((10.5, 10, 40, 30), (60, 40, 90, 60), labels=("nike", "puma"))
    went = list(cut_crops(ground(), 6, truth, WINDOW, CropSettings(negatives=3)))
    sides = ["train", "validation", "train", "train", "validation"]
    rows = [crops.crop_row("a", crop, side) for crop, side in zip(went, sides, strict=True)]
    book = crop_set(tmp_path / "crops", {"crops": rows})
    came = crops.read_crops(book)
    assert [side for side, _ in came] == sides
    for crop, (_, found) in zip(went, came, strict=True):
        assert (found.label, found.origin, found.image_id) == (
            crop.label,
            crop.origin,
            crop.image_id,
        )
        np.testing.assert_array_equal(found.pixels, crop.pixels)
        np.testing.assert_array_equal(found.box, crop.box)
        np.testing.assert_array_equal(found.box_in_crop, crop.box_in_crop)
    assert crops.read_crops(book, without={truth.image_id}) == []


def test_truth_comes_back_from_a_crop_set_as_it_went_in(tmp_path: Path) -> None:
    truth = marked(
        (-4, 10, 40, 30),
        (60, 40, 90, 60),
        labels=("nike", "puma"),
        ignore=[True, False],
        difficult=[False, True],
    )
    empty = marked(image="b.png", image_id="cd" * 32)
    facts = {"split": "train"}
    rows = [
        crops.picture_row("a.png", truth, records.OK, image_id=truth.image_id, **facts),
        crops.picture_row("b.png", empty, records.OK, image_id=empty.image_id, **facts),
        crops.picture_row("c.png", marked((0, 0, 5, 5)), "missing"),
        crops.picture_row("d.png", None, records.OK, image_id="ef" * 32, split="validation"),
    ]
    book = crop_set(tmp_path / "crops", {"pictures": rows})
    came = crops.read_truth(book)
    assert [(side, item.image) for side, item in came] == [
        ("train", "a.png"),
        ("train", "b.png"),
        ("validation", "d.png"),
    ]
    for item, (_, found) in zip([truth, empty], came, strict=False):
        np.testing.assert_array_equal(found.boxes, item.boxes)
        np.testing.assert_array_equal(found.ignore, item.ignore)
        np.testing.assert_array_equal(found.difficult, item.difficult)
        assert (found.labels, found.image_id) == (item.labels, item.image_id)
    assert len(came[2][1]) == 0


# Annotated pictures


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small imglab file that names these pictures, a box on each; pictures by their
    content, or None for one that is not there."""

    def written(name: str, pictures: dict[str, np.ndarray | bytes | None]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, content in pictures.items():
            if content is not None:
                data = content if isinstance(content, bytes) else images.encode_png(content)
                (path.parent / file).parent.mkdir(parents=True, exist_ok=True)
                (path.parent / file).write_bytes(data)
        box = imglab.Box(2, 3, 8, 4, "logo")
        entries = tuple(imglab.Image(file, (box,)) for file in pictures)
        imglab.write(imglab.Dataset(entries), path)
        return path

    return written


Write = Callable[..., Path]


def test_pictures_are_planned_with_their_truth_and_can_be_read_where_the_plan_says(
    write: Write,
) -> None:
    path = write("truth.xml", {"one.png": ground(), "deep/two.png": ground(seed=2)})
    found = crops.plan([str(path)], allow_outside=False, shard_images=1)
    assert found.inputs["image"].to_pylist() == ["one.png", "deep/two.png"]
    assert found.inputs["shard"].to_pylist() == [0, 1]
    assert found.inputs["reason"].to_pylist() == [None, None]
    np.testing.assert_array_equal(found.truth["one.png"].boxes, [(2, 3, 10, 7)])
    members = list(stream(found.source, found.inputs))
    np.testing.assert_array_equal(images.decode(members[0].data).pixels, ground())


def test_a_picture_that_cannot_be_opened_is_planned_with_its_reason(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").write_bytes(images.encode_png(ground()))
    pictures = {"one.png": ground(), "gone.png": None, "../outside.png": None}
    path = write("set/truth.xml", pictures)
    found = crops.plan([str(path)], allow_outside=False, shard_images=8)
    assert found.inputs["reason"].to_pylist() == [None, "missing", "unsafe_path"]
    assert found.truth.keys() == set(found.inputs["image"].to_pylist())
    allowed = crops.plan([str(path)], allow_outside=True, shard_images=8)
    assert allowed.inputs["reason"].to_pylist() == [None, "missing", None]


def test_two_truth_files_share_one_source_and_name_pictures_below_it(write: Write) -> None:
    paths = [write("a/truth.xml", {"p.png": ground()}), write("b/c/truth.xml", {"p.png": ground()})]
    found = crops.plan([*map(str, paths)], allow_outside=False, shard_images=8)
    assert found.inputs["image"].to_pylist() == ["a/p.png", "b/c/p.png"]
    assert [item.image for item in found.truth.values()] == ["a/p.png", "b/c/p.png"]
    assert all(member.data for member in stream(found.source, found.inputs))


def test_a_picture_in_two_truth_files_is_refused(write: Write) -> None:
    paths = [write("a.xml", {"p.png": ground()}), write("b.xml", {"./p.png": None})]
    with pytest.raises(InputError, match=r"p\.png is listed twice.*b\.xml.*; put"):
        crops.plan([*map(str, paths)], allow_outside=False, shard_images=8)


def test_truth_of_which_no_picture_can_be_opened_is_refused(write: Write) -> None:
    path = write("truth.xml", {"gone.png": None, "lost.png": None})
    with pytest.raises(InputError, match=r"none of the 2 pictures .*gone\.png: .*not there.*; put"):
        crops.plan([str(path)], allow_outside=False, shard_images=8)


def test_truth_without_a_picture_is_refused(write: Write) -> None:
    with pytest.raises(InputError, match="lists no picture; draw boxes"):
        crops.plan([str(write("truth.xml", {}))], allow_outside=False, shard_images=8)


def test_pictures_that_exif_lays_on_their_side_are_known_from_the_plan(
    write: Write, tmp_path: Path
) -> None:
    pictures: dict[str, bytes] = {}
    for orientation in range(1, 9):
        exif = PillowImage.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "picture.jpg"
        PillowImage.fromarray(ground()).save(path, exif=exif)
        pictures[f"{orientation}.jpg"] = path.read_bytes()
    pictures["text.jpg"] = b"no picture"
    found = crops.plan([str(write("t/truth.xml", pictures))], allow_outside=False, shard_images=8)
    assert found.turned == {"5.jpg", "6.jpg", "7.jpg", "8.jpg"}


def test_the_real_stop_signs_give_a_window_of_their_own_shape(shared_data: Path) -> None:
    path = shared_data / "pare" / "training.xml"
    found = crops.plan([str(path)], allow_outside=False, shard_images=32)
    height, width = crops.default_window(list(found.truth.values()), found.turned)
    assert found.inputs.num_rows == 37
    assert 0.8 < width / height < 1.3
    assert height * width == pytest.approx(crops.WINDOW_AREA, rel=0.05)


def test_what_looks_like_a_picture_of_another_crop_set_goes_to_its_side() -> None:
    groups = ["a", "b", "a", "c", "b"]  # the last two are of the other set
    sides = crops.split_beside(groups, [None, None, None, "validation", "train"], 0.0)
    assert sides == {"a": "train", "b": "train", "c": "validation"}
    assert crops.split_beside(["a", "a"], [None, "validation"], 0.0) == {"a": "validation"}
    assert crops.split_beside(["a", "a"], [None, "train"], 1.0) == {"a": "train"}
