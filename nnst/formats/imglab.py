"""imglab's own XML as a door: whole pixels, right = left + width - 1, all else as it is."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from nnst import imglab
from nnst.formats import checking
from nnst.formats.truth import DETAILS, FLAGS, Mark, MarkedPicture, MarkedSet


def read(path: Path, allow_outside: bool) -> MarkedSet:
    """The data set in an imglab file. Raises InputError."""
    dataset = imglab.read(path, allow_outside=allow_outside)
    pictures = tuple(
        MarkedPicture(image.file, tuple(map(_mark, image.boxes)), image.width, image.height)
        for image in dataset.images
    )
    return MarkedSet(
        pictures=pictures,
        path=path,
        folder=path.parent,
        name=dataset.name,
        comment=dataset.comment,
        allow_outside=allow_outside,
        warnings=dataset.warnings,
        lost=Counter(),
    )


def _mark(box: imglab.Box) -> Mark:
    details = {key: value for key in DETAILS if (value := getattr(box, key)) not in (None, ())}
    if box.parts:
        details["parts"] = {part.name: [part.x, part.y] for part in box.parts}
    return Mark(
        x0=box.left,
        y0=box.top,
        x1=box.left + box.width,
        y1=box.top + box.height,
        label=box.label,
        score=box.detection_score,
        details=details,
        **{flag: getattr(box, flag) for flag in FLAGS},
    )


def write(truth: MarkedSet, path: Path) -> None:
    """Write a set that fits as imglab XML; names are made relative to the XML's folder."""
    folder, target = os.path.abspath(truth.folder), os.path.abspath(path.parent)
    images = tuple(
        imglab.Image(
            _relative(checking.picture_name(picture.file, truth.path), folder, target),
            tuple(map(_box, picture.marks)),
            picture.width,
            picture.height,
        )
        for picture in truth.pictures
    )
    imglab.write(imglab.Dataset(images, name=truth.name, comment=truth.comment), path)


def _relative(name: str, folder: str, target: str) -> str:
    if folder == target:
        return name
    return os.path.relpath(os.path.join(folder, name), target).replace(os.sep, "/")


def _box(mark: Mark) -> imglab.Box:
    details: dict[str, Any] = dict(mark.details)
    parts = details.pop("parts", {})
    return imglab.Box(
        left=round(mark.x0),
        top=round(mark.y0),
        width=round(mark.x1 - mark.x0),
        height=round(mark.y1 - mark.y0),
        label=mark.label,
        detection_score=mark.score,
        parts=tuple(imglab.Part(name, x, y) for name, (x, y) in parts.items()),
        **details,
        **{flag: getattr(mark, flag) for flag in FLAGS},
    )
