"""Another scan of the same pictures, shown beside the first: A | B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst.errors import InputError
from nnst.ledger import Ledger
from nnst.records import OK
from nnst.report.listing import NUMBERS, Box, Listed, short

Key = str  # a picture's content; pictures of the two scans meet by it


class Beside:
    """The other scan, at its own model's threshold."""

    def __init__(self, ledger: Ledger) -> None:
        model = ledger.plan["identity"]["model"]
        version = f"/{model['version']}" if model["version"] else ""
        self.ledger = ledger
        self.model = f"{model['name']}{version}"
        self.threshold = float(model["threshold"])
        self.best, self.pictures = self._best()

    def _best(self) -> tuple[Mapping[Key, float], pa.Array]:
        """The best score of each picture that reaches the threshold; all contents looked at."""
        found: dict[Key, float] = {}
        ids: list[pa.ChunkedArray] = []
        for part in self.ledger.parts("images", ["image_id", "score", "status"]):
            part = part.filter(pc.equal(part["status"], OK))
            ids.append(part["image_id"])
            reaching = part.filter(
                pc.greater_equal(part["score"], pa.scalar(np.float32(self.threshold), pa.float32()))
            )
            columns = reaching["image_id"].to_pylist(), reaching["score"].to_pylist()
            found |= dict(zip(*columns, strict=True))
        chunks = [chunk for column in ids for chunk in column.chunks]
        return found, pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())

    def put_into(self, listed: Sequence[Listed], limit: int) -> list[Listed]:
        """The pictures with this scan's best detections beside, None where it did not look at one.

        Raises InputError when it has none of them.
        """
        ids = pa.array([picture.image_id for picture in listed], pa.string())
        known = pc.is_in(ids, value_set=self.pictures.drop_null()).to_pylist()
        if listed and not any(known):
            what = f"{self.ledger.out} has no picture of the scan that it is to stand beside"
            raise InputError(what, "give a scan of the same pictures")
        found = self._boxes(ids.drop_null())
        return [
            replace(each, beside=_best_of(found.get(each.image_id or "", {}), each.image, limit))
            if there
            else each
            for each, there in zip(listed, known, strict=True)
        ]

    def _boxes(self, ids: pa.Array) -> Mapping[Key, Mapping[str, list[Box]]]:
        """The detections of these pictures in stored pixels, of each copy by its name."""
        found: dict[Key, dict[str, list[Box]]] = {}
        for part in self.ledger.parts("detections"):
            part = part.filter(pc.is_in(part["image_id"], value_set=ids))
            numbers = np.stack([part[name].to_numpy() for name in NUMBERS], axis=1)  # (N, 5)
            words = (part[name].to_pylist() for name in ("image_id", "image", "label"))
            for row, image_id, image, label in zip(numbers, *words, strict=True):
                names = found.setdefault(image_id, {})
                names.setdefault(image, []).append((*short(row), label))
        return found

    def to_dict(self) -> dict[str, Any]:
        """What the page says of it."""
        return {
            "scan": self.ledger.out,
            "model": self.model,
            "run_id": self.ledger.notes.get("run_id") or "",
            "threshold": self.threshold,
            "found": len(self.best),
        }


def _best_of(copies: Mapping[str, list[Box]], image: str, limit: int) -> list[Box]:
    """The best detections of the copy of that name, else of the first."""
    boxes = copies.get(image) or next(iter(copies.values()), [])
    return sorted(boxes, key=lambda box: -box[4])[:limit]
