"""What is marked on pictures, whatever the format: the types that all doors share.

Boxes are xyxy, half-open, in pixels of the stored picture, as everywhere in nnst; as Python's own
floats, for a door must not lose what another one has.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnst import imglab
from nnst.imglab.truth import UNLABELLED
from nnst.records import Annotation

FLAGS = ("ignore", "difficult", "truncated", "occluded")
DETAILS = ("angle", "pose", "age", "gender", "parts")  # what imglab knows of a box beside these
NUMBERS = ("angle", "pose", "age")
_ONE_LINE = re.compile(r"[\t\n\r]+")  # imglab's labels may have lines, those of others none


@dataclass(frozen=True, slots=True)
class Mark:
    """One box: `details` are what only imglab has a name for, as JSON would hold them."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str | None = None
    ignore: bool = False  # neither an example nor background
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    score: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # keys of DETAILS

    def __post_init__(self) -> None:
        corners = self.x0, self.y0, self.x1, self.y1
        if not all(math.isfinite(value) for value in corners):
            raise ValueError(f"a box has the corners {corners}, which must be finite")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError(f"a box has the corners {corners}, and so no pixel")
        object.__setattr__(self, "label", _ONE_LINE.sub(" ", self.label or "").strip() or None)


@dataclass(frozen=True, slots=True)
class MarkedPicture:
    """A picture and its boxes. Without boxes: somebody looked, and nothing is there."""

    file: str  # relative to the set's folder
    marks: tuple[Mark, ...] = ()
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class MarkedSet:
    """The content of one file or folder of annotations; `labels` are all that it declares.

    `lost` counts what the file holds and this type does not, by the words of `losses.LOST`.
    """

    pictures: tuple[MarkedPicture, ...]
    path: Path  # what was read
    folder: Path  # that the pictures' names are relative to
    labels: tuple[str, ...] = ()
    name: str = ""
    comment: str = ""
    allow_outside: bool = False
    warnings: tuple[str, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)

    def resolve(self, picture: MarkedPicture) -> Path:
        """Where the picture lies. Raises ImageError: `unsafe_path` or `missing`."""
        return imglab.picture_path(self.folder, picture.file, allow_outside=self.allow_outside)

    def rooted(self) -> MarkedSet:
        """The set with names relative to one folder that holds all pictures: some formats know
        no way up. Only where names may lead out of the folder."""
        paths = [os.path.abspath(os.path.join(self.folder, each.file)) for each in self.pictures]
        folder = os.path.abspath(self.folder)
        if not self.allow_outside or all(Path(path).is_relative_to(folder) for path in paths):
            return self
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
        pictures = tuple(
            replace(picture, file=name) for picture, name in zip(self.pictures, names, strict=True)
        )
        return replace(self, pictures=pictures, folder=Path(root))

    def every_label(self) -> tuple[str, ...]:
        """The declared labels in their order, then those of boxes alone, sorted."""
        drawn = {mark.label for picture in self.pictures for mark in picture.marks if mark.label}
        return (*self.labels, *sorted(drawn - set(self.labels)))


def annotation(picture: MarkedPicture) -> Annotation:
    """The picture's boxes as truth, float32; `image_id` stays empty."""
    marks = picture.marks
    return Annotation(
        image=picture.file,
        image_id="",
        boxes=np.array([(m.x0, m.y0, m.x1, m.y1) for m in marks], dtype=np.float32),
        labels=tuple(mark.label or UNLABELLED for mark in marks),
        ignore=np.array([mark.ignore for mark in marks], dtype=bool),
        difficult=np.array([mark.difficult for mark in marks], dtype=bool),
    )
