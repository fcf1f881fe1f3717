"""`nnst scan`: an archive and a model -> a scan. Shards of pictures are scored in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nnst import archive, config, ledger, records, storage
from nnst.config import group, setting
from workflows import drifting, earlier, fanout, provenance
from workflows.commands import Options, Outcome
from workflows.fanout import FanoutSettings
from workflows.scoring import ScanTask, read_shard, scan_shard, score_shard
from workflows.tracking import TrackingSettings

if TYPE_CHECKING:
    from workflows.tracking import ModelRef, Run

# torch and MLflow cost seconds to import: functions import what needs them.

SHARD, SHARD_IN_STORE = 32, 256  # pictures; each shard costs its driver two requests


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Settings of nnst scan."""

    archive: str = setting(help="a folder, tar, zip, Parquet or output folder with pictures")
    model: str = setting(help="NAME, NAME/3, NAME@alias, or a folder written with a slash")
    out: str = setting(help="the folder to write the scan to")
    min_width: int = setting(0, "the smallest logo wanted, in pixels; 0 is the model's window")
    levels_per_octave: int = setting(0, "pyramid levels for each halving; 0 is the model's own")
    since: str = setting("", "a finished scan whose rows of unchanged pictures are taken over")
    iou_threshold: float = setting(0.3, "overlap at which the lesser of two boxes is dropped")
    shard_images: int = setting(0, "pictures in a shard; 0 is 32, and 256 where a store has OUT")
    fanout: FanoutSettings = group(FanoutSettings)
    tracking: TrackingSettings = group(TrackingSettings)

    def __post_init__(self) -> None:
        if self.shard_images < 0:
            raise ValueError(f"shard_images must be 0 or more, got {self.shard_images}")
        if self.min_width < 0:
            raise ValueError(f"min_width must be 0 or more pixels, got {self.min_width}")
        if not 0 <= self.levels_per_octave <= 16:
            raise ValueError(f"levels_per_octave must be 0 to 16, got {self.levels_per_octave}")


def run(settings: ScanConfig, options: Options) -> Outcome:
    """Resolve the model once, plan, score, commit."""
    from workflows import tracking

    out = storage.absolute(settings.out)
    if not settings.shard_images:
        usual = SHARD_IN_STORE if storage.is_remote(out) else SHARD
        settings = replace(settings, shard_images=usual)
    source = storage.absolute(settings.archive)
    model = tracking.resolve(settings.model)
    plan = archive.plan(source, settings.shard_images)
    job = _job(settings, plan, model, source)
    if settings.since:
        earlier.check_same_rows(storage.absolute(settings.since), job)
    cost = _cost(settings, model)  # refuses a smallest width that cannot be
    if options.dry_run:
        return _dry_run(settings, out, plan, model)
    if options.fresh:
        ledger.start_fresh(out)
    with _run_of(out, job, settings, model) as run:
        book = ledger.Ledger.create(out, _with_notes(job, run, model))
        finished = book.is_done()
        if not finished:
            task = _task(settings, book, model)
            steps = partial(read_shard, task), partial(score_shard, task)
            work = fanout.Staged(partial(scan_shard, task), *steps)
            fanout.fan_out(book, work, settings.fanout, "scan")
        seen = drifting.seen_in(book)
        if not finished or not book.notes.get("run_id"):  # MLflow may have been away all the time
            run.log_metrics(_metrics(book, seen.pictures))
            drifting.note(book, run, model, seen.detections)
    return _outcome(book, settings, run, (seen.pictures, *cost))


def _cost(settings: ScanConfig, model: ModelRef) -> tuple[float, float]:
    """The smallest width looked for, and how often each pixel is scored for that."""
    from nnst import models
    from nnst.detector import DetectorSettings, detector_of

    look = DetectorSettings(
        min_width=settings.min_width, levels_per_octave=settings.levels_per_octave
    )
    detector = detector_of(models.load(model.folder), look)
    return detector.smallest_width, detector.scored_per_pixel


def _job(
    settings: ScanConfig, plan: archive.ArchivePlan, model: ModelRef, source: str
) -> ledger.Job:
    from nnst import models

    spec = models.load(model.folder).spec
    deciding = ("min_width", "levels_per_octave", "iou_threshold", "shard_images")
    return ledger.Job(
        verb="scan",
        inputs=plan.inputs,
        settings={name: getattr(settings, name) for name in deciding},
        model={
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "labels": list(spec.labels),
            "threshold": spec.threshold,
            "window_hw": list(spec.window_hw),
        },
        versions=provenance.versions(),
        source=source,
        notes={
            "skipped": dict(plan.skipped),
            "boxes": "stored pixels",
            "code_commit": provenance.code_commit(),
        },
    )


def _run_of(out: str, job: ledger.Job, settings: ScanConfig, model: ModelRef) -> Run:
    """The MLflow run that this scan began before, or a new one."""
    from workflows import tracking

    begun = ledger.Ledger.begun(out, job)
    notes = {} if begun is None else begun.notes
    if notes.get("run_id"):
        return tracking.resume(notes["run_id"], patience=settings.tracking)
    run = tracking.start(
        tracking.experiment_of(model.name),
        f"scan {storage.safe_name(settings.archive.rstrip('/').rpartition('/')[2])}",
        params=config.to_dict(settings),
        tags=_tags(out, model),
        mark=notes.get("run_mark", ""),
        patience=settings.tracking,
    )
    tracking.link_model(run, model)
    source = storage.absolute(settings.archive)
    counts = {"pictures": job.inputs.num_rows}
    run.log_dataset("archive", job.inputs_sha256, source, counts, "scan")
    return run


def _tags(out: str, model: ModelRef) -> dict[str, str]:
    """By what a scan's run is found: its folder, its model, and the run that trained that."""
    found = {"verb": "scan", "model": str(model), "model_digest": model.digest, "out": out}
    return found | ({"model_run_id": model.run_id} if model.run_id else {})


def _with_notes(job: ledger.Job, run: Run, model: ModelRef) -> ledger.Job:
    notes = {"run_id": run.run_id, "run_mark": run.mark, "tracking_uri": run.uri}
    return replace(job, notes={**job.notes, **notes, "model_run_id": model.run_id})


def _task(settings: ScanConfig, book: ledger.Ledger, model: ModelRef) -> ScanTask:
    return ScanTask(
        out=book.out,
        source=book.source,
        fingerprint=book.fingerprint,
        model_folder=model.folder,
        model_digest=model.digest,
        model_name=str(model),
        min_width=settings.min_width,
        levels_per_octave=settings.levels_per_octave,
        iou_threshold=settings.iou_threshold,
        since=storage.absolute(settings.since) if settings.since else "",
    )


def _metrics(book: ledger.Ledger, found: int) -> dict[str, float]:
    totals = book.totals()
    reasons = {f"bad_{reason}": float(count) for reason, count in totals["bad"].items()}
    return reasons | {
        "pictures": float(totals["rows_in"]),
        "pictures_bad": float(totals["rows_bad"]),
        "pictures_found": float(found),
        "detections": float(totals["tables"].get("detections", 0)),
    }


def _dry_run(settings: ScanConfig, out: str, plan: archive.ArchivePlan, model: ModelRef) -> Outcome:
    size = sum(plan.inputs["bytes"].to_pylist())
    smallest, scored = _cost(settings, model)
    document = {
        "out": out,
        "model": str(model),
        "pictures": plan.inputs.num_rows,
        "bytes": size,
        "skipped": dict(plan.skipped),
        "smallest_width": round(smallest, 1),
        "scored_per_pixel": round(scored, 3),
    }
    text = (
        f"would scan {plan.inputs.num_rows:,} pictures ({size / 1e6:,.1f} MB) "
        f"with {model} into {out}\n{_cost_text(smallest, scored)}"
    )
    return Outcome(document, text)


def _cost_text(smallest: float, scored: float) -> str:
    return (
        f"logos from {smallest:.0f} pixels wide (--min-width): {scored:.2f} pixels scored for each "
        "pixel of a picture"
    )


def _outcome(
    book: ledger.Ledger, settings: ScanConfig, run: Run, figures: tuple[int, float, float]
) -> Outcome:
    totals = book.totals()
    model = book.plan["identity"]["model"]
    (found, *cost), skipped = figures, sum(book.notes["skipped"].values())
    name = f"{model['name']}/{model['version']}" if model["version"] else model["name"]
    document = {
        "out": book.out,
        "fingerprint": book.fingerprint,
        "model": name,
        "threshold": model["threshold"],
        "pictures": totals["rows_in"],
        "found": found,
        "bad": totals["bad"],
        "skipped": skipped,
        "detections": totals["tables"].get("detections", 0),
        "smallest_width": round(cost[0], 1),
        "scored_per_pixel": round(cost[1], 3),
        "run_id": run.run_id,
        "drift": drifting.told(book),
        "problems": run.problems,
    }
    return Outcome(document, _describe(document, run), fanout.too_many_bad(totals, settings.fanout))


def _describe(document: Mapping[str, Any], run: Run) -> str:
    nothing = document["pictures"] - document["found"] - sum(document["bad"].values())
    lines = [
        f"{document['pictures']:,} pictures looked through with {document['model']}",
        f"  {document['found']:>6,} with the logo (score of {document['threshold']:.2f} or more)",
        f"  {nothing:>6,} without",
        *(
            f"  {count:>6,} could not be looked at: {records.REASONS[reason]}"
            for reason, count in sorted(document["bad"].items())
        ),
        *(
            [f"  {document['skipped']:>6,} files skipped: no pictures"]
            if document["skipped"]
            else []
        ),
        _cost_text(document["smallest_width"], document["scored_per_pixel"]),
        *(f"drift: {line}" for line in document["drift"]),
        *(f"note: {problem}" for problem in document["problems"]),
        f"scan: {document['out']}",
        f"run:  {run.url}",
        f"next: nnst report {document['out']}",
    ]
    return "\n".join(lines)
