"""`nnst explain`: a scan and one of its pictures -> why it was found, or not, as a page."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from nnst import boxes as boxes_
from nnst import images, ledger, records, storage
from nnst.config import setting
from nnst.errors import InputError
from workflows import chain, scanned
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.boxes import Boxes
    from nnst.images import Picture
    from nnst.report.explanation import Shown

MOST_APART = 0.01  # between the scan's best score and this one, until it is said


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """Settings of nnst explain."""

    scan: str = setting(help="the output folder of nnst scan")
    image: str = setting(help="the picture's name as the scan has it, or the end of it")
    threshold: float | None = setting(None, "the least score explained; the model's by default")
    detections: int = setting(5, "the best detections that are explained, at most")

    def __post_init__(self) -> None:
        if self.detections < 1:
            raise ValueError(f"detections must be 1 or more, got {self.detections}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {self.threshold}")


def run(settings: ExplainConfig, options: Options) -> Outcome:
    """Find the picture, look at it once more, write the page."""
    from nnst.report import explanation

    book = ledger.Ledger.open(storage.absolute(settings.scan), "scan")
    row = _row(book, settings.image)
    folder = storage.join(book.out, explanation.FOLDER, explanation.name_of(row["image"]))
    index = storage.join(folder, "index.html")
    if options.dry_run:
        document = {"image": row["image"], "page": index}
        return Outcome(document, f"would explain {row['image']} in {index}")
    document = chain.of(book, row)
    shown = None
    if row["status"] == records.OK:
        shown, found = _explained(book, row, settings, document["problems"])
        document |= found
    explanation.write(folder, document, shown)
    document |= {"page": index}
    storage.put(storage.join(folder, "explanation.json"), storage.to_json(document))
    return Outcome(document, _describe(document))


def _row(book: ledger.Ledger, name: str) -> dict[str, Any]:
    """The scan's row of a picture: of that name, or the only one whose name ends so."""
    scanned = book.read("images")
    names = scanned["image"].to_pylist()
    found = [name] if name in names else [each for each in names if each.endswith(name)]
    if len(found) > 1:
        what = f"{len(found)} pictures of {book.out} have a name that ends in {name!r}"
        raise InputError(what, f"give more of it, as in {found[0]} or {found[1]}")
    if not found:
        near = difflib.get_close_matches(name, names, n=3)
        last = posixpath.basename(name)
        near = near or [each for each in names if posixpath.basename(each) == last][:3]
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of them is {names[0]}"
        raise InputError(f"{book.out} has no picture {name!r}", hint)
    row: dict[str, Any] = scanned.filter(pc.equal(scanned["image"], found[0])).to_pylist()[0]
    return row


def _explained(
    book: ledger.Ledger, row: Mapping[str, Any], settings: ExplainConfig, known: Sequence[str]
) -> tuple[Shown, dict[str, Any]]:
    """What there is to show, and what the document has of it: boxes in stored pixels."""
    from nnst.detector import explaining
    from nnst.report import explanation

    data = scanned.picture_bytes(book, row)
    detector, model = scanned.detector_of(book)
    picture = images.decode(data, reduction=detector.reduction)
    upright = images.upright(picture.pixels, picture.header.orientation)
    threshold = settings.threshold
    if threshold is None:
        threshold = float(book.plan["identity"]["model"]["threshold"])
    enlarge = picture.header.width / picture.pixels.shape[1]
    why = explaining.explain(detector, upright, threshold, settings.detections, enlarge)
    labels = detector.spec.labels
    told = explanation.describe(why, labels, lambda boxes: _stored(boxes, picture))
    best, again = row["score"] or 0.0, max(why.found.scores.tolist(), default=0.0)
    document = {
        "model": model,
        "explanation": told | {"threshold": threshold, "boxes": "stored pixels"},
        "problems": [*known, *_apart(best, again)],
    }
    return explanation.Shown(upright, why, labels), document


def _apart(best: float, again: float) -> list[str]:
    if abs(best - again) <= MOST_APART:
        return []
    return [f"the scan's best score was {best:.4f}, and here it is {again:.4f}: other versions?"]


def _stored(boxes: Boxes, picture: Picture) -> Boxes:
    """Boxes of the decoded, upright picture in pixels of the stored one."""
    header, (height, width) = picture.header, picture.pixels.shape[:2]
    turned = images.boxes_stored(boxes, (height, width), header.orientation)
    return boxes_.scale(turned, header.width / width, header.height / height)


def _describe(document: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            *_verdict(document),
            *(f"{name + ':':<9} {text}" for name, text in chain.lines(document)),
            *(f"note: {problem}" for problem in document["problems"]),
            f"page:     {document['page']}",
        ]
    )


def _verdict(document: Mapping[str, Any]) -> list[str]:
    """What was found, or why nothing was, in a line each."""
    told = document["explanation"]
    if told is None:
        return [f"{document['image']} could not be looked at: {document['reason']}"]
    items = told["items"]
    count, least = len(items), told["threshold"]
    if told["reached"]:
        total = sum(found["score"] >= least for found in document["detections"])
        lines = [f"{count} of {total} found with a score of {least:.2f} or more, explained"]
    else:
        nearest = "; nearest to it" if items else ""
        lines = [f"nothing with a score of {least:.2f} or more{nearest}"]
    return lines + [_line(item) for item in items]


def _line(item: Mapping[str, Any]) -> str:
    x0, y0, x1, y1 = (round(side) for side in item["box"])
    saliency, windows = item["saliency"], len(item["windows"])
    least = min(map(min, saliency["covered"]))
    return (
        f"  {item['score']:.3f} {item['label']} in {x0},{y0} to {x1},{y1}: {windows} "
        f"{'window' if windows == 1 else 'windows'} voted; its most telling part greyed out, "
        f"{saliency['score']:.3f} becomes {least:.3f}"
    )
