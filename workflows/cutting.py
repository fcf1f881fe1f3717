"""A shard of a crop set: its pictures are hashed for the split, cut, and written. In workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from nnst import archive, crops, images, ledger, records, storage
from nnst.crops import CropSettings
from nnst.errors import ImageError
from nnst.records import Annotation, Crop, Receipt


@dataclass(frozen=True, slots=True)
class CropTask:
    """All that a shard's work needs beside its inputs."""

    out: str
    source: str
    fingerprint: str
    window_hw: tuple[int, int]
    settings: CropSettings
    truth: Mapping[str, Annotation] | None  # None: every picture is background
    split: Mapping[str, tuple[str, str]]  # image -> (group, split); empty for background
    validation_share: float


def crop_shard(task: CropTask, shard: int, inputs: pa.Table) -> Receipt:
    """Cut the crops of a shard's pictures and write them, and the pictures, as parts."""
    crop_rows: list[dict[str, Any]] = []
    picture_rows: list[dict[str, Any]] = []
    for member in archive.stream(task.source, inputs):
        truth = task.truth[member.image] if task.truth is not None else None
        try:
            facts, cuts = _cut_member(task, member, truth)
        except ImageError as error:
            picture_rows.append(crops.picture_row(member.image, truth, error.reason))
            continue
        picture_rows.append(crops.picture_row(member.image, truth, records.OK, **facts))
        crop_rows += [crops.crop_row(member.image, crop, facts["split"]) for crop in cuts]
        if truth is not None:
            _write_look(task, member.image, cuts)
    files = ledger.write_parts(task.out, shard, crops.to_tables(picture_rows, crop_rows))
    return Receipt.of(shard, (row["status"] for row in picture_rows), files, task.fingerprint)


def hash_shard(source: str, shard: int, inputs: pa.Table) -> list[tuple[str, str, int]]:
    """(image, image_id, perceptual hash) of each readable picture of a shard."""
    rows: list[tuple[str, str, int]] = []
    for member in archive.stream(source, inputs):
        try:
            data = _bytes(member)
            picture = images.decode(data)
        except ImageError:
            continue  # its row and reason come when it is cut
        upright = images.upright(picture.pixels, picture.header.orientation)
        rows.append((member.image, images.content_hash(data), images.perceptual_hash(upright)))
    return rows


def _bytes(member: archive.Member) -> bytes:
    """The member's bytes. Raises ImageError with the reason why there are none."""
    if member.data is None:
        assert member.failure is not None
        raise ImageError(member.failure.reason, member.failure.detail)
    return member.data


def _cut_member(
    task: CropTask, member: archive.Member, truth: Annotation | None
) -> tuple[dict[str, Any], list[Crop]]:
    """What the picture's row says beside its truth, and its crops."""
    data = _bytes(member)
    picture = images.decode(data)
    image_id = images.content_hash(data)
    orientation = picture.header.orientation
    none = np.zeros(0, bool)
    background = Annotation(member.image, image_id, np.zeros((0, 4), np.float32), (), none, none)
    annotation = replace(truth, image_id=image_id) if truth is not None else background
    cuts = crops.cut_crops(picture.pixels, orientation, annotation, task.window_hw, task.settings)
    near, split = task.split.get(member.image) or (
        image_id,
        crops.side_of(image_id, task.validation_share),
    )
    upright = images.upright(picture.pixels, orientation)
    facts = {
        "image_id": image_id,
        "width": picture.header.width,
        "height": picture.header.height,
        "orientation": orientation,
        "perceptual_hash": f"{images.perceptual_hash(upright):016x}",
        "group": near,
        "split": split,
        "bytes": data if truth is not None else None,  # background is read where it lies
    }
    return facts, list(cuts)


def _write_look(task: CropTask, image: str, cuts: Sequence[Crop]) -> None:
    """Small pictures by label, for people to see what will be learnt."""
    stem = storage.safe_name(image.rpartition(".")[0].replace("/", "-"), 60)
    mark = storage.sha256(image.encode())[:6]  # two names may give one stem
    for index, crop in enumerate(cuts):
        folder = storage.safe_name(crop.label) if crop.label else "background"
        path = storage.join(task.out, "look", folder, f"{stem}-{mark}-{index:03d}.png")
        storage.put(path, images.encode_png(crops.picture_to_look_at(crop, task.window_hw)))
