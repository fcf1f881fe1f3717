"""A model that is not registered yet, run over the pictures held out of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nnst import archive, crops, images
from nnst.errors import ImageError
from nnst.ledger import Ledger
from nnst.records import Annotation
from workflows import fanout
from workflows.fanout import FanoutSettings
from workflows.progress import Progress

if TYPE_CHECKING:
    from nnst.evaluation import JudgedPicture

_SHARD = 4  # few pictures, so small shards: every worker gets some


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """What it takes to run a detector over the pictures of an archive."""

    source: str
    model_folder: str
    model_digest: str


def judge_shard(task: JudgeTask, shard: int, inputs: pa.Table) -> list[dict[str, Any]]:
    """What the detector finds in each picture that can be read, as plain lists."""
    from nnst.detector import load_detector

    detector = load_detector(task.model_folder, task.model_digest)
    rows = []
    for member in archive.stream(task.source, inputs):
        if member.data is None:
            continue
        try:
            found = detector.detect_stored(images.decode(member.data))
        except ImageError:
            continue
        labels = [detector.spec.labels[label] for label in found.labels]
        rows.append(
            {
                "image": member.image,
                "boxes": found.boxes,
                "scores": found.scores,
                "labels": labels,
            }
        )
    return rows


def judge_held_out(
    crop_sets: Sequence[Ledger],
    background: Sequence[Ledger],
    model_folder: str,
    most_background: int,
    settings: FanoutSettings,
) -> list[JudgedPicture]:
    """Held-out pictures with what the model in a folder finds in them.

    Those of the background are at most `most_background` of each set, and none of the annotated.
    """
    from nnst import models

    digest = models.digest(model_folder)
    pictures: list[JudgedPicture] = []
    for book in crop_sets:
        truth = {item.image: item for split, item in crops.read_truth(book) if split != "train"}
        inputs = _inputs_of(book.out, set(truth))
        task = JudgeTask(book.out, model_folder, digest)
        pictures += _judge(settings, task, inputs, truth)
    annotated = {item.image_id for book in crop_sets for _, item in crops.read_truth(book)}
    for book in background:
        held_out = {
            item.image: item
            for split, item in crops.read_truth(book)
            if split != "train" and item.image_id not in annotated
        }
        # By content, so that the choice does not depend on names.
        chosen = sorted(held_out.values(), key=lambda item: item.image_id)
        kept = {item.image: item for item in chosen[:most_background]}
        inputs = book.inputs()
        inputs = inputs.filter(pc.is_in(inputs["image"], pa.array(list(kept), pa.string())))
        pictures += _judge(settings, JudgeTask(book.source, model_folder, digest), inputs, kept)
    return pictures


def _inputs_of(crop_set: str, names: set[str]) -> pa.Table:
    """The annotated pictures of these names, which a crop set holds itself."""
    inputs = archive.plan(crop_set).inputs
    return inputs.filter(pc.is_in(inputs["image"], pa.array(sorted(names), pa.string())))


def _judge(
    settings: FanoutSettings, task: JudgeTask, inputs: pa.Table, truth: Mapping[str, Annotation]
) -> list[JudgedPicture]:
    from nnst.evaluation import JudgedPicture

    count = -(-inputs.num_rows // _SHARD)
    shards = {number: inputs.slice(number * _SHARD, _SHARD) for number in range(count)}
    found: dict[int, list[dict[str, Any]]] = {}
    with Progress("judge", inputs.num_rows) as progress:
        work = partial(judge_shard, task)
        for number, rows in fanout.run_tasks(work, shards, settings, progress):
            found[number] = rows
            progress.advance(shards[number].num_rows)
    return [
        JudgedPicture(
            image=row["image"],
            boxes=row["boxes"],
            scores=row["scores"],
            labels=row["labels"],
            truth=truth[row["image"]],
        )
        for number in sorted(found)
        for row in found[number]
    ]
