"""A finished scan as one page to look at, and its detections as CSV.

The page is a single file that asks for nothing outside itself: styles, scripts, data and thumbnails
are inlined. Thumbnails and rows are budgeted, counts are exact. The same scan and the same pictures
give the same bytes.

`counting` counts, `listing` chooses what is shown, `beside` brings another scan, `thumbnails` and
`warmth` make pictures, `page` puts a page together, `spreadsheet` is the CSV, `selection` what is
exported; `explanation` is a page of its own, about one picture, and `comparison` one about two
scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from nnst import records, storage
from nnst.ledger import Ledger
from nnst.report import counting, explanation, listing, page, selection, spreadsheet
from nnst.report.beside import Beside
from nnst.report.listing import Chosen, Gathered, HeatOf, Listed, ReportSettings

__all__ = ["DEFAULTS", "Report", "ReportSettings", "write"]

DEFAULTS = ReportSettings()
_STYLES = ("report.css", "pictures.css", "colours.css")
_SCRIPTS = ("pictures.js", "filters.js", "export.js", "report.js", "start.js")


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and what the scan holds at the threshold."""

    index: str
    csv: str
    counts: Mapping[str, int]


def write(
    ledger: Ledger,
    settings: ReportSettings = DEFAULTS,
    other: Ledger | None = None,
    heat_of: HeatOf | None = None,
) -> Report:
    """The page and the CSV of a finished scan, written to its folder `report`.

    Pictures that are gone or changed since the scan are listed without a thumbnail. `other` is a
    scan to show beside it; `heat_of` gives the map of the score of a picture file, as PNG.
    Raises InputError when a scan is not finished.
    """
    scan = _describe(ledger, settings)
    beside = None if other is None else Beside(other)
    table = storage.join(ledger.out, "report", "detections.csv")
    tally = counting.Tally(scan["threshold"], scan["start"])
    chosen = Chosen(settings.listed, beside.best if beside else None)
    for part in ledger.parts("images"):
        tally.add_images(part)
        chosen.add(part)
    with storage.writing(table) as stream:
        sheet = spreadsheet.Sheet(stream, scan["start"])
        listed = _with_detections(ledger, chosen.listed(), settings, tally, sheet)
    if beside is not None:
        listed = beside.put_into(listed, settings.boxes)
    named = _with_files(ledger, listed)
    shown, notes = listing.with_thumbnails(ledger, named, settings, heat_of)
    counts = tally.counts(scan["start"]) | {"thumbnails": sum(bool(p.thumbnail) for p in shown)}
    document = {
        **_described(ledger, scan, shown),
        "beside": None if beside is None else beside.to_dict(),
        "counts": counts,
        "bad": tally.bad(),
        "tally": tally.to_dict(),
        "notes": [*notes, *_drift_notes(ledger.out), *_cut_notes(counts, settings.listed)],
        "pictures": [picture.to_dict() for picture in shown],
    }
    index = storage.join(ledger.out, "report", "index.html")
    storage.put(index, page.assemble("report.html", _STYLES, _SCRIPTS, document))
    return Report(index, table, counts)


def _with_detections(
    ledger: Ledger,
    listed: Sequence[Listed],
    settings: ReportSettings,
    tally: counting.Tally,
    sheet: spreadsheet.Sheet,
) -> list[Listed]:
    """The pictures with their detections, all of which are counted and put into the CSV besides:
    they are gone through once, as reading them is most of the work of a large scan."""
    gathered = Gathered(listed)
    for part in ledger.parts("detections"):
        tally.add_detections(part)
        sheet.add(part)
        gathered.add(part)
    return gathered.put_into(listed, settings.boxes)


def _with_files(ledger: Ledger, listed: Sequence[Listed]) -> list[Listed]:
    files = selection.files_of(ledger, pa.array([each.image for each in listed], pa.string()))
    return [replace(each, file=files.get(each.image, "")) for each in listed]


def _described(ledger: Ledger, scan: dict[str, Any], shown: Sequence[Listed]) -> dict[str, Any]:
    """What the page knows beside counts and pictures."""
    return {
        "title": f"{scan['archive']} seen by {scan['model']}",
        "scan": scan,
        "reasons": dict(records.REASONS),
        "evaluations": _evaluations(ledger.out),
        "explain": {"scan": ledger.out, "pages": _explanations(ledger.out, shown)},
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
        "labels": list(model.get("labels", ["", ""])[1:]),
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
