"""`nnst crop`: truth and its pictures -> a crop set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import archive, config, crops, ledger, records, storage
from nnst.config import group, setting
from nnst.crops import CropSettings
from nnst.errors import InputError
from nnst.records import Annotation
from workflows import fanout, provenance
from workflows.commands import Options, Outcome
from workflows.cutting import CropTask, crop_shard, hash_shard
from workflows.fanout import FanoutSettings
from workflows.progress import Progress


@dataclass(frozen=True, slots=True)
class CropConfig:
    """Settings of nnst crop. Either `truth` or `background` says where the pictures are."""

    out: str = setting(help="the folder to write the crop set to")
    truth: tuple[str, ...] = setting((), "imglab XML files, or VOC, COCO or YOLO truth")
    background: str = setting("", "an archive without the logo, instead of truth")
    window: str = setting("", "the window as WIDTHxHEIGHT; by default the boxes' median aspect")
    negative_label: tuple[str, ...] = setting((), "a label whose boxes are background; repeatable")
    beside: tuple[str, ...] = setting(
        (), "crop sets to be learnt from together with this one: pictures keep their side"
    )
    validation_share: float = setting(0.2, "share of picture groups held out of training")
    allow_outside: bool = setting(False, "use pictures that lie outside the truth's folder")
    pictures: str = setting("", "the folder of VOC's or COCO's pictures, if not a usual one")
    boxes_upright: bool = setting(
        False, "boxes of VOC, COCO or YOLO truth are those of pictures turned by EXIF"
    )
    shard_images: int = setting(32, "pictures in a shard")
    crop: CropSettings = group(CropSettings)
    fanout: FanoutSettings = group(FanoutSettings)

    def __post_init__(self) -> None:
        if bool(self.truth) == bool(self.background):
            raise ValueError("give truth files, or a background archive, and not both")
        if self.window:
            config.parse_window(self.window)
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be in [0, 1), got {self.validation_share}")
        if self.shard_images < 1:
            raise ValueError(f"shard_images must be 1 or more, got {self.shard_images}")


@dataclass(frozen=True, slots=True)
class _Plan:
    """The pictures to cut, and what is known of them."""

    source: str
    inputs: pa.Table
    truth: Mapping[str, Annotation] | None
    warnings: tuple[str, ...] = ()
    turned: frozenset[str] = frozenset()  # images that EXIF turns by a quarter
    skipped: Mapping[str, int] | None = None


def run(settings: CropConfig, options: Options) -> Outcome:
    """Plan, hash the pictures for the split, cut, commit."""
    out = storage.absolute(settings.out)
    negative = (*settings.negative_label, *settings.crop.negative_label)  # --set names the latter
    settings = replace(settings, negative_label=tuple(dict.fromkeys(negative)))
    plan = _plan(settings)
    window_hw = _window(settings, plan)
    job = _job(settings, plan, window_hw)
    if options.dry_run:
        return _dry_run(out, plan, window_hw)
    if options.fresh:
        ledger.start_fresh(out)
    book = ledger.Ledger.create(out, job)
    if not book.is_done():
        task = CropTask(
            out=out,
            source=plan.source,
            fingerprint=book.fingerprint,
            window_hw=window_hw,
            settings=replace(settings.crop, negative_label=settings.negative_label),
            truth=plan.truth,
            split=_split(settings, plan) if plan.truth is not None else {},
            validation_share=settings.validation_share,
        )
        fanout.fan_out(book, partial(crop_shard, task), settings.fanout, "crop")
    return _outcome(book, settings, plan)


def _plan(settings: CropConfig) -> _Plan:
    """The pictures of the truth files, or every picture of the background archive."""
    if settings.background:
        source = storage.absolute(settings.background)
        found = archive.plan(source, settings.shard_images)
        return _Plan(source, found.inputs, None, skipped=found.skipped)
    listed = crops.plan(
        settings.truth,
        settings.allow_outside,
        settings.shard_images,
        settings.pictures,
        settings.boxes_upright,
    )
    labels = {label for annotation in listed.truth.values() for label in annotation.labels}
    for label in settings.negative_label:
        if label not in labels:
            known = ", ".join(sorted(labels)) or "no label"
            what = f"no label {label!r} in {', '.join(settings.truth)}"
            raise InputError(what, f"it has {known}")
    return _Plan(listed.source, listed.inputs, listed.truth, listed.warnings, listed.turned)


def _window(settings: CropConfig, plan: _Plan) -> tuple[int, int]:
    """The window that was asked for, or the boxes' own."""
    if settings.window:
        return config.parse_window(settings.window)
    if settings.beside:
        height, width = _beside(settings)[0].plan["identity"]["settings"]["window_hw"]
        return height, width
    annotations = [
        _logos_only(item, settings.negative_label) for item in (plan.truth or {}).values()
    ]
    try:
        return crops.default_window(annotations, plan.turned)
    except ValueError:
        raise InputError(
            "no box that counts, so nothing says what shape the window has",
            "draw boxes with imglab, or give --window WIDTHxHEIGHT",
        ) from None


def _beside(settings: CropConfig) -> list[ledger.Ledger]:
    """The crop sets that this one will be learnt from with."""
    return [ledger.Ledger.open(storage.absolute(path), "crop") for path in settings.beside]


def _logos_only(annotation: Annotation, negative_label: Sequence[str]) -> Annotation:
    """The annotation with the boxes of "not logo" labels set aside."""
    negative = np.array([label in negative_label for label in annotation.labels], bool)
    return replace(annotation, ignore=annotation.ignore | negative)


def _job(settings: CropConfig, plan: _Plan, window_hw: tuple[int, int]) -> ledger.Job:
    truth = {
        name: {
            "boxes": item.boxes.tolist(),
            "labels": list(item.labels),
            "ignore": item.ignore.tolist(),
            "difficult": item.difficult.tolist(),
        }
        for name, item in (plan.truth or {}).items()
    }
    beside = {"beside": [book.fingerprint for book in _beside(settings)]} if settings.beside else {}
    return ledger.Job(
        verb="crop",
        inputs=plan.inputs,
        settings=beside
        | {
            "window_hw": list(window_hw),
            "crop": config.to_dict(settings.crop) | {"negative_label": [*settings.negative_label]},
            "validation_share": settings.validation_share,
            "kind": "truth" if plan.truth is not None else "background",
            "truth_sha256": storage.sha256(storage.to_json(truth)),
        },
        versions=provenance.versions(),
        source=plan.source,
        notes={
            "skipped": dict(plan.skipped or {}),
            "truth": [storage.absolute(path) for path in settings.truth],
        },
    )


def _split(settings: CropConfig, plan: _Plan) -> dict[str, tuple[str, str]]:
    """(group, split) of every readable picture, by near-duplicate groups over all of them."""
    numbers = pc.unique(plan.inputs["shard"]).to_pylist()
    shards = {n: plan.inputs.filter(pc.equal(plan.inputs["shard"], n)) for n in numbers}
    found: dict[int, list[tuple[str, str, int]]] = {}
    with Progress("hash", plan.inputs.num_rows) as progress:
        work = partial(hash_shard, plan.source)
        for number, hashed in fanout.run_tasks(work, shards, settings.fanout, progress):
            found[number] = hashed
            progress.advance(shards[number].num_rows)
    rows = [row for number in numbers for row in found[number]]
    known = [row for book in _beside(settings) for row in crops.read_sides(book)]
    contents = [*(row[1] for row in rows), *(row[0] for row in known)]
    hashes = [*(row[2] for row in rows), *(row[1] for row in known)]
    groups = crops.near_duplicate_groups(contents, hashes)
    if known:
        settled = [*(None for _ in rows), *(row[2] for row in known)]
        sides = crops.split_beside(groups, settled, settings.validation_share)
    else:
        sides = crops.split_groups(groups, settings.validation_share)
    own = groups[: len(rows)]
    return {row[0]: (key, sides[key]) for row, key in zip(rows, own, strict=True)}


def _dry_run(out: str, plan: _Plan, window_hw: tuple[int, int]) -> Outcome:
    boxes = sum(len(item) for item in (plan.truth or {}).values())
    window = f"{window_hw[1]}x{window_hw[0]}"
    pictures = plan.inputs.num_rows
    document = {"out": out, "pictures": pictures, "boxes": boxes, "window": window}
    text = (
        f"would cut crops from {pictures:,} pictures with {boxes:,} boxes, "
        f"window {window}, into {out}"
    )
    return Outcome(document, text)


def _outcome(book: ledger.Ledger, settings: CropConfig, plan: _Plan) -> Outcome:
    totals = book.totals()
    counts: dict[str, int] = {}
    for part in book.parts("crops", ["label", "split"]):
        for row in part.to_pylist():
            key = f"{row['label'] or 'background'} ({row['split']})"
            counts[key] = counts.get(key, 0) + 1
    height, width = book.plan["identity"]["settings"]["window_hw"]
    document = {
        "out": book.out,
        "fingerprint": book.fingerprint,
        "pictures": totals["rows_in"],
        "bad": totals["bad"],
        "crops": dict(sorted(counts.items())),
        "window": f"{width}x{height}",
        "warnings": list(plan.warnings),
    }
    error = fanout.too_many_bad(totals, settings.fanout)
    return Outcome(document, _describe(document), error)


def _describe(document: Mapping[str, Any]) -> str:
    lines = [f"{document['pictures']:,} pictures, window {document['window']}"]
    lines += [f"  {count:>6,} crops of {name}" for name, count in document["crops"].items()]
    lines += [
        f"  {count:>6,} pictures not used: {records.REASONS[reason]}"
        for reason, count in sorted(document["bad"].items())
    ]
    lines += [f"note: {warning}" for warning in document["warnings"][:5]]
    out = document["out"]
    return "\n".join([*lines, f"crop set: {out}", f"next:     nnst train {out} --name NAME"])
