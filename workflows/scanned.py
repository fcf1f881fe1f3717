"""A finished scan's detector and pictures once more, as they were when it looked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnst import archive, images, ledger
from nnst.errors import ImageError, InputError
from workflows import pairing

if TYPE_CHECKING:
    from nnst.detector import Detector


def picture_bytes(book: ledger.Ledger, row: Mapping[str, Any]) -> bytes:
    """The picture's file once more. Raises InputError when it is not what was scanned."""
    image = row["image"]
    remedy = "bring it back, or scan the archive again with --fresh"
    try:
        data = archive.read_member(book.source, book.inputs(), image)
    except ImageError as error:
        what = f"{image} of {book.source} cannot be read any more ({error})"
        raise InputError(what, remedy) from None
    if images.content_hash(data) != row["image_id"]:
        raise InputError(f"{image} of {book.source} has changed since the scan", remedy)
    return data


def detector_of(book: ledger.Ledger) -> tuple[Detector, dict[str, Any]]:
    """The scan's detector, telling of every score, and what is known of its model."""
    from nnst import models
    from nnst.detector import DetectorSettings, load_detector
    from workflows import tracking

    recorded, chosen = book.plan["identity"]["model"], book.plan["identity"]["settings"]
    found = tracking.resolve(pairing.model_of(book))
    if found.digest != recorded["digest"]:
        what = f"the model {found} has changed since the scan {book.out}"
        remedy = "bring back the one it was scanned with, or scan again with --fresh"
        raise InputError(what, remedy)
    names = ("min_width", "levels_per_octave", "iou_threshold")
    looks = DetectorSettings(min_score=0.0, **{name: chosen[name] for name in names})
    detector = load_detector(found.folder, found.digest, looks)
    told = models.load(found.folder).provenance
    facts = {
        "name": str(found),
        "digest": found.digest,
        "threshold": recorded["threshold"],
        "run_id": found.run_id or told.get("run_id") or "",
        "architecture": detector.spec.architecture,
        "code_commit": told.get("code_commit"),
    }
    return detector, facts
