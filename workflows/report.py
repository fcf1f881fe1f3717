"""`nnst report`: a scan -> a page to look at, and a CSV."""

from __future__ import annotations

from dataclasses import dataclass

from nnst import ledger, storage
from nnst.config import setting
from workflows.commands import Options, Outcome


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Settings of nnst report."""

    scan: str = setting(help="the output folder of nnst scan")
    thumbnails: int = setting(400, "pictures shown with a thumbnail, the best-scoring ones")
    threshold: float | None = setting(None, "the least score that counts; the model's by default")

    def __post_init__(self) -> None:
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
    chosen = report.ReportSettings(thumbnails=settings.thumbnails, threshold=settings.threshold)
    made = report.write(book, chosen)
    document = {"page": made.index, "csv": made.csv, "counts": dict(made.counts)}
    return Outcome(document, f"page: {made.index}\ncsv:  {made.csv}")
