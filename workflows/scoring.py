"""A shard of a scan: its pictures are read, looked at, and written as rows. Runs in workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from nnst import archive, images, ledger, records
from nnst.errors import ImageError
from nnst.records import Receipt

if TYPE_CHECKING:
    from nnst.detector import Detector
    from nnst.images import Picture
    from nnst.records import Detections

# torch costs seconds to import: functions import what needs it.


@dataclass(frozen=True, slots=True)
class ScanTask:
    """All that a shard's work needs beside its inputs."""

    out: str
    source: str
    fingerprint: str
    model_folder: str
    model_digest: str
    model_name: str  # NAME/VERSION, as it goes into the rows
    min_width: int
    levels_per_octave: int
    iou_threshold: float


def scan_shard(task: ScanTask, shard: int, inputs: pa.Table) -> Receipt:
    """Score every picture of a shard and write one row a picture and one a detection."""
    from nnst.detector import batches

    detector = _detector(task)
    image_rows: list[dict[str, Any]] = []
    detection_rows: list[dict[str, Any]] = []
    bad: dict[str, int] = {}
    for some in batches(_read(archive.stream(task.source, inputs), detector.reduction)):
        seen = [picture for _, picture in some if picture is not None]
        found = iter(detector.detect_pictures(seen))
        for row, picture in some:
            if picture is None:
                bad[row["status"]] = bad.get(row["status"], 0) + 1
                image_rows.append(row)
                continue
            whole, rows = _rows(task, detector, row, next(found))
            image_rows.append(whole)
            detection_rows += rows
    files = tuple(
        ledger.write_part(task.out, name, shard, pa.Table.from_pylist(rows, schema=schema))
        for name, rows, schema in (
            ("images", image_rows, records.IMAGES),
            ("detections", detection_rows, records.DETECTIONS),
        )
    )
    count, failed = len(image_rows), sum(bad.values())
    return Receipt(shard, count, count - failed, failed, files, task.fingerprint, bad)


def _detector(task: ScanTask) -> Detector:
    """The detector, loaded once for each worker process and not once for each shard."""
    from nnst.detector import DetectorSettings, load_detector

    settings = DetectorSettings(
        min_width=task.min_width,
        levels_per_octave=task.levels_per_octave,
        iou_threshold=task.iou_threshold,
    )
    return load_detector(task.model_folder, task.model_digest, settings)


def _read(
    members: Iterable[archive.Member], reduction: int
) -> Iterator[tuple[dict[str, Any], Picture | None]]:
    """The row of each member so far, and its picture; what cannot be read has a reason instead."""
    for member in members:
        row: dict[str, Any] = {"image": member.image, "detections": 0}
        if member.data is None:
            assert member.failure is not None
            yield row | {"status": member.failure.reason}, None
            continue
        row["image_id"] = images.content_hash(member.data)
        try:
            picture = images.decode(member.data, reduction=reduction)
        except ImageError as error:
            yield row | {"status": error.reason}, None
            continue
        header = picture.header
        yield row | {"width": header.width, "height": header.height, "status": records.OK}, picture


def _rows(
    task: ScanTask, detector: Detector, row: dict[str, Any], found: Detections
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The whole row of a picture that was looked at, and its detections' rows."""
    labels = detector.spec.labels
    detections = [
        {
            "image": row["image"],
            "image_id": row["image_id"],
            **dict(zip(("x0", "y0", "x1", "y1"), box.tolist(), strict=True)),
            "score": score,
            "label": labels[label],
            "model": task.model_name,
        }
        for box, score, label in zip(
            found.boxes, found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    row |= {"detections": len(found), "score": max(found.scores.tolist(), default=None)}
    return row, detections
