"""Crop sets as training takes them: both sides of the split, and no picture on both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import crops, images, records
from nnst.errors import InputError
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Annotation, Crop, Origin, Receipt
from nnst.training.stores import CropData, Stores, check_split, read_stores, unused_pictures

LABELS = ("background", "mark")


@dataclass(frozen=True)
class Picture:
    """One row of a crop set: the picture's name and split, and what is on it."""

    name: str
    split: str
    label: str = ""  # of its one crop; "" is background
    bits: int = 0  # its perceptual hash
    image_id: str = ""
    origin: Origin = "positive"

    @property
    def identity(self) -> str:
        return self.image_id or images.content_hash(self.name.encode())


def crop_set(out: Path, *pictures: Picture, source: str = "") -> Ledger:
    """A finished crop set with one crop from each picture."""
    row = {"container": "a", "offset": -1, "bytes": 0, "stamp": "", "shard": 0, "reason": None}
    inputs = [row | {"image": picture.name} for picture in pictures]
    job = Job("crop", pa.Table.from_pylist(inputs, records.INPUTS), {}, source=source)
    book = Ledger.create(str(out), job)
    picture_rows, crop_rows = [], []
    for picture in pictures:
        facts = {
            "image_id": picture.identity,
            "perceptual_hash": f"{picture.bits:016x}",
            "split": picture.split,
        }
        picture_rows.append(crops.picture_row(picture.name, None, records.OK, **facts))
        box = (2, 2, 8, 8)
        pixels = np.zeros((10, 10, 3), np.uint8)
        crop = Crop(pixels, picture.label, picture.origin, picture.identity, box, box)
        crop_rows.append(crops.crop_row(picture.name, crop, picture.split))
    files = tuple(
        write_part(book.out, name, 0, pa.Table.from_pylist(rows, schema))
        for name, rows, schema in (
            ("pictures", picture_rows, records.PICTURES),
            ("crops", crop_rows, records.CROPS),
        )
    )
    count = len(pictures)
    book.commit(Receipt(0, count, count, 0, files, book.fingerprint))
    book.succeed()
    return book


LOGO = Picture("logo.png", "train", "mark")
NOTHING = Picture("nothing.png", "train", bits=0xFFFF)


def names_of(found: Sequence[Crop]) -> list[str]:
    return [crop.image_id for crop in found]


def read(
    *sets: Ledger,
    background: Sequence[Ledger] = (),
    mined: Sequence[Ledger] = (),
    share: float = 1.0,
) -> Stores:
    groups = [tuple(book.out for book in books) for books in (sets, background, mined)]
    return read_stores(CropData(groups[0], groups[1], groups[2], share), LABELS)


def test_stores_hold_each_side_of_the_split(tmp_path: Path) -> None:
    other = Picture("other.png", "validation", "mark")
    book = crop_set(tmp_path / "crops", LOGO, other, NOTHING)
    outside = crop_set(tmp_path / "background", Picture("far.png", "validation"))
    found = read(book, background=[outside])
    assert names_of(found.train.logos) == [LOGO.identity]
    assert names_of(found.train.background) == [NOTHING.identity]
    assert names_of(found.validation.logos) == [other.identity]
    assert names_of(found.validation.background) == [Picture("far.png", "").identity]


def test_an_annotated_picture_is_no_background_wherever_else_it_lies(tmp_path: Path) -> None:
    """Its logo would be taught as background."""
    book = crop_set(tmp_path / "crops", LOGO, NOTHING)
    copies = (
        Picture("copy.png", "train", image_id=LOGO.identity),
        Picture("held-out-copy.png", "validation", image_id=LOGO.identity),
        Picture("far.png", "train"),
    )
    outside = crop_set(tmp_path / "background", *copies)
    found = read(book, background=[outside])
    assert names_of(found.train.background) == [NOTHING.identity, copies[2].identity]
    assert found.validation.background == ()


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ([NOTHING, Picture("b", "validation", "mark")], "no crop of a logo is for training"),
        ([LOGO, Picture("b", "validation")], "no crop of background is for training"),
    ],
)
def test_crop_sets_with_nothing_to_learn_from_are_refused(
    tmp_path: Path, pictures: list[Picture], words: str
) -> None:
    book = crop_set(tmp_path / "crops", *pictures)
    with pytest.raises(InputError, match=f"{words} in .*crops; "):
        read(book)


@pytest.mark.parametrize("verb_of", ["crops", "background", "mined"])
def test_only_crop_sets_are_taken(tmp_path: Path, verb_of: str) -> None:
    book = crop_set(tmp_path / "crops", LOGO, NOTHING)
    inputs = pa.Table.from_pylist([], records.INPUTS)
    scan = Ledger.create(str(tmp_path / "scan"), Job("scan", inputs, {}))
    chosen = {"crops": (book.out,), "background": (), "mined": ()} | {verb_of: (scan.out,)}
    with pytest.raises(InputError, match="was written by nnst scan, not by nnst crop"):
        read_stores(CropData(chosen["crops"], chosen["background"], chosen["mined"]), LABELS)


# Mined sets


def mined_on(picture: Picture, split: str = "") -> Picture:
    """The row of a hard negative that was cut from a picture."""
    identity = picture.identity
    return Picture(picture.name, split or picture.split, image_id=identity, origin="hard_negative")


HELD_OUT = Picture("held-out.png", "validation", "mark")
FAR = Picture("far.png", "train")


def hard(found: Sequence[Crop]) -> list[str]:
    return [crop.image_id for crop in found if crop.origin == "hard_negative"]


def test_hard_negatives_of_annotated_pictures_stay_on_their_pictures_side(tmp_path: Path) -> None:
    book = crop_set(tmp_path / "crops", LOGO, HELD_OUT, NOTHING)
    rows = [mined_on(picture) for picture in (LOGO, HELD_OUT, NOTHING)]
    mined = crop_set(tmp_path / "mined", *rows, source=book.out)
    found = read(book, mined=[mined])
    assert hard(found.train.background) == [LOGO.identity, NOTHING.identity]
    assert hard(found.validation.background) == [HELD_OUT.identity]


def test_pictures_split_anew_take_their_hard_negatives_along(tmp_path: Path) -> None:
    """The mined set is of before, when the picture that is now held out was for training."""
    book = crop_set(tmp_path / "crops", LOGO, HELD_OUT, NOTHING)
    rows = mined_on(HELD_OUT, "train"), mined_on(LOGO, "validation")
    found = read(book, mined=[crop_set(tmp_path / "mined", *rows, source=book.out)])
    assert hard(found.train.background) == [LOGO.identity]
    assert hard(found.validation.background) == [HELD_OUT.identity]


@pytest.mark.parametrize("source", ["", "elsewhere"])
def test_hard_negatives_cut_without_knowing_the_boxes_of_a_picture_are_left_out(
    tmp_path: Path, source: str
) -> None:
    """Mined in the background archive: what was taken for a logo there may be one."""
    book = crop_set(tmp_path / "crops", LOGO, HELD_OUT, NOTHING)
    rows = mined_on(LOGO), mined_on(HELD_OUT), mined_on(HELD_OUT, "train"), mined_on(FAR)
    mined = crop_set(tmp_path / "mined", *rows, source=source)
    found = read(book, mined=[mined])
    assert hard(found.train.background) == [FAR.identity]
    assert hard(found.validation.background) == []


# A share of the pictures


def truth_of(pictures: Sequence[tuple[str, str]]) -> list[tuple[str, Annotation]]:
    """(split, annotation) of pictures by split and content hash; none has a box."""
    none = np.zeros((0, 4), np.float32)
    return [(split, Annotation("a", name, none, (), [], [])) for split, name in pictures]


hashes = st.text("0123456789abcdef", min_size=6, max_size=6)
annotated = st.dictionaries(hashes, st.sampled_from(["train", "validation"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(pictures=annotated, shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_a_smaller_share_is_a_part_of_a_larger_one(
    pictures: dict[str, str], shares: tuple[float, float]
) -> None:
    truth = truth_of([(split, name) for name, split in pictures.items()])
    training = {name for name, split in pictures.items() if split == "train"}
    used = [training - unused_pictures(truth, share) for share in sorted(shares)]
    assert used[0] <= used[1] <= training
    for count, share in zip(map(len, used), sorted(shares), strict=True):
        assert count == min(len(training), max(1, math.ceil(share * len(training))))
    assert unused_pictures(truth, 1.0) == frozenset()
    assert unused_pictures(truth, shares[0]) <= training  # no picture that is held out
    assert unused_pictures(truth[::-1], shares[0]) == unused_pictures(truth, shares[0])


def test_an_unused_picture_brings_nothing_into_training(tmp_path: Path) -> None:
    """Not its crops, nor what was mined on it, nor its copies; what is held out stays."""
    pictures = [Picture(f"{n}.png", "train", "mark") for n in range(6)]
    nothing = [Picture(f"n{n}.png", "train") for n in range(6)]
    book = crop_set(tmp_path / "crops", *pictures, *nothing, HELD_OUT)
    rows = [mined_on(picture) for picture in (*pictures, *nothing, HELD_OUT)]
    mined = crop_set(tmp_path / "mined", *rows, source=book.out)
    copies = [replace(mined_on(picture), name=f"copy-{picture.name}") for picture in pictures]
    outside = crop_set(tmp_path / "background", *copies, FAR)
    whole = read(book, background=[outside], mined=[mined])
    half = read(book, background=[outside], mined=[mined], share=0.5)
    unused = unused_pictures(crops.read_truth(book), 0.5)
    assert len(unused) == 6

    def left(names: list[str]) -> list[str]:
        return [name for name in names if name not in unused]

    assert names_of(half.train.logos) == left(names_of(whole.train.logos))
    assert names_of(half.train.background) == left(names_of(whole.train.background))
    assert 0 < len(half.train.logos) < 6
    for side in ("logos", "background"):
        one, other = (getattr(found.validation, side) for found in (half, whole))
        assert names_of(one) == names_of(other)
    assert hard(half.validation.background) == [HELD_OUT.identity]


# Near duplicates


def test_near_duplicates_on_both_sides_are_refused(tmp_path: Path) -> None:
    """Planted in two crop sets, three bits apart: the split of one set cannot know the other."""
    one = crop_set(tmp_path / "one", LOGO, NOTHING)
    twin = replace(LOGO, name="twin.png", split="validation", bits=0b111)
    two = crop_set(tmp_path / "two", twin)
    with pytest.raises(InputError, match=r"logo\.png is for train .*twin\.png for validation; cut"):
        check_split([one, two])
    check_split([one])
    check_split([one, crop_set(tmp_path / "three", replace(twin, split="train"))])
    check_split([one, crop_set(tmp_path / "four", replace(twin, bits=0xFF))])  # 8 bits: far enough
