"""A scan beside its truth: which pictures there are to judge, and which the model has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nnst import formats, images, records, storage
from nnst.errors import ImageError, InputError
from nnst.ledger import Ledger
from nnst.records import Annotation

if TYPE_CHECKING:
    from nnst.evaluation import JudgedPicture


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth's pictures, known by content where they can be opened."""

    path: str
    annotations: tuple[Annotation, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Every picture of a scan beside its truth."""

    pictures: tuple[JudgedPicture, ...]
    image_ids: tuple[str | None, ...]  # of the same pictures
    not_scanned: int  # pictures of the truth that the scan does not hold

    def unseen(self, trained_on: set[str]) -> tuple[JudgedPicture, ...]:
        """The pictures whose content is not among what was trained on."""
        pairs = zip(self.pictures, self.image_ids, strict=True)
        return tuple(picture for picture, image_id in pairs if image_id not in trained_on)

    def unseen_digest(self, trained_on: set[str], unlisted_count: bool) -> tuple[str, bool]:
        """Which pictures count that were not trained on, as one digest; and whether all are such.

        Two models with the same digest here can be compared on these pictures.
        """
        counted = [
            image_id or picture.image
            for picture, image_id in zip(self.pictures, self.image_ids, strict=True)
            if picture.truth is not None or unlisted_count
        ]
        unseen = sorted(known for known in counted if known not in trained_on)
        return storage.sha256("\n".join(unseen).encode()), len(unseen) == len(counted)


def read_truth(path: str, pictures: str = "", boxes_upright: bool = False) -> Truth:
    """The truth's annotations, in whatever format; a picture that can be opened gets its content's
    hash. `pictures` and `boxes_upright` are as in `formats.Reading`."""
    dataset = formats.read(path, formats.Reading(pictures, boxes_upright=boxes_upright))
    if not dataset.pictures:
        raise InputError(f"{path} lists no picture", "give the truth of the scanned pictures")
    found = [
        replace(formats.annotation(picture), image_id=_content(dataset, picture))
        for picture in dataset.pictures
    ]
    return Truth(path, tuple(found), formats.sha256(path))


def _content(dataset: formats.MarkedSet, picture: formats.MarkedPicture) -> str:
    try:
        return images.content_hash(dataset.resolve(picture).read_bytes())
    except (ImageError, OSError):
        return ""  # met by its name


def judged(book: Ledger, truth: Truth) -> Judged:
    """Every picture of the scan, met with the truth by content or by name."""
    from nnst import evaluation

    rows = book.read("images", ["image", "image_id"]).to_pylist()
    named = [(row["image"], row["image_id"] or "") for row in rows]
    listed = [(item.image, item.image_id) for item in truth.annotations]
    pairing = evaluation.meet(named, listed, book.out, truth.path)
    annotations = [None if i is None else truth.annotations[i] for i in pairing.truth_of]
    image_ids = tuple(row["image_id"] for row in rows)
    return Judged(pictures_of(book, annotations), image_ids, len(pairing.unscanned))


def pictures_of(
    book: Ledger, annotations: Sequence[Annotation | None]
) -> tuple[JudgedPicture, ...]:
    """What the scan found in each of its pictures, beside the truth of each."""
    from nnst.evaluation import JudgedPicture

    scanned = book.read("images", ["image", "status", "width", "height"]).to_pylist()
    detections = _by_image(book.read("detections"))
    nothing = records.DETECTIONS.empty_table()
    pictures = []
    for row, annotation in zip(scanned, annotations, strict=True):
        mine = detections.get(row["image"], nothing)
        corners = [mine[name].to_numpy() for name in ("x0", "y0", "x1", "y1")]
        pictures.append(
            JudgedPicture(
                image=row["image"],
                boxes=np.stack(corners, axis=1),
                scores=mine["score"].to_numpy(),
                labels=np.array(mine["label"].to_pylist(), np.str_),
                truth=annotation,
                readable=row["status"] == records.OK,
                megapixels=(row["width"] or 0) * (row["height"] or 0) / 1e6,
            )
        )
    return tuple(pictures)


def _by_image(detections: pa.Table) -> dict[str, pa.Table]:
    """The rows of each picture; a picture's rows stand together."""
    names = detections["image"].to_pylist()
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    ends = [*starts[1:], len(names)]
    return {
        names[start]: detections.slice(start, end - start)
        for start, end in zip(starts, ends, strict=True)
    }


def trained_on(model: str) -> set[str]:
    """Content hashes of the pictures that a model was trained on, as far as is known."""
    from nnst import models
    from workflows import tracking

    try:
        provenance = models.load(tracking.resolve(model).folder).provenance
    except InputError:
        return set()  # the model has gone since
    return set(provenance.get("trained_on", ()))


def model_of(book: Ledger) -> str:
    """The model of a scan as a person names it: NAME/VERSION, or its folder."""
    model = book.plan["identity"]["model"]
    return f"{model['name']}/{model['version']}" if model["version"] else str(model["name"])
