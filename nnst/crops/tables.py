"""Crops and annotated pictures as rows of a crop set, and a crop set as crops again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from nnst import images, records
from nnst.ledger import Ledger
from nnst.records import Annotation, Crop


def crop_row(image: str, crop: Crop, split: str) -> dict[str, Any]:
    """A row of records.CROPS."""
    return {
        "image": image,
        "image_id": crop.image_id,
        "label": crop.label,
        "origin": crop.origin,
        "split": split,
        "box": crop.box,
        "box_in_crop": crop.box_in_crop,
        "pixels": images.encode_png(crop.pixels),
    }


def picture_row(image: str, truth: Annotation | None, status: str, **facts: Any) -> dict[str, Any]:
    """A row of records.PICTURES; columns that are not given are null."""
    return {
        **dict.fromkeys(records.PICTURES.names),
        "image": image,
        "status": status,
        "boxes": truth.boxes.tolist() if truth else [],
        "labels": list(truth.labels) if truth else [],
        "ignore": truth.ignore.tolist() if truth else [],
        "difficult": truth.difficult.tolist() if truth else [],
        **facts,
    }


def read_crops(book: Ledger, split: str, without: Collection[str] = ()) -> list[Crop]:
    """The crops of one side of the split, less those of the pictures with these content hashes."""
    return [
        _crop(row)
        for part in book.parts("crops")
        for row in _rows(part)
        if row["split"] == split and row["image_id"] not in without
    ]


def read_truth(book: Ledger) -> list[tuple[str, Annotation]]:
    """(split, annotation) of every picture of a crop set that could be used."""
    columns = [name for name in records.PICTURES.names if name != "bytes"]
    return [
        (row["split"], _annotation(row))
        for part in book.parts("pictures", columns)
        for row in _rows(part)
        if row["status"] == records.OK
    ]


def _rows(part: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in part.to_batches():
        yield from batch.to_pylist()


def _crop(row: dict[str, Any]) -> Crop:
    pixels = images.decode(row["pixels"]).pixels
    box, inside = np.array(row["box"]), np.array(row["box_in_crop"])
    return Crop(pixels, row["label"], row["origin"], row["image_id"], box, inside)


def _annotation(row: dict[str, Any]) -> Annotation:
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
    ignore, difficult = np.array(row["ignore"], bool), np.array(row["difficult"], bool)
    return Annotation(row["image"], row["image_id"], boxes, row["labels"], ignore, difficult)
