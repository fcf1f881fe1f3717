"""`nnst export`: what a scan found -> a file that other programs read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from nnst import formats, ledger, storage
from nnst.config import setting
from workflows.commands import Options, Outcome


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Settings of nnst export."""

    scan: str = setting(help="the output folder of nnst scan")
    to: Literal["imglab", "coco", "yolo", "csv", "voc"] = setting(
        help="imglab, coco, yolo, csv or voc"
    )
    out: str = setting(help="the file or folder to write, which must be new")
    threshold: float | None = setting(None, "the least score written; the model's by default")
    boxes_upright: bool = setting(
        False, "write VOC, COCO or YOLO boxes of the pictures turned as EXIF says"
    )

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {self.threshold}")


def run(settings: ExportConfig, options: Options) -> Outcome:
    """Choose what counts, see what fits, write."""
    from nnst.report import selection

    book = ledger.Ledger.open(storage.absolute(settings.scan), "scan")
    threshold = settings.threshold
    if threshold is None:
        threshold = float(book.plan["identity"]["model"]["threshold"])
    rows = selection.choose(book, threshold)
    lost: dict[str, int] = {}
    if settings.to == "csv":
        _write_csv(rows, settings.out, options)
    else:
        marked = selection.as_marked(book, rows, threshold, settings.out)
        fitted = formats.fit(marked, settings.to, settings.boxes_upright)
        lost = dict(fitted.lost)
        if not options.dry_run:
            formats.write(fitted, settings.out, settings.to)
    for line in formats.losses.lines(lost):
        print(line, file=sys.stderr)
    return _outcome(settings, rows, threshold, lost, options)


def _write_csv(rows: pa.Table, out: str, options: Options) -> None:
    from nnst.report import spreadsheet

    if not options.dry_run:
        formats.refuse_existing(Path(out))
        storage.put(out, spreadsheet.encode_rows(rows))


def _outcome(
    settings: ExportConfig, rows: pa.Table, threshold: float, lost: dict[str, int], options: Options
) -> Outcome:
    pictures = len(rows["image"].unique())
    document = {
        "scan": settings.scan,
        "to": settings.to,
        "out": settings.out,
        "threshold": threshold,
        "pictures": pictures,
        "detections": rows.num_rows,
        "lost": lost,
    }
    verb = "would write" if options.dry_run else "wrote"
    found = f"{rows.num_rows:,} detections with a score of {threshold:.2f} or more"
    return Outcome(document, f"{verb} {found} in {pictures:,} pictures: {settings.out}")
