"""A shard of a scan: its pictures are read, looked at, and written as rows. Runs in workers.

Reading and scoring may be tasks of their own, so that CPUs of other machines decode for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from nnst import archive, images, ledger, records
from nnst.errors import ImageError
from nnst.records import Receipt
from workflows.earlier import Row, earlier_scan
from workflows.fanout import care, meters

if TYPE_CHECKING:
    from nnst.detector import Detector
    from nnst.images import Decoded, Picture
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
    since: str = ""  # the folder of an earlier scan whose rows are taken over


@dataclass(frozen=True, slots=True)
class Read:
    """A member of an archive, before it is looked at."""

    row: Row  # what is known of it
    detections: list[Row]  # of an earlier scan
    picture: Picture | None  # None where it cannot be read, or has been scanned before


def scan_shard(task: ScanTask, shard: int, inputs: pa.Table) -> Receipt:
    """Write one row a picture and one a detection; pictures are scored unless they were before."""
    return score_shard(task, shard, read_shard(task, shard, inputs))


def read_shard(task: ScanTask, shard: int, inputs: pa.Table) -> Iterator[Read]:
    """Each of the shard's members, decoded. What cannot be read has a reason in its row."""
    # Where there is no GPU to score with, this loads the model for the one number that it needs.
    yield from _read(task, archive.stream(task.source, inputs), _detector(task).reduction)


def score_shard(task: ScanTask, shard: int, inputs: Iterable[Read]) -> Receipt:
    """Look at what was read, and write the rows."""
    image_rows: list[Row] = []
    detection_rows: list[Row] = []
    for whole, found in _looked_at(task, inputs):
        image_rows.append(whole)
        detection_rows += found
    tables = {
        "images": pa.Table.from_pylist(image_rows, schema=records.IMAGES),
        "detections": pa.Table.from_pylist(detection_rows, schema=records.DETECTIONS),
    }
    with meters.current().stopwatch.stage("write"):
        files = ledger.write_parts(task.out, shard, tables)
    return Receipt.of(shard, (row["status"] for row in image_rows), files, task.fingerprint)


def _looked_at(task: ScanTask, members: Iterable[Read]) -> Iterator[tuple[Row, list[Row]]]:
    """The row of each member and those of its detections, in order."""
    from nnst.detector import batches

    detector = _detector(task)
    # Fewer at once where memory ran out before: a picture's rows do not depend on its company.
    at_once = detector.at_once // care.current().split
    for some in batches(((member, member.picture) for member in members), at_once):
        seen = [picture for _, picture in some if picture is not None]
        images.still_at_work()  # where pictures come decoded, nothing else says so
        with meters.current().stopwatch.stage("score"):
            found = iter(detector.detect_pictures(seen))
        for member, picture in some:
            if picture is None:
                yield member.row, member.detections
            else:
                yield _rows(task, detector, member.row, next(found))


def _detector(task: ScanTask) -> Detector:
    """The detector, loaded once for each worker process and not once for each shard."""
    from nnst.detector import DetectorSettings, load_detector

    settings = DetectorSettings(
        min_width=task.min_width,
        levels_per_octave=task.levels_per_octave,
        iou_threshold=task.iou_threshold,
    )
    return load_detector(task.model_folder, task.model_digest, settings)


def _read(task: ScanTask, members: Iterable[archive.Member], reduction: int) -> Iterator[Read]:
    """As `read_shard`, with the sides of pictures divided by the reduction."""
    tally, decoders = meters.current(), care.current().decoders
    with images.decoders(decoders, reduction) as decoding:
        begun = _begun(task, members, decoding)
        for (row, rows), decoded in images.ahead(begun, decoders):
            if decoded is None:
                yield Read(row, rows, None)
                continue
            try:
                with tally.stopwatch.stage("decode"):
                    picture = decoded()
            except ImageError as error:
                yield Read(row | {"status": error.reason}, [], None)
                continue
            tally.add("nnst_megapixels", picture.pixels.shape[0] * picture.pixels.shape[1] / 1e6)
            size = {"width": picture.header.width, "height": picture.header.height}
            yield Read(row | size | {"status": records.OK}, [], picture)


def _begun(
    task: ScanTask, members: Iterable[archive.Member], decoding: Callable[[bytes], Decoded]
) -> Iterator[tuple[tuple[Row, list[Row]], Decoded | None]]:
    """What is known of each member without its pixels, and what gives them if they are wanted."""
    before = earlier_scan(task.since) if task.since else None
    for member in meters.current().stopwatch.each("read", members):
        row: Row = {"image": member.image, "detections": 0}
        if member.data is None:
            assert member.failure is not None
            yield (row | {"status": member.failure.reason}, []), None
            continue
        row["image_id"] = images.content_hash(member.data)
        known = before and before.rows(row["image_id"], member.image, task.model_name)
        if known:
            yield known, None
        else:
            yield (row, []), decoding(member.data)


def _rows(task: ScanTask, detector: Detector, row: Row, found: Detections) -> tuple[Row, list[Row]]:
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
