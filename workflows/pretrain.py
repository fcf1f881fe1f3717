"""`nnst pretrain`: drawn word marks -> the convolutions that every judge begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nnst import archive, crops, images, storage
from nnst.config import setting
from nnst.crops import CropSettings
from nnst.errors import ImageError, InputError
from nnst.records import Annotation
from workflows.commands import Options, Outcome
from workflows.progress import Progress

if TYPE_CHECKING:
    from nnst.images import Pixels
    from nnst.training.batches import CropStore

ASPECT = 2.0  # of the marks, about; convolutions do not mind another one later


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """Settings of nnst pretrain."""

    marks: str = setting(help="a folder of word marks as SVG files")
    background: str = setting(help="an archive of photographs without these marks")
    out: str = setting(help="the file to write, judge.safetensors")
    leave_out: tuple[str, ...] = setting((), "parts of names of marks not to learn; repeatable")
    each: int = setting(16, "drawings of each mark")
    crops: int = setting(8, "background crops cut from each photograph")
    epochs: int = setting(45, "rounds of training")
    seed: int = setting(0, "decides drawings and weights")


def run(settings: PretrainConfig, options: Options) -> Outcome:
    """Draw, train in this process, write."""
    import torch

    from nnst.models import layout, pretrained
    from nnst.models.norms import learner
    from nnst.training import epochs
    from nnst.training.lessons import JudgeLesson, Place
    from nnst.training.settings import TrainingSettings

    store = _store(settings)
    if options.dry_run:
        text = f"would learn {len(store.labels) - 1} marks from {len(store.logos):,} drawings"
        return Outcome({"marks": len(store.labels) - 1, "drawings": len(store.logos)}, text)
    scout, judge = layout.cascade_spec(store.labels, ASPECT).stages
    taught = TrainingSettings(near=40, candidates=36)
    taught = replace(taught, augment=replace(taught.augment, paste=0.1))
    lesson = JudgeLesson(scout, judge, store, taught)
    network = learner(judge, settings.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = epochs.make_optimiser(network, taught)
    row: dict[str, float] = {}
    with Progress("pretrain", settings.epochs, unit="epochs") as progress:
        for epoch in range(settings.epochs):
            place = Place(settings.seed, epoch, settings.epochs)
            row = epochs.run_epoch(network, optimiser, lesson, taught, place)
            progress.advance(1)
    data = pretrained.of(network.state_dict())
    storage.put(settings.out, data)
    document = {"out": settings.out, "bytes": len(data), "marks": len(store.labels) - 1, **row}
    text = f"{settings.out}: {len(data):,} bytes, loss {row.get('loss', 0):.3f} at the end"
    return Outcome(document, text)


def _store(settings: PretrainConfig) -> CropStore:
    """The drawn marks, each a class, and the background."""
    from nnst.models import layout
    from nnst.scenes import marks
    from nnst.training.batches import CropStore

    photographs = list(_photographs(settings.background))
    found = [
        mark
        for mark in marks.read_marks(settings.marks)
        if not any(part in mark.name for part in settings.leave_out)
    ]
    drawn = list(marks.drawn_crops(found, photographs, settings.each, settings.seed))
    labels = ("background", *(mark.name for mark in found))
    window_hw = layout.cascade_spec(labels, ASPECT).window_hw
    none = np.zeros(0, bool)
    cut = CropSettings(negatives=settings.crops, context=2.5)
    background = [
        crop
        for index, pixels in enumerate(photographs)
        for crop in crops.cut_crops(
            pixels,
            1,
            Annotation(str(index), str(index), np.zeros((0, 4), np.float32), (), none, none),
            window_hw,
            cut,
        )
    ]
    return CropStore.of([*drawn, *background], labels)


def _photographs(source: str) -> list[Pixels]:
    found = []
    inputs = archive.plan(storage.absolute(source)).inputs
    for member in archive.stream(storage.absolute(source), inputs):
        try:
            if member.data is not None:
                found.append(images.decode(member.data).pixels)
        except ImageError:
            continue
    if not found:
        raise InputError(f"{source} holds no picture that can be read", "give photographs")
    return found
