"""What only the pictures themselves know: their sizes, and how EXIF turns them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nnst import images, storage
from nnst.errors import ImageError, InputError
from nnst.formats.truth import Mark, MarkedPicture, MarkedSet

_HEAD_BYTES = 1 << 18  # enough for nearly every header

Size = tuple[int, int]  # width, height


class _Turn(NamedTuple):
    """How a picture lies: its stored size, and EXIF's orientation."""

    hw: tuple[int, int]
    orientation: int
    to_upright: bool

    def marks(self, marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
        return tuple(map(self.mark, marks))

    def mark(self, mark: Mark) -> Mark:
        """The box and its parts turned. An angle is that of the unturned picture, and goes."""
        x0, y0, x1, y1 = self.box((mark.x0, mark.y0, mark.x1, mark.y1))
        details = {key: value for key, value in mark.details.items() if key != "angle"}
        if parts := details.get("parts"):
            points = {name: self.box((x, y, x + 1, y + 1))[:2] for name, (x, y) in parts.items()}
            details["parts"] = {name: [round(x), round(y)] for name, (x, y) in points.items()}
        return replace(mark, x0=x0, y0=y0, x1=x1, y1=y1, details=details)

    def box(self, corners: tuple[float, float, float, float]) -> tuple[float, ...]:
        turn = images.boxes_upright if self.to_upright else images.boxes_stored
        boxes = turn(np.array([corners], np.float32), self.hw, self.orientation)
        return tuple(float(str(value)) for value in boxes[0])


def size_of(truth: MarkedSet, picture: MarkedPicture) -> Size | None:
    """Width and height of a picture as it is stored; None when it cannot be opened."""
    header = _header(truth, picture)
    return None if header is None else (header.width, header.height)


def upright_size_of(truth: MarkedSet, picture: MarkedPicture) -> Size | None:
    """Width and height of a picture as a person sees it; None when it cannot be opened."""
    header = _header(truth, picture)
    if header is None:
        return None
    height, width = images.upright_hw((header.height, header.width), header.orientation)
    return width, height


def with_sizes(truth: MarkedSet) -> MarkedSet:
    """The set with the size of every picture. Raises InputError when one is not to be known."""
    sizes = [
        (picture.width, picture.height) if picture.width else size_of(truth, picture)
        for picture in truth.pictures
    ]
    if unknown := [p.file for p, size in zip(truth.pictures, sizes, strict=True) if size is None]:
        what = f"{truth.path}: the sizes of {len(unknown)} pictures are not known"
        remedy = (
            f"put {unknown[0][:200]!r} into {truth.folder}, or say where it is: --set pictures=DIR"
        )
        raise InputError(what, remedy)
    pictures = tuple(
        replace(picture, width=size[0], height=size[1])
        for picture, size in zip(truth.pictures, sizes, strict=True)
        if size is not None
    )
    return replace(truth, pictures=pictures)


def to_stored(truth: MarkedSet) -> MarkedSet:
    """A set whose boxes are those of upright pictures as one of stored pixels."""
    return _turned(truth, to_upright=False)


def to_upright(truth: MarkedSet) -> MarkedSet:
    """A set of stored pixels as other programs see it, which turn pictures as EXIF says."""
    return _turned(truth, to_upright=True)


def _turned(truth: MarkedSet, to_upright: bool) -> MarkedSet:
    """The set turned. Raises InputError when a picture cannot be asked how it lies."""
    pictures, angles = [], 0
    for picture in truth.pictures:
        header = _header(truth, picture)
        if header is None:
            what = f"{truth.path}: {picture.file[:200]!r} cannot be opened, so how it lies"
            remedy = f"put it into {truth.folder}, or say where it is: --set pictures=DIR"
            raise InputError(f"{what} is not known", remedy)
        if header.orientation == 1:
            pictures.append(picture)
            continue
        hw = header.height, header.width
        turn = _Turn(hw, header.orientation, to_upright)
        height, width = images.upright_hw(hw, header.orientation) if to_upright else hw
        angles += sum("angle" in mark.details for mark in picture.marks)
        marks = turn.marks(picture.marks)
        pictures.append(MarkedPicture(picture.file, marks, width, height))
    lost = dict(truth.lost) | ({"details": truth.lost.get("details", 0) + angles} if angles else {})
    return replace(truth, pictures=tuple(pictures), lost=lost)


def _header(truth: MarkedSet, picture: MarkedPicture) -> images.Header | None:
    """What the picture's first bytes say of it; None when it cannot be opened."""
    try:
        path = truth.resolve(picture)
        try:
            return images.read_header(storage.read(path, _HEAD_BYTES))
        except ImageError:  # a longer head
            return images.read_header(storage.read(path))
    except (ImageError, OSError):
        return None
