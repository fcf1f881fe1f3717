"""Crop sets -> the crops of both sides of the split, with no picture on both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nnst import crops
from nnst.errors import InputError
from nnst.ledger import Ledger
from nnst.records import Annotation, Crop
from nnst.training.batches import CropStore


@dataclass(frozen=True, slots=True)
class Stores:
    """What is trained on, and what is held out."""

    train: CropStore
    validation: CropStore


@dataclass(frozen=True, slots=True)
class CropData:
    """The crop sets that are learnt from, as folders."""

    crop_sets: tuple[str, ...]  # of annotated pictures
    background: tuple[str, ...] = ()
    mined: tuple[str, ...] = ()  # hard negatives of either
    share: float = 1.0  # of the annotated pictures that are for training


def read_stores(data: CropData, labels: Sequence[str]) -> Stores:
    """The crops of annotated pictures, and those of background pictures that are none of these.

    A picture with a logo may lie in the background archive too: cut as background it would teach
    the network to overlook the logo. Raises ValueError for a label that is not in `labels`, and
    InputError when there is no logo or no background to train on.
    """
    crop_sets, background, mined = (
        [Ledger.open(path, "crop") for path in paths]
        for paths in (data.crop_sets, data.background, data.mined)
    )
    truth = [item for book in crop_sets for item in crops.read_truth(book)]
    split = {item.image_id: side for side, item in truth}
    unused = unused_pictures(truth, data.share)
    sides: dict[str, list[Crop]] = {"train": [], "validation": []}
    for book in crop_sets:
        for side, crop in crops.read_crops(book, unused):
            sides[side].append(crop)
    for book in (*background, *mined):
        own = book.source in data.crop_sets  # mined on annotated pictures, beside their boxes
        for side, crop in crops.read_crops(book, unused if own else split):
            # The truth's side, as the pictures may have been split anew since they were mined.
            sides[split.get(crop.image_id, side)].append(crop)
    train, validation = (CropStore.of(sides[side], labels) for side in ("train", "validation"))
    names = ", ".join(data.crop_sets)
    if not train.logos:
        what = f"no crop of a logo is for training in {names}"
        raise InputError(what, "draw boxes on more pictures, and crop again")
    if not train.background:
        what = f"no crop of background is for training in {names}"
        raise InputError(what, "give --background, or let nnst crop cut more with crop.negatives")
    return Stores(train, validation)


def unused_pictures(truth: Sequence[tuple[str, Annotation]], share: float) -> frozenset[str]:
    """The content hashes of the training pictures that a share leaves out, chosen by the hash."""
    training = sorted({item.image_id for split, item in truth if split == "train"})
    return frozenset(training[max(1, math.ceil(share * len(training))) :])


def check_split(crop_sets: Sequence[Ledger]) -> None:
    """Raise InputError when near duplicates of one picture are on both sides of the split."""
    columns = ["image", "image_id", "perceptual_hash", "split"]
    rows = [
        row
        for book in crop_sets
        for row in book.read("pictures", columns).to_pylist()
        if row["perceptual_hash"] is not None  # unreadable, or only mined
    ]
    groups = crops.near_duplicate_groups(
        [row["image_id"] for row in rows], [int(row["perceptual_hash"], 16) for row in rows]
    )
    first: dict[str, tuple[str, str]] = {}
    for group, row in zip(groups, rows, strict=True):
        image, side = first.setdefault(group, (row["image"], row["split"]))
        if side != row["split"]:
            raise InputError(
                f"{image} is for {side} and its near duplicate {row['image']} for {row['split']}",
                "cut them together: nnst crop with both truth files, into one crop set",
            )
