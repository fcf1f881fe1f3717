"""What a format cannot hold: told before it is written, and counted.

    format   fractions  overhang  no label  flags              score  details  name  unused labels
    imglab   no         yes       yes       all                yes    yes      yes   no
    voc      no         no        no        all, see `voc`     yes    yes      no    no
    coco     yes        yes       no        all, see `coco`    yes    yes      yes   yes
    yolo     yes        no        no        none               no     no       no    yes

Score, details and some flags have a place in VOC's and COCO's `attributes`, where CVAT keeps its
own; other programs pass over them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nnst.formats.truth import FLAGS, Mark, MarkedPicture, MarkedSet
from nnst.imglab.truth import UNLABELLED

LOST: Mapping[str, str] = {
    "fraction": "boxes moved onto whole pixels",
    "overhang": "boxes cut where they overhang their picture",
    "outside": "boxes left out that lie outside their picture",
    "ignored": "boxes left out that were to be ignored",
    "unlabelled": f"boxes without a label that are called {UNLABELLED!r} now",
    "difficult": "boxes no longer marked as difficult",
    "truncated": "boxes no longer marked as truncated",
    "occluded": "boxes no longer marked as occluded",
    "score": "boxes without their score",
    "details": "boxes without their angle, pose, age, gender or parts",
    "name": "the set's name and comment",
    "unused_label": "labels left out that no box has",
    "empty_box": "boxes left out that hold no pixel",
    "outline": "outlines replaced by the boxes around them",
    "keypoints": "boxes without their key points",
    "attribute": "other attributes of boxes",
    "pose": "boxes without their pose in words",
    "part": "parts of objects with boxes of their own",
    "no_size": "pictures left out whose size cannot be read",
    "no_picture": "label files left out whose picture is not there",
}


@dataclass(frozen=True, slots=True)
class Holds:
    """What a format can hold."""

    fractions: bool
    overhang: bool
    unlabelled: bool
    flags: tuple[str, ...]
    score: bool
    details: bool
    name: bool
    unused_labels: bool


HOLDS: Mapping[str, Holds] = {
    "imglab": Holds(False, True, True, FLAGS, True, True, True, False),
    "voc": Holds(False, False, False, FLAGS, True, True, False, False),
    "coco": Holds(True, True, False, FLAGS, True, True, True, True),
    "yolo": Holds(True, False, False, (), False, False, False, True),
}


def fit(truth: MarkedSet, form: str) -> MarkedSet:
    """The set as the format can hold it; `lost` counts what it cannot, beside what was lost."""
    holds, lost = HOLDS[form], Counter(truth.lost)
    pictures = tuple(_fit_picture(picture, holds, lost) for picture in truth.pictures)
    fitted = replace(truth, pictures=pictures)
    if not holds.name and (truth.name or truth.comment):
        lost["name"] += 1
        fitted = replace(fitted, name="", comment="")
    if not holds.unused_labels:
        drawn = {mark.label for picture in pictures for mark in picture.marks}
        used = tuple(label for label in truth.labels if label in drawn)
        lost["unused_label"] += len(truth.labels) - len(used)
        fitted = replace(fitted, labels=used)
    return replace(fitted, lost=+lost)


def _fit_picture(picture: MarkedPicture, holds: Holds, lost: Counter[str]) -> MarkedPicture:
    fitted = (_fit_mark(mark, picture, holds, lost) for mark in picture.marks)
    return replace(picture, marks=tuple(mark for mark in fitted if mark is not None))


def _fit_mark(mark: Mark, picture: MarkedPicture, holds: Holds, lost: Counter[str]) -> Mark | None:
    if mark.ignore and "ignore" not in holds.flags:
        lost["ignored"] += 1
        return None
    whole = mark if holds.fractions else _on_pixels(mark, lost)
    placed = whole if holds.overhang else _within(whole, picture, lost)
    if placed is None:
        return None
    if placed.label is None and not holds.unlabelled:
        lost["unlabelled"] += 1
        placed = replace(placed, label=UNLABELLED)
    return _without(placed, holds, lost)


def _on_pixels(mark: Mark, lost: Counter[str]) -> Mark:
    """The box on the nearest whole pixels, one at least on each side."""
    x0, y0, x1, y1 = (nearest(value) for value in (mark.x0, mark.y0, mark.x1, mark.y1))
    moved = replace(mark, x0=x0, y0=y0, x1=max(x1, x0 + 1), y1=max(y1, y0 + 1))
    lost["fraction"] += moved != mark
    return moved


def nearest(value: float) -> int:
    """The nearest whole number; of two, the greater, as the report page has it too."""
    return math.floor(value + 0.5)


def _within(mark: Mark, picture: MarkedPicture, lost: Counter[str]) -> Mark | None:
    """The box cut to its picture; None where nothing of it is left."""
    if picture.width is None or picture.height is None:
        return mark
    x0, x1 = max(mark.x0, 0), min(mark.x1, picture.width)
    y0, y1 = max(mark.y0, 0), min(mark.y1, picture.height)
    if x1 <= x0 or y1 <= y0:
        lost["outside"] += 1
        return None
    cut = replace(mark, x0=x0, y0=y0, x1=x1, y1=y1)
    lost["overhang"] += cut != mark
    return cut


def _without(mark: Mark, holds: Holds, lost: Counter[str]) -> Mark:
    """The box without the flags, score and details that the format has no place for."""
    gone: dict[str, Any] = {
        flag: False for flag in FLAGS if flag not in holds.flags and getattr(mark, flag)
    }
    lost.update(gone.keys())
    mark = replace(mark, **gone)
    if mark.score is not None and not holds.score:
        lost["score"] += 1
        mark = replace(mark, score=None)
    if mark.details and not holds.details:
        lost["details"] += 1
        mark = replace(mark, details={})
    return mark


def lines(lost: Mapping[str, int]) -> list[str]:
    """What was lost, a line a kind: `lost: boxes moved onto whole pixels: 12`."""
    return [f"lost: {text}: {lost[kind]:,}" for kind, text in LOST.items() if lost.get(kind)]
