"""`nnst review`: a person says of a scan's detections which are right; truth is made of it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nnst import ledger, storage
from nnst.config import setting
from nnst.errors import InputError
from workflows import confirmed, serving
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.review import Figures, Order, VerdictLog
    from workflows.reviewing import Desk

FILES = ("dark.css", "colours.css", "review.css", "elements.js", "review.js", "review_saving.js")
LOG = ("review", "verdicts.jsonl")


@dataclass(frozen=True, slots=True)
class ReviewConfig:
    """Settings of nnst review."""

    scan: str = setting(help="the output folder of nnst scan")
    out: str = setting("", "the file that --to writes")
    to: Literal["", "imglab"] = setting("", "write what was said as truth, and no page: imglab")
    against: str = setting("", "a scan of the same pictures by another version")
    reviewer: str = setting("", "who looks, as the verdicts have it; by default the user's name")
    port: int = setting(5011, "the port on 127.0.0.1 that the page is served at")

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")
        if bool(self.to) != bool(self.out):
            raise ValueError("--to and the file to write go together: --to imglab OUT.xml")


def run(settings: ReviewConfig, options: Options) -> Outcome:
    """Serve the page until ctrl-C, or write the verdicts as truth."""
    from nnst.review import VerdictLog

    out = storage.absolute(settings.scan)
    if storage.is_remote(out):
        raise InputError(f"{out} is not on this machine", "copy the scan here first")
    book = ledger.Ledger.open(out, "scan")
    log = VerdictLog(storage.join(out, *LOG))
    if settings.to:
        return confirmed.write(book, log, settings.out, options)
    order = _order(book, settings)
    if not len(order.rows):
        raise InputError(f"{out} has no detection", "there is nothing to review")
    document = {"scan": out, "detections": len(order.rows), "verdicts": log.path}
    if options.dry_run:
        text = f"would ask about {len(order.rows):,} detections and write {log.path}"
        return Outcome(document, text)
    desk = _desk(book, order, log, settings)
    key = serving.key_of(f"review {out}")
    serving.serve(serving.Site("review", "review.html", FILES, desk.routes(), key), settings.port)
    return _outcome(document, desk.figures(), desk.summary())


def _desk(book: ledger.Ledger, order: Order, log: VerdictLog, settings: ReviewConfig) -> Desk:
    from workflows.reviewing import Desk

    return Desk(book, order, log, settings.reviewer or _user())


def _order(book: ledger.Ledger, settings: ReviewConfig) -> Order:
    """In which order to ask about the scan's detections."""
    from nnst import review

    detections = book.read("detections")
    threshold = float(book.plan["identity"]["model"]["threshold"])
    disputed = None
    if settings.against:
        other = ledger.Ledger.open(storage.absolute(settings.against), "scan")
        theirs = float(other.plan["identity"]["model"]["threshold"])
        disputed = review.disagreeing(detections, threshold, other.read("detections"), theirs)
    return review.order(detections, threshold, disputed, seed=int(book.fingerprint[:8], 16))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _outcome(document: dict[str, Any], found: Figures, summary: Mapping[str, Any]) -> Outcome:
    text = (
        f"{found.looked_at:,} of {document['detections']:,} detections looked at: "
        f"{found.right:,} right, {found.wrong:,} wrong, {found.misplaced:,} in the wrong place, "
        f"{found.skipped:,} skipped\n"
    )
    for name in ("precision", "recall"):
        figure = getattr(found, name)
        text += f"{name} at the threshold: {figure.value:.3f}  (95 %: {figure.low:.3f} to "
        text += f"{figure.high:.3f})\n"
    text += f"verdicts: {document['verdicts']}\n"
    text += f"next:     nnst review {document['scan']} --to imglab OUT.xml"
    return Outcome({**document, "figures": dict(summary)}, text)
