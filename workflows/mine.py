"""`nnst mine`: a model over pictures without the logo -> a crop set of hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nnst import archive, config, crops, images, ledger, records, storage
from nnst.config import group, setting
from nnst.crops import CropSettings
from nnst.errors import ImageError
from nnst.ledger import Ledger
from nnst.records import Annotation, Receipt
from workflows import fanout, provenance
from workflows.commands import Options, Outcome
from workflows.fanout import FanoutSettings

if TYPE_CHECKING:
    from nnst.detector import Detector
    from workflows.tracking import ModelRef

CONTEXT = 1.7  # of the crops: as much as the judge sees of a box, and room to turn it


@dataclass(frozen=True, slots=True)
class MineConfig:
    """Settings of nnst mine."""

    archive: str = setting(help="pictures without the logo, or a crop set with its boxes")
    model: str = setting(help="NAME, NAME/3, NAME@alias, or a folder written with a slash")
    out: str = setting(help="the folder to write the crop set to")
    per_picture: int = setting(12, "hard negatives cut from each picture, at most")
    min_width: int = setting(0, "the smallest object wanted, in pixels; 0 is the model's own")
    validation_share: float = setting(0.2, "share of pictures held out of training, as crop does")
    shard_images: int = setting(16, "pictures in a shard")
    fanout: FanoutSettings = group(FanoutSettings)

    def __post_init__(self) -> None:
        if self.per_picture < 1 or self.shard_images < 1 or self.min_width < 0:
            raise ValueError("per_picture and shard_images must be 1 or more, min_width 0 or more")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be in [0, 1), got {self.validation_share}")


@dataclass(frozen=True, slots=True)
class MineTask:
    """All that a shard's work needs beside its inputs."""

    out: str
    source: str
    fingerprint: str
    model_folder: str
    model_digest: str
    min_width: int
    per_picture: int
    crop: CropSettings
    truth: Mapping[str, tuple[str, Annotation]]  # image -> (split, annotation); empty: no boxes
    validation_share: float


def mine_shard(task: MineTask, shard: int, inputs: pa.Table) -> Receipt:
    """Cut what the model takes for a logo out of a shard's pictures."""
    from nnst.detector import DetectorSettings, load_detector

    settings = DetectorSettings(min_width=task.min_width, min_score=0.0)
    detector = load_detector(task.model_folder, task.model_digest, settings)
    crop_rows: list[dict[str, Any]] = []
    picture_rows: list[dict[str, Any]] = []
    for member in archive.stream(task.source, inputs):
        try:
            row, found = _mine_member(task, detector, member)
        except ImageError as error:
            row, found = crops.picture_row(member.image, None, error.reason), []
        picture_rows.append(row)
        crop_rows += found
    files = ledger.write_parts(task.out, shard, crops.to_tables(picture_rows, crop_rows))
    return Receipt.of(shard, (row["status"] for row in picture_rows), files, task.fingerprint)


def run(settings: MineConfig, options: Options) -> Outcome:
    """Resolve the model, plan, look, cut, commit."""
    from workflows import tracking

    out, source = storage.absolute(settings.out), storage.absolute(settings.archive)
    model = tracking.resolve(settings.model)
    plan = archive.plan(source, settings.shard_images)
    truth, crop = _known(source)
    _check_width(settings, model)
    job = _job(settings, plan, model, source, crop)
    if options.dry_run:
        text = f"would look for hard negatives in {plan.inputs.num_rows:,} pictures with {model}"
        return Outcome({"out": out, "pictures": plan.inputs.num_rows, "model": str(model)}, text)
    if options.fresh:
        ledger.start_fresh(out)
    mined = Ledger.create(out, job)
    if not mined.is_done():
        task = MineTask(
            out=mined.out,
            source=source,
            fingerprint=mined.fingerprint,
            model_folder=model.folder,
            model_digest=model.digest,
            min_width=settings.min_width,
            per_picture=settings.per_picture,
            crop=crop,
            truth=truth,
            validation_share=settings.validation_share,
        )
        fanout.fan_out(mined, partial(mine_shard, task), settings.fanout, "mine")
    return _outcome(mined, settings, model)


def _check_width(settings: MineConfig, model: ModelRef) -> None:
    """Raise ConfigError for a smallest width that the model cannot look for."""
    from nnst import models
    from nnst.detector import DetectorSettings, detector_of

    detector_of(models.load(model.folder), DetectorSettings(min_width=settings.min_width))


def _known(source: str) -> tuple[dict[str, tuple[str, Annotation]], CropSettings]:
    """What is known of the pictures: of a crop set its boxes and its split, else nothing."""
    crop = CropSettings(context=CONTEXT)
    if not storage.exists(storage.join(source, "plan.json")):
        return {}, crop
    book = Ledger.open(source)
    if book.plan["identity"]["verb"] != "crop":
        return {}, crop
    truth = {item.image: (split, item) for split, item in crops.read_truth(book)}
    negative = book.plan["identity"]["settings"]["crop"]["negative_label"]
    return truth, replace(crop, negative_label=tuple(negative))


def _mine_member(
    task: MineTask, detector: Detector, member: archive.Member
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The picture's row, and its hard negatives' rows."""
    from nnst import mining

    if member.data is None:
        assert member.failure is not None
        raise ImageError(member.failure.reason, member.failure.detail)
    picture = images.decode(member.data)
    image_id = images.content_hash(member.data)
    none = np.zeros(0, bool)
    empty = Annotation(member.image, image_id, np.zeros((0, 4), np.float32), (), none, none)
    side = crops.side_of(image_id, task.validation_share)
    split, truth = task.truth.get(member.image, (side, empty))
    found = mining.hard_negatives(detector, picture, truth, task.per_picture, task.crop)
    facts = {
        "image_id": image_id,
        "width": picture.header.width,
        "height": picture.header.height,
        "orientation": picture.header.orientation,
        "split": split,
    }
    row = crops.picture_row(member.image, None, records.OK, **facts)
    return row, [crops.crop_row(member.image, crop, split) for crop in found]


def _job(
    settings: MineConfig,
    plan: archive.ArchivePlan,
    model: ModelRef,
    source: str,
    crop: CropSettings,
) -> ledger.Job:
    from nnst import mining, models

    spec = models.load(model.folder).spec
    deciding = ("per_picture", "min_width", "validation_share", "shard_images")
    return ledger.Job(
        verb="crop",
        inputs=plan.inputs,
        settings={name: getattr(settings, name) for name in deciding}
        | {
            "kind": "mined",
            "crop": config.to_dict(crop),
            "window_hw": list(mining.crop_window(spec)),
        },
        model={"name": model.name, "version": model.version, "digest": model.digest},
        versions=provenance.versions(),
        source=source,
        notes={"skipped": dict(plan.skipped)},
    )


def _outcome(book: Ledger, settings: MineConfig, model: ModelRef) -> Outcome:
    totals = book.totals()
    count = totals["tables"].get("crops", 0)
    document = {
        "out": book.out,
        "fingerprint": book.fingerprint,
        "model": str(model),
        "pictures": totals["rows_in"],
        "bad": totals["bad"],
        "crops": count,
    }
    lines = [
        f"{totals['rows_in']:,} pictures looked through with {model}",
        f"  {count:>6,} hard negatives cut",
        *(
            f"  {number:>6,} pictures not used: {records.REASONS[reason]}"
            for reason, number in sorted(totals["bad"].items())
        ),
        f"crop set: {book.out}",
    ]
    return Outcome(document, "\n".join(lines), fanout.too_many_bad(totals, settings.fanout))
