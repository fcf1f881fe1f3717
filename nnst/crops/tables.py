"""Crops and annotated pictures as rows of a crop set, and a crop set as crops again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
        "pixels": images.encode_bmp(crop.pixels),
    }


def to_tables(
    picture_rows: Sequence[dict[str, Any]], crop_rows: Sequence[dict[str, Any]]
) -> dict[str, pa.Table]:
    """The tables of a crop set, by name."""
    return {
        "pictures": pa.Table.from_pylist(picture_rows, schema=records.PICTURES),
        "crops": pa.Table.from_pylist(crop_rows, schema=records.CROPS),
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


def read_crops(book: Ledger, without: Collection[str] = ()) -> list[tuple[str, Crop]]:
    """(split, crop) of every crop, less those of the pictures with these content hashes."""
    return [
        found
        for part in book.parts("crops")
        for batch in part.to_batches()
        for found in _crops(batch, without)
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


def read_sides(book: Ledger) -> list[tuple[str, int, str]]:
    """(image_id, perceptual hash, split) of every picture of a crop set that could be used."""
    columns = ["image_id", "perceptual_hash", "split", "status"]
    return [
        (row["image_id"], int(row["perceptual_hash"], 16), row["split"])
        for part in book.parts("pictures", columns)
        for row in _rows(part)
        if row["status"] == records.OK
    ]


def _rows(part: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in part.to_batches():
        yield from batch.to_pylist()


def _crops(batch: pa.RecordBatch, without: Collection[str]) -> Iterator[tuple[str, Crop]]:
    names = ("image_id", "label", "origin", "split")
    texts = zip(*(batch[name].to_pylist() for name in names), strict=True)
    # Flattened by pyarrow: a list for each box would take longer to make than its crop.
    boxes, inside = (
        batch[name].flatten().to_numpy().reshape(-1, 4) for name in ("box", "box_in_crop")
    )
    for row, (image_id, label, origin, split) in enumerate(texts):
        if image_id not in without:
            pixels = images.decode(batch["pixels"][row].as_py()).pixels
            yield split, Crop(pixels, label, origin, image_id, boxes[row], inside[row])


def _annotation(row: dict[str, Any]) -> Annotation:
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
    ignore, difficult = np.array(row["ignore"], bool), np.array(row["difficult"], bool)
    return Annotation(row["image"], row["image_id"], boxes, row["labels"], ignore, difficult)
