"""`nnst report`: a scan -> a page to look at, and a CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnst import ledger, storage
from nnst.config import setting
from workflows import scanned
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    from nnst.report.listing import HeatOf


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Settings of nnst report."""

    scan: str = setting(help="the output folder of nnst scan")
    thumbnails: int = setting(400, "pictures shown with a thumbnail, the best-scoring ones")
    threshold: float | None = setting(None, "the least score that counts; the model's by default")
    beside: str = setting("", "another scan of the same pictures, to see side by side")
    heat: int = setting(0, "pictures with a map of the score, the best; they are looked at anew")

    def __post_init__(self) -> None:
        if self.heat < 0:
            raise ValueError(f"heat must be 0 or more, got {self.heat}")
        if self.thumbnails < 0:
            raise ValueError(f"thumbnails must be 0 or more, got {self.thumbnails}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {self.threshold}")


def run(settings: ReportConfig, options: Options) -> Outcome:
    """Write the page and the CSV into the scan's folder."""
    from nnst import report

    book = ledger.Ledger.open(storage.absolute(settings.scan), "scan")
    if options.dry_run:
        index = storage.join(book.out, "report", "index.html")
        return Outcome({"page": index}, f"would write {index}")
    other = None
    if settings.beside:
        other = ledger.Ledger.open(storage.absolute(settings.beside), "scan")
    chosen = report.ReportSettings(
        thumbnails=settings.thumbnails, heat=settings.heat, threshold=settings.threshold
    )
    made = report.write(book, chosen, other, _heat_of(book) if settings.heat else None)
    document = {"page": made.index, "csv": made.csv, "counts": dict(made.counts)}
    return Outcome(document, f"page: {made.index}\ncsv:  {made.csv}")


def _heat_of(book: ledger.Ledger) -> HeatOf:
    """What gives the map of the score of a picture file, by the scan's own model."""
    from nnst import images
    from nnst.detector import warming
    from nnst.report import warmth

    detector, _ = scanned.detector_of(book)

    def heat_of(data: bytes) -> bytes:
        picture = images.decode(data, reduction=detector.reduction)
        upright = images.upright(picture.pixels, picture.header.orientation)
        enlarge = picture.header.width / picture.pixels.shape[1]
        return warmth.encode(warming.score_picture(detector, upright, enlarge=enlarge))

    return heat_of
