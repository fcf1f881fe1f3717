"""Rows of an earlier scan, by the content of their pictures, to be taken over by a new one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from nnst import config
from nnst.errors import InputError
from nnst.ledger import Job, Ledger

# What a picture's rows depend on beside its bytes; how pictures are sharded is none of it.
_SETTINGS = ("min_width", "levels_per_octave", "iou_threshold")
_OF_THE_DAY = ("decoder_crash", "decoder_timeout")  # another machine may do better

Row = dict[str, Any]


class EarlierScan:
    """The rows of a finished scan; millions of pictures fit in memory."""

    def __init__(self, out: str) -> None:
        book = Ledger.open(out, "scan")
        whole = book.read("images")
        kept = [
            row_id is not None and status not in _OF_THE_DAY
            for row_id, status in zip(
                whole["image_id"].to_pylist(), whole["status"].to_pylist(), strict=True
            )
        ]
        # In one piece each: a row of a thousand parts would be looked for in all of them.
        self._images = whole.filter(pa.array(kept)).combine_chunks()
        self._detections = book.read("detections").combine_chunks()
        self._image_ids, self._image_rows = _sorted(self._images)
        self._found_ids, self._found_rows = _sorted(self._detections)

    def rows(self, image_id: str, image: str, model: str) -> tuple[Row, list[Row]] | None:
        """The picture's row and its detections', under the name it has now; None if unknown."""
        places = _places(self._image_ids, image_id)
        if places.start == places.stop:
            return None
        first = int(self._image_rows[places.start])
        (row,) = self._images.slice(first, 1).to_pylist()
        # Copies of one picture have the same rows, of which those of the first name count.
        found = [
            self._detections.slice(int(index), 1).to_pylist()[0]
            for index in np.sort(self._found_rows[_places(self._found_ids, image_id)])
        ]
        return row | {"image": image}, [
            each | {"image": image, "model": model}
            for each in found
            if each["image"] == row["image"]
        ]


def earlier_scan(out: str) -> EarlierScan:
    """The scan in a folder, read once for each worker process, and anew if it is another one."""
    return _read(out, Ledger.open(out, "scan").fingerprint)


@lru_cache(maxsize=1)
def _read(out: str, fingerprint: str) -> EarlierScan:
    return EarlierScan(out)


def check_same_rows(out: str, job: Job) -> None:
    """Raise InputError, with the difference named, unless the job gives a picture the same rows."""
    book = Ledger.open(out, "scan")
    if not book.is_done():
        raise InputError(f"{out} is not finished", "run its nnst scan again")
    then, now = (_deciding(identity) for identity in (book.plan["identity"], job.identity()))
    changes = config.differences(then, now)
    if changes:
        what = f"{out} was scanned in another way ({', '.join(changes[:4])})"
        raise InputError(what, "scan as then, or without --since")


def _deciding(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "settings": {name: identity["settings"].get(name) for name in _SETTINGS},
        "model": {"digest": identity["model"].get("digest")},
        "versions": dict(identity["versions"]),
    }


def _sorted(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(N,) content hashes in order, and (N,) the rows they come from."""
    ids = np.array(table["image_id"].to_pylist(), dtype="S64")
    order = np.argsort(ids, kind="stable")
    return ids[order], order


def _places(ids: np.ndarray, image_id: str) -> slice:
    wanted = image_id.encode()
    return slice(*(int(np.searchsorted(ids, wanted, side)) for side in ("left", "right")))
