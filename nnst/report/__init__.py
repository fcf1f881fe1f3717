"""A finished scan as one page to look at, and its detections as CSV.

The page is a single file that asks for nothing outside itself: styles, scripts, data and thumbnails
are inlined. Thumbnails and rows are budgeted, counts are exact. The same scan and the same pictures
give the same bytes.

`counting` counts, `listing` chooses what is shown, `thumbnails` makes pictures small, `page` puts a
page together, `spreadsheet` is the CSV; `explanation` is a page of its own, about one picture, and
`comparison` one about two scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnst import records, storage
from nnst.ledger import Ledger
from nnst.report import counting, explanation, listing, page, spreadsheet
from nnst.report.listing import Listed, ReportSettings

__all__ = ["DEFAULTS", "Report", "ReportSettings", "write"]

DEFAULTS = ReportSettings()
_STYLES = ("report.css", "pictures.css")
_SCRIPTS = ("pictures.js", "report.js", "start.js")  # each uses those before it


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and what the scan holds at the threshold."""

    index: str
    csv: str
    counts: Mapping[str, int]


def write(ledger: Ledger, settings: ReportSettings = DEFAULTS) -> Report:
    """The page and the CSV of a finished scan, written to its folder `report`.

    Pictures that are gone or changed since the scan are listed without a thumbnail.
    Raises InputError when the scan is not finished.
    """
    document = _document(ledger, settings)
    index = storage.join(ledger.out, "report", "index.html")
    table = storage.join(ledger.out, "report", "detections.csv")
    storage.put(table, spreadsheet.encode(ledger, document["scan"]["start"]))
    storage.put(index, page.assemble("report.html", _STYLES, _SCRIPTS, document))
    return Report(index, table, document["counts"])


def _document(ledger: Ledger, settings: ReportSettings) -> dict[str, Any]:
    """All that the page knows."""
    scanned = ledger.read("images")
    scan = _describe(ledger, settings)
    tally = counting.tally(ledger, scanned, scan["threshold"], scan["start"])
    counts = counting.counts(scanned, tally, scan["start"])
    listed = listing.with_boxes(ledger, listing.choose(scanned, settings.listed), settings.boxes)
    pictures, notes = listing.with_thumbnails(ledger, listed, settings)
    thumbnails = sum(bool(picture.thumbnail) for picture in pictures)
    return {
        "title": f"{scan['archive']} seen by {scan['model']}",
        "scan": scan,
        "counts": {**counts, "thumbnails": thumbnails},
        "bad": counting.bad(scanned),
        "reasons": dict(records.REASONS),
        "evaluations": _evaluations(ledger.out),
        "explain": {"scan": ledger.out, "pages": _explanations(ledger.out, pictures)},
        "tally": tally,
        "notes": [*notes, *_drift_notes(ledger.out), *_cut_notes(counts, settings.listed)],
        "pictures": [picture.to_dict() for picture in pictures],
    }


def _describe(ledger: Ledger, settings: ReportSettings) -> dict[str, Any]:
    """Where the page comes from: archive, model and run; and the threshold that it starts at."""
    model, notes = ledger.plan["identity"]["model"], ledger.notes
    threshold = float(model["threshold"])
    version = f"/{model['version']}" if model["version"] else ""
    return {
        "source": ledger.source,
        "archive": ledger.source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1],
        "model": f"{model['name']}{version}",
        "digest": model["digest"],
        "threshold": threshold,
        "start": threshold if settings.threshold is None else settings.threshold,
        "fingerprint": ledger.fingerprint,
        "skipped": dict(notes.get("skipped") or {}),
        "run_id": notes.get("run_id") or "",
        "model_run_id": notes.get("model_run_id") or "",
    }


def _evaluations(out: str) -> list[dict[str, Any]]:
    """The mean AP of each evaluation of this scan, with its interval and what it was judged by."""
    folder = storage.join(out, "evaluation")
    names = [name for name in storage.names(folder) if name.endswith(".json")]
    documents = [storage.read_json(storage.join(folder, name)) for name in names]
    return [{key: found[key] for key in ("truth", "pictures", "map50")} for found in documents]


def _drift_notes(out: str) -> list[str]:
    """What the scan said of scores or sizes that are not as they were before."""
    path = storage.join(out, "drift.json")
    lines = storage.read_json(path)["lines"] if storage.exists(path) else []
    return [f"Drift: {line}." for line in lines]


def _explanations(out: str, pictures: Sequence[Listed]) -> dict[str, str]:
    """The folder of the explanation of each picture that has one."""
    there = set(storage.names(storage.join(out, explanation.FOLDER)))
    if not there:
        return {}
    folders = {picture.image: explanation.name_of(picture.image) for picture in pictures}
    return {image: folder for image, folder in folders.items() if folder in there}


def _cut_notes(counts: Mapping[str, int], limit: int) -> list[str]:
    """What the list leaves out, because of its budget."""
    kinds = (("looked_at", "looked at"), ("could_not_look", "that could not be looked at"))
    return [
        f"Counted, and not listed on this page: {counts[key] - limit:,} more pictures {words}."
        for key, words in kinds
        if counts[key] > limit
    ]
