"""Crop sets -> the crops of both sides of the split, with no picture on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnst import crops
from nnst.errors import InputError
from nnst.ledger import Ledger
from nnst.records import Crop
from nnst.training.batches import CropStore


@dataclass(frozen=True, slots=True)
class Stores:
    """What is trained on, and what is held out."""

    train: CropStore
    validation: CropStore


def read_stores(
    crop_sets: Sequence[Ledger], background: Sequence[Ledger], labels: Sequence[str]
) -> Stores:
    """The crops of annotated pictures, and those of background pictures that are none of these.

    A picture with a logo may lie in the background archive too: cut as background it would teach
    the network to overlook the logo. Raises ValueError for a label that is not in `labels`, and
    InputError when there is no logo or no background to train on.
    """
    annotated = {item.image_id for book in crop_sets for _, item in crops.read_truth(book)}
    sides: dict[str, list[Crop]] = {"train": [], "validation": []}
    for book in (*crop_sets, *background):
        without = annotated if book in background else ()
        for side, crop in crops.read_crops(book, without):
            sides[side].append(crop)
    train, validation = (CropStore.of(sides[side], labels) for side in ("train", "validation"))
    names = ", ".join(book.out for book in crop_sets)
    if not train.logos:
        what = f"no crop of a logo is for training in {names}"
        raise InputError(what, "draw boxes on more pictures, and crop again")
    if not train.background:
        what = f"no crop of background is for training in {names}"
        raise InputError(what, "give --background, or let nnst crop cut more with crop.negatives")
    return Stores(train, validation)


def check_split(crop_sets: Sequence[Ledger]) -> None:
    """Raise InputError when near duplicates of one picture are on both sides of the split."""
    columns = ["image", "image_id", "perceptual_hash", "split"]
    rows = [
        row
        for book in crop_sets
        for row in book.read("pictures", columns).to_pylist()
        if row["image_id"] is not None
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
