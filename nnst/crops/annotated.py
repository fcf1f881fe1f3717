"""The pictures that truth files list, planned as inputs, each with its annotation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from nnst import formats, images, records, storage
from nnst.errors import ImageError, InputError
from nnst.formats import MarkedPicture, MarkedSet, Reading
from nnst.records import Annotation

HEADER_BYTES = 1 << 18  # of a file: enough for the EXIF of a JPEG, which stands in front


@dataclass(frozen=True, slots=True)
class AnnotatedPictures:
    """Pictures with truth. `inputs` (records.INPUTS) are relative to `source`."""

    source: str
    inputs: pa.Table
    truth: Mapping[str, Annotation]  # by the input's `image`, which is the annotation's too
    turned: frozenset[str]  # images that EXIF turns by a quarter, as far as their heads tell
    warnings: tuple[str, ...]


def plan(
    paths: Sequence[str],
    allow_outside: bool,
    shard_images: int,
    pictures: str = "",
    boxes_upright: bool = False,
) -> AnnotatedPictures:
    """Every picture that the truth files list; one that cannot be opened has a reason.

    `pictures`, `allow_outside` and `boxes_upright` are as in `formats.Reading`. Raises InputError
    when no picture is listed or none can be opened, and when one is listed twice.
    """
    reading = Reading(pictures, allow_outside, boxes_upright)
    datasets = [formats.read(path, reading) for path in paths]
    folders = [storage.absolute(dataset.folder) for dataset in datasets]
    source = os.path.commonpath(folders)
    truth: dict[str, Annotation] = {}
    rows: list[dict[str, Any]] = []
    for dataset, folder in zip(datasets, folders, strict=True):
        for image in dataset.pictures:
            row = _row(source, folder, dataset, image)
            if row["image"] in truth:
                what = f"{row['image']} is listed twice, in {dataset.path} for the second time"
                raise InputError(what, "put its boxes into one entry")
            truth[row["image"]] = replace(formats.annotation(image), image=row["image"])
            rows.append(row | {"shard": len(rows) // shard_images})
    _check(", ".join(map(str, paths)), rows)
    warnings = tuple(warning for dataset in datasets for warning in dataset.warnings)
    inputs = pa.Table.from_pylist(rows, schema=records.INPUTS)
    return AnnotatedPictures(source, inputs, truth, _turned(source, rows), warnings)


def _row(source: str, folder: str, dataset: MarkedSet, image: MarkedPicture) -> dict[str, Any]:
    name = _relative(os.path.join(folder, image.file), source)
    row: dict[str, Any] = {"image": name, "container": name, "offset": -1, "bytes": 0, "stamp": ""}
    try:
        path = os.path.abspath(dataset.resolve(image))
        state = os.stat(path)
    except ImageError as error:
        return row | {"reason": error.reason}
    except OSError:
        return row | {"reason": "unreadable"}
    where = {"container": _relative(path, source), "bytes": state.st_size}
    return row | where | {"stamp": str(state.st_mtime_ns), "reason": None}


def _turned(source: str, rows: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    found = set()
    for row in rows:
        if row["reason"] is not None:
            continue
        try:
            head = storage.read(os.path.join(source, row["container"]), HEADER_BYTES)
            header = images.read_header(head)
        except (OSError, ImageError):
            continue  # its row and reason come when it is cut
        if images.upright_hw((0, 1), header.orientation) == (1, 0):
            found.add(row["image"])
    return frozenset(found)


def _relative(path: str, source: str) -> str:
    return os.path.relpath(path, source).replace(os.sep, "/")


def _check(names: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise when nothing could come of it."""
    if not rows:
        raise InputError(f"{names} lists no picture", "draw boxes with imglab first")
    if all(row["reason"] is not None for row in rows):
        why = f"{rows[0]['image']}: {records.REASONS[rows[0]['reason']]}"
        raise InputError(
            f"none of the {len(rows)} pictures of {names} can be opened ({why})",
            "put the pictures where the file says, relative to its own folder",
        )
