"""COCO: one JSON file. A `bbox` is x, y, width, height from the picture's left upper corner, with
fractions; so the box is x to x + width here.

A box to ignore is `iscrowd`, as COCO's own evaluation sets such regions aside; difficult, truncated
and occluded are among `attributes`, where CVAT has them. https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnst.errors import InputError
from nnst.formats import checking
from nnst.formats.truth import DETAILS, Mark, MarkedPicture, MarkedSet

MAX_BYTES = 512 * 2**20
_FLAGS = ("difficult", "truncated", "occluded")
_KNOWN = {*_FLAGS, *DETAILS}


def read(path: Path, pictures: str, allow_outside: bool) -> MarkedSet:
    """The set in a COCO file. Raises InputError with the entry that is at fault.

    Pictures are looked for beside the file, in images and in folders named like its split.
    """
    document = _document(path)
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    reader = _Reader(path, document)
    found = reader.pictures()
    names = [picture.file for picture in found]
    split = path.stem.rpartition("_")[2]  # train2017 of instances_train2017.json
    here, above = path.parent, path.parent.parent
    places = (here, here / "images", above / "images", above / split, above)
    return MarkedSet(
        pictures=found,
        path=path,
        folder=checking.pictures_folder(names, pictures, places, allow_outside),
        labels=tuple(dict.fromkeys(reader.labels.values())),
        name=str(info.get("description") or ""),
        comment=str(info.get("comment") or ""),
        allow_outside=allow_outside,
        lost=+reader.lost,
    )


def _document(path: Path) -> dict[str, Any]:
    text = checking.text(checking.read_bytes(path, MAX_BYTES), path)

    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no JSON")

    try:
        document = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise InputError(f"{path} is nested too deeply", "it is no COCO file") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", "write or copy it again") from None
    if isinstance(document, list):
        what = f"{path} is a list of results without pictures"
        raise InputError(what, "give the file that lists the pictures too")
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise InputError(f"{path} has no list of images", "give a COCO file")
    return document


class _Reader:
    """Entries -> records; it counts what these have no place for."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self.path = path
        self.document = document
        self.lost: Counter[str] = Counter()
        self.labels: dict[Any, str] = {
            self.key(entry, "id", where): checking.label(self.field(entry, "name", where), where)
            for entry, where in self.entries("categories")
        }

    def entries(self, name: str) -> list[tuple[Mapping[str, Any], str]]:
        """The entries of a list, each with its place."""
        found = self.document.get(name) or []
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise checking.fault(self.path, f"{name} is not a list of entries")
        return [(each, f"{self.path}, {name}[{index}]") for index, each in enumerate(found)]

    def field(self, entry: Mapping[str, Any], name: str, where: str) -> Any:
        if entry.get(name) is None:
            raise checking.fault(where, f"no {name}")
        return entry[name]

    def key(self, entry: Mapping[str, Any], name: str, where: str) -> Any:
        value = self.field(entry, name, where)
        if not isinstance(value, int | str):
            raise checking.fault(where, f"{name} is neither a number nor text")
        return value

    def pictures(self) -> tuple[MarkedPicture, ...]:
        listed: dict[Any, MarkedPicture] = {}
        for entry, where in self.entries("images"):
            key = self.key(entry, "id", where)
            if key in listed:
                raise checking.fault(where, f"the id {str(key)[:40]!r} for a second time")
            name = checking.picture_name(entry.get("file_name"), where)
            width, height = (checking.side(entry.get(side)) for side in ("width", "height"))
            listed[key] = MarkedPicture(name, (), width, height)
        names = Counter(picture.file for picture in listed.values())
        if twice := [name for name, count in names.items() if count > 1]:
            raise checking.fault(self.path, f"{twice[0][:200]!r} is listed twice")
        marks: dict[Any, list[Mark]] = {key: [] for key in listed}
        for entry, where in self.entries("annotations"):
            key = self.key(entry, "image_id", where)
            if key not in marks:
                raise checking.fault(where, f"no image has the id {str(key)[:40]!r}")
            if (mark := self.mark(entry, where)) is not None:
                marks[key].append(mark)
        return tuple(
            MarkedPicture(picture.file, tuple(marks[key]), picture.width, picture.height)
            for key, picture in listed.items()
        )

    def mark(self, entry: Mapping[str, Any], where: str) -> Mark | None:
        sides = self.field(entry, "bbox", where)
        if not isinstance(sides, list) or len(sides) != 4:
            raise checking.fault(where, "bbox is not x, y, width and height")
        x, y, width, height = (checking.number(value, where) for value in sides)
        self.lost["outline"] += bool(entry.get("segmentation")) and not entry.get("iscrowd")
        self.lost["keypoints"] += bool(entry.get("keypoints"))
        x1, y1 = _plus(x, width), _plus(y, height)
        if x1 <= x or y1 <= y:
            self.lost["empty_box"] += 1
            return None
        category = self.key(entry, "category_id", where)
        if category not in self.labels:
            raise checking.fault(where, f"no category has the id {str(category)[:40]!r}")
        kept = entry.get("attributes")
        kept = kept if isinstance(kept, Mapping) else {}
        self.lost["attribute"] += len(kept.keys() - _KNOWN)
        score = entry.get("score")
        return Mark(
            x,
            y,
            x1,
            y1,
            label=self.labels[category],
            ignore=bool(entry.get("iscrowd") or entry.get("ignore")),
            score=None if score is None else float(checking.number(score, where)),
            details=checking.details(kept, where),
            **{flag: kept.get(flag) in (True, 1, "1", "true", "True") for flag in _FLAGS},
        )


def rounded(value: float) -> float:
    """To a millionth of a pixel: less than that is the noise of adding and subtracting."""
    found = math.floor(value * 1e6 + 0.5) / 1e6
    return int(found) if found.is_integer() else found


def _plus(start: float, length: float) -> float:
    return rounded(start + length)


def encode(truth: MarkedSet) -> dict[str, Any]:
    """The document for a set that fits; entries are numbered from 1, as COCO's evaluation wants."""
    labels = {label: number for number, label in enumerate(truth.every_label(), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(truth.pictures, 1):
        sizes = {"width": picture.width, "height": picture.height} if picture.width else {}
        name = checking.inner_path(picture.file, truth.path)
        images.append({"id": number, "file_name": name, **sizes})
        for mark in picture.marks:
            assert mark.label is not None
            numbers = {"id": len(annotations) + 1, "image_id": number}
            annotations.append({**numbers, "category_id": labels[mark.label], **_entry(mark)})
    return {
        "info": {"description": truth.name, "comment": truth.comment},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in labels.items()],
    }


def _entry(mark: Mark) -> dict[str, Any]:
    """A box without its numbers."""
    x, y = rounded(mark.x0), rounded(mark.y0)
    width, height = rounded(mark.x1 - mark.x0), rounded(mark.y1 - mark.y0)
    entry: dict[str, Any] = {
        "bbox": [x, y, width, height],
        "area": rounded(width * height),
        "iscrowd": int(mark.ignore),
    }
    if mark.score is not None:
        entry["score"] = int(mark.score) if mark.score.is_integer() else mark.score
    kept = {flag: True for flag in _FLAGS if getattr(mark, flag)} | dict(mark.details)
    return entry | ({"attributes": kept} if kept else {})
