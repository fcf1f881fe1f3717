"""From a picture's source to its score: address, licence, hash, model, training, crops, truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.compute as pc

from nnst import ledger, records, storage
from nnst.errors import InputError
from workflows import pairing, provenance

_OF_COLLECTED = ("url", "final_url", "page", "licence", "licence_url", "creator", "attribution")


def of(book: ledger.Ledger, row: Mapping[str, Any]) -> dict[str, Any]:
    """Where the picture came from, what the scan wrote of it, and what that was scanned with.

    Keys of `origin` and `training` that are not known are None or missing, with a problem told.
    """
    inputs = book.inputs()
    place = inputs.filter(pc.equal(inputs["image"], row["image"])).to_pylist()[0]
    every = book.read("detections")
    mine = every.filter(pc.equal(every["image"], row["image"])).to_pylist()
    model, notes = book.plan["identity"]["model"], book.notes
    problems: list[str] = []
    origin = _origin(book, row, problems)
    training = _training(book, row, problems)
    return {
        "image": row["image"],
        "image_id": row["image_id"],
        "origin": origin,
        "source": {
            "archive": book.source,
            "container": place["container"],
            "offset": place["offset"],
            "bytes": place["bytes"],
        },
        "status": row["status"],
        "reason": records.REASONS.get(row["status"], ""),
        "width": row["width"],
        "height": row["height"],
        "detections": [
            {
                "box": [round(found[side], 2) for side in ("x0", "y0", "x1", "y1")],
                "score": round(found["score"], 4),
                "label": found["label"],
            }
            for found in sorted(mine, key=lambda found: -found["score"])
        ],
        "model": {
            "name": pairing.model_of(book),
            "digest": model["digest"],
            "threshold": model["threshold"],
            "run_id": notes.get("model_run_id") or "",
        },
        "training": training,
        "scan": {
            "out": book.out,
            "run_id": notes.get("run_id") or "",
            "fingerprint": book.fingerprint,
            "settings": dict(book.plan["identity"]["settings"]),
            "versions": dict(book.plan["identity"]["versions"]),
            "code_commit": notes.get("code_commit"),
        },
        "explained_with": {
            "versions": provenance.versions(),
            "code_commit": provenance.code_commit(),
        },
        "explanation": None,
        "problems": problems,
    }


def _origin(
    book: ledger.Ledger, row: Mapping[str, Any], problems: list[str]
) -> list[dict[str, Any]] | None:
    """Every address that gave these bytes, if the archive was collected; else None."""
    plan = storage.join(book.source, "plan.json")
    if storage.is_remote(book.source) and not storage.exists(plan):
        return None
    try:
        collected = ledger.Ledger.open(book.source)
    except InputError:
        return None  # an archive of another kind
    if collected.plan["identity"]["verb"] != "collect":
        return None
    found = []
    try:
        for part in collected.parts("pictures"):
            mine = part.filter(pc.equal(part["image_id"], row["image_id"] or ""))
            found += mine.to_pylist()
    except InputError as error:
        problems.append(f"where the picture came from is not known: {error}")
        return None
    return [
        {name: each[name] for name in _OF_COLLECTED} | {"fetched": each["fetched"].isoformat()}
        for each in found
    ]


def _training(
    book: ledger.Ledger, row: Mapping[str, Any], problems: list[str]
) -> dict[str, Any] | None:
    """What taught the model: its run, its crop sets and their truth; None where that is gone."""
    from nnst import models
    from workflows import tracking

    try:
        found = tracking.resolve(pairing.model_of(book))
        facts = models.load(found.folder).provenance
    except InputError as error:
        problems.append(f"what taught the model is not known: {error}")
        return None
    taught = facts.get("trained_on", ())
    return {
        "run_id": facts.get("run_id") or found.run_id,
        "code_commit": facts.get("code_commit"),
        "data_digest": facts.get("data_digest"),
        "pictures": len(taught),
        "this_picture": row["image_id"] in taught,
        "crops": list(facts.get("crops", ())),
    }


def lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The chain for people: a name and a text each, from the source to the score."""
    source, model, scan = document["source"], document["model"], document["scan"]
    container = f" of {source['container']}" if source["container"] else ""
    place = f", at {source['offset']:,}{container}" if source["offset"] >= 0 else ""
    for each in document["origin"] or ():
        yield "url", each["url"]
        yield "licence", _licence(each)
    yield "picture", f"{document['image']}, {_size(document)}"
    yield "from", f"{source['archive']}{place}"
    yield "sha256", document["image_id"] or "not read"
    yield "model", f"{model['name']}, sha256 {model['digest'][:12]}, run {model['run_id'] or '-'}"
    yield from _training_lines(document["training"])
    versions = ", ".join(f"{name} {version}" for name, version in scan["versions"].items())
    yield "scan", f"{scan['out']}, run {scan['run_id'] or '-'}"
    yield "made by", f"{versions}; fingerprint {scan['fingerprint'][:12]}"
    best = max((found["score"] for found in document["detections"]), default=None)
    if document["status"] == records.OK:
        yield "score", "nothing was found" if best is None else f"{best:.4f}, the best of the scan"


def _licence(origin: Mapping[str, Any]) -> str:
    told = [origin[name] for name in ("licence", "licence_url", "attribution", "creator")]
    return ", ".join(dict.fromkeys(filter(None, told))) or "none was stated"


def _training_lines(training: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if training is None:
        return
    run, count = training["run_id"] or "-", training["pictures"]
    seen = "this one among them" if training["this_picture"] else "this one is not among them"
    yield "taught", f"in run {run}, by {count:,} annotated pictures; {seen}"
    for each in training["crops"]:
        truth = f", cut from {', '.join(each['truth'])}" if each["truth"] else ""
        digest = f"truth {each['truth_sha256'][:12]}, " if each["truth"] else ""
        yield "crops", f"{each['out']} ({digest}fingerprint {each['fingerprint'][:12]}){truth}"


def _size(document: Mapping[str, Any]) -> str:
    size = f"{document['width']} x {document['height']}" if document["width"] else "size not known"
    return f"{size}, {document['status'].replace('_', ' ')}"
