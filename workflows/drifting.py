"""A scan beside the model's validation pictures and the scan before: do scores and sizes part?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import storage
from nnst.errors import InputError
from nnst.ledger import Ledger

if TYPE_CHECKING:
    from nnst.evaluation.drift import Distribution, Parting
    from workflows.tracking import ModelRef, Run

FILE = "drift.json"  # in the folder of a scan, and among its run's files
VALIDATION = "validation"  # what model.json calls the distribution, beside its provenance
MOST_LOOKED_AT = 5  # earlier scans, as some may have kept no distribution
_CORNERS = ("x0", "y0", "x1", "y1")
_NAMES = {"scores": "scores", "sides": "sizes in pixels"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scan found that reaches the model's threshold."""

    pictures: int  # with at least one such detection
    detections: Distribution


def note(book: Ledger, run: Run, model: ModelRef, found: Distribution) -> list[str]:
    """What there is to tell a person, a line each, after all of it is kept: in scan and run."""
    document: dict[str, Any] = {"detections": found.to_dict(), "against": {}}
    for name, (where, before) in _earlier(book, run, model).items():
        document["against"][name] = _against(where, found, before)
    document["lines"] = _lines(document["against"])
    storage.put(storage.join(book.out, FILE), storage.to_json(document))
    run.log_bytes(FILE, storage.to_json(document))
    run.log_metrics(_metrics(document["against"]))
    run.log_tags({"drift": "; ".join(document["lines"]) or _verdict(document["against"])})
    return list(document["lines"])


def told(book: Ledger) -> list[str]:
    """The lines of a scan that was noted before."""
    path = storage.join(book.out, FILE)
    return list(storage.read_json(path)["lines"]) if storage.exists(path) else []


def seen_in(book: Ledger) -> Seen:
    """What the scan found. Its table is read once: a store is asked for each part of it."""
    from nnst.evaluation.drift import Distribution

    threshold = np.float32(book.plan["identity"]["model"]["threshold"])
    pictures = 0
    scores, boxes = [np.zeros(0, np.float32)], [np.zeros((0, 4), np.float32)]
    for rows in book.parts("detections", ["image", *_CORNERS, "score"]):
        kept = rows.filter(pc.greater_equal(rows["score"], pa.scalar(threshold, pa.float32())))
        pictures += pc.count_distinct(kept["image"]).as_py()  # a picture's rows share a part
        scores.append(kept["score"].to_numpy())
        boxes.append(np.stack([kept[name].to_numpy() for name in _CORNERS], axis=1))
    return Seen(pictures, Distribution.of(np.concatenate(scores), np.concatenate(boxes)))


def _earlier(book: Ledger, run: Run, model: ModelRef) -> dict[str, tuple[str, Distribution | None]]:
    """What the scan is compared with, by name: what that is, and its distribution if known."""
    from nnst import models
    from nnst.evaluation.drift import Distribution

    kept = models.load(model.folder).provenance.get(VALIDATION)
    found = {"validation": ("the pictures it was validated on", Distribution.read(kept))}
    last, document = _last_scan(book, run, model)
    if last:
        found["last_scan"] = (f"its last scan, {last}", Distribution.read(document))
    return found


def _last_scan(book: Ledger, run: Run, model: ModelRef) -> tuple[str, Any]:
    """The folder of the scan that the same model finished last, and its distribution."""
    from workflows import tracking

    if not run.run_id:
        return "", None  # MLflow is away: it would only be waited for
    try:
        scans = tracking.scans_by(tracking.experiment_of(model.name), model.digest)
        others = [scan for scan in scans if scan[0] != run.run_id and scan[1] != book.out]
        for run_id, out in others[:MOST_LOOKED_AT]:
            document = tracking.read_json(run_id, FILE)
            if document is not None:
                return out, document.get("detections")
    except InputError:
        pass  # of MLflow's state the run itself tells
    return "", None


def _against(where: str, now: Distribution, before: Distribution | None) -> dict[str, Any]:
    from nnst.evaluation.drift import FEWEST, part

    nothing: dict[str, Any] = {"with": where, "lines": [], "distances": {}}
    if before is None:
        return nothing | {"said": "not known"}
    parts = part(now, before)
    if not parts:
        fewest = min(now.count, before.count)
        said = f"{fewest} detections are too few to compare, {FEWEST} are needed"
        return nothing | {"said": said}
    lines = [_line(name, where, each) for name, each in parts.items() if each.parted]
    return {
        "with": where,
        "said": "; ".join(lines) or "alike",
        "lines": lines,
        "distances": {name: asdict(each) for name, each in parts.items()},
    }


def _line(name: str, where: str, found: Parting) -> str:
    return (
        f"{_NAMES[name]} differ from those on {where}: median {found.now:.3g} against "
        f"{found.before:.3g}, {found.distance:.2f} apart (Kolmogorov-Smirnov, limit "
        f"{found.limit:.2f})"
    )


def _lines(against: Mapping[str, Any]) -> list[str]:
    return [line for each in against.values() for line in each["lines"]]


def _verdict(against: Mapping[str, Any]) -> str:
    return "; ".join(f"{each['with']}: {each['said']}" for each in against.values())


def _metrics(against: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"drift_{quantity}_{name}": each["distance"]
        for name, found in against.items()
        for quantity, each in found["distances"].items()
    } | {f"drifted_{name}": float(bool(found["lines"])) for name, found in against.items()}
