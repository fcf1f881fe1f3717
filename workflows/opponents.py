"""The two scans that a comparison is of, by their folders, runs or model versions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnst import storage
from nnst.errors import InputError
from nnst.ledger import Ledger
from workflows import pairing

_RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a finished scan."""

    book: Ledger

    @property
    def model(self) -> str:
        """The model as a person names it."""
        return pairing.model_of(self.book)


def find(a: str, b: str) -> tuple[Side, Side]:
    """The two finished scans. Raises InputError, saying what to run, where there are none."""
    scans_a, scans_b = _scans(a), _scans(b)
    for one in scans_a:
        for other in scans_b:
            if one.out != other.out and _same_inputs(one, other):
                return Side(one), Side(other)
    if len(scans_a) == len(scans_b) == 1 and scans_a[0].out != scans_b[0].out:
        return Side(scans_a[0]), Side(scans_b[0])  # pictures may have moved: meet by content
    if len(scans_a) == len(scans_b) == 1:
        raise InputError(f"{a} and {b} are the same scan", "give two scans, runs or versions")
    what = f"no archive was scanned by {a} and by {b}"
    raise InputError(what, f"run nnst scan ARCHIVE --model {a} --out SCAN, and the same for {b}")


def _same_inputs(one: Ledger, other: Ledger) -> bool:
    """Whether the two looked at the same archive, by where it is or by what was in it."""
    inputs = one.plan["identity"]["inputs"], other.plan["identity"]["inputs"]
    return one.source == other.source or inputs[0] == inputs[1]


def _scans(text: str) -> list[Ledger]:
    """The finished scans that the text may mean, the newest first."""
    if storage.exists(storage.join(storage.absolute(text), "plan.json")):
        return [_finished(storage.absolute(text))]
    if "/" in text and not re.fullmatch(r"[^/]+/\d+", text):
        return [_finished(storage.absolute(text))]  # which says what is wrong with it
    if _RUN_ID.fullmatch(text):
        return _of_run(text)
    return _of_version(text)


def _finished(out: str) -> Ledger:
    book = Ledger.open(out, "scan")
    if not book.is_done():
        raise InputError(f"{out} is not finished", "run its nnst scan again")
    return book


def _of_run(run_id: str) -> list[Ledger]:
    """The scan of a run; of a training, the scans by its model version."""
    from workflows import tracking

    tags = tracking.tags_of(run_id)
    if tags.get("verb") == "scan":
        return [_finished(tags["out"])]
    if tags.get("verb") == "evaluate":
        return [_finished(tags["scan"])]
    if version := tags.get("model_version"):
        return _of_version(version)
    raise InputError(f"run {run_id} is neither a scan nor a training", "give a scan's run")


def _of_version(text: str) -> list[Ledger]:
    """The scans of a model version whose folders are still there."""
    from workflows import tracking

    model = tracking.resolve(text)
    found = []
    for _, out in tracking.scans_by(model.name, model.digest):
        try:
            book = _finished(out)
        except InputError:
            continue  # removed, or written over since
        if book.plan["identity"]["model"]["digest"] == model.digest:
            found.append(book)
    if not found:
        remedy = f"run nnst scan ARCHIVE --model {model} --out SCAN first"
        raise InputError(f"no scan by {model} is to be found", remedy)
    return found
