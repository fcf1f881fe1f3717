"""The figures of a training, put into its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnst import archive, images
from nnst.errors import ImageError
from workflows.cropsets import TrainingData
from workflows.curriculum import Learnt
from workflows.finishing import Finished
from workflows.plots import Sample

if TYPE_CHECKING:
    from nnst.evaluation import Evaluation, JudgedPicture
    from nnst.models import Model
    from nnst.training.settings import TrainingSettings
    from workflows.tracking import Run

# torch and matplotlib cost time to import: functions import what needs them.

MOST_SAMPLES = 12  # held-out pictures shown, those with the most mistakes first


def log(
    run: Run, learnt: Learnt, finished: Finished, data: TrainingData, training: TrainingSettings
) -> None:
    """Curves, kernels, what the layers see, and how good the model is, as pictures."""
    from workflows import plots

    for stage, history in learnt.histories.items():
        name = f"curves_{stage}" if stage else "curves"
        run.log_bytes(f"plots/{name}.png", plots.curves(history))
    first = next(iter(learnt.weights.values())).numpy()
    run.log_bytes("plots/kernels.png", plots.kernels(first))
    _log_crops(run, learnt, finished.model, training)
    if finished.found is not None:
        _log_judged(run, finished, finished.found)
        run.log_bytes("plots/samples.png", plots.samples(_samples(finished, data)))


def _log_crops(run: Run, learnt: Learnt, model: Model, training: TrainingSettings) -> None:
    """The crops that the deciding network is most wrong about, and what its layers make of one."""
    from nnst.models import features
    from nnst.training.epochs import score_crops
    from nnst.training.lessons import lesson_of
    from nnst.training.stores import read_stores
    from workflows import plots

    held_out = read_stores(learnt.data, learnt.spec.labels).validation
    shown = (*held_out.logos, *held_out.background)
    if not shown:
        return
    lesson, network = lesson_of(model, held_out, training)
    scores, classes = score_crops(network, lesson, shown)
    run.log_bytes("plots/mistakes.png", plots.mistakes(shown, scores, classes))
    with features.watch(network) as maps:
        score_crops(network, lesson, shown[:1])
    run.log_bytes("plots/feature_maps.png", plots.feature_maps(shown[0].pixels, maps))


def _log_judged(run: Run, finished: Finished, found: Evaluation) -> None:
    from nnst import evaluation
    from workflows import plots

    labels = [item.label for item in found.labels]
    scores, is_true, _ = evaluation.pooled(finished.pictures, labels)
    threshold = finished.model.spec.threshold
    run.log_bytes("plots/precision_recall.png", plots.precision_recall(found))
    run.log_bytes("plots/scores.png", plots.scores(scores, is_true, threshold))
    run.log_bytes("plots/calibration.png", plots.calibration(scores, is_true))


def _samples(finished: Finished, data: TrainingData) -> list[Sample]:
    """Held-out annotated pictures with what was found in them, the hardest first."""
    threshold = finished.model.spec.threshold
    judged = {each.image: each for each in finished.pictures}
    errors = {image: _mistakes(each, threshold) for image, each in judged.items()}
    hardest = sorted(judged, key=lambda image: (-errors[image], image))
    shown: dict[str, Sample] = {}
    for book in data.sets:
        inputs = archive.plan(book.out).inputs
        wanted = pa.array([image for image in hardest if image not in shown], pa.string())
        inputs = inputs.filter(pc.is_in(inputs["image"], value_set=wanted))
        ranks = {image: rank for rank, image in enumerate(hardest)}
        chosen = sorted(inputs["image"].to_pylist(), key=ranks.__getitem__)[:MOST_SAMPLES]
        inputs = inputs.filter(pc.is_in(inputs["image"], value_set=pa.array(chosen, pa.string())))
        for member in archive.stream(book.out, inputs):
            if member.data is not None:
                shown |= _sample(member.image, member.data, judged[member.image], threshold)
    return [shown[image] for image in hardest if image in shown][:MOST_SAMPLES]


def _mistakes(picture: JudgedPicture, threshold: float) -> int:
    """False detections and missed boxes at the threshold, whatever the label."""
    from nnst import evaluation

    kept = picture.scores >= np.float32(threshold)
    truth = picture.truth
    if truth is None:
        return int(kept.sum())
    aside = truth.ignore | truth.difficult
    matched = evaluation.match(picture.boxes[kept], picture.scores[kept], truth.boxes, aside, 0.5)
    false = int((~matched.tp & ~matched.ignored).sum())
    return false + int((~aside).sum()) - int(matched.tp.sum())


def _sample(image: str, data: bytes, picture: JudgedPicture, threshold: float) -> dict[str, Sample]:
    """The picture as it is looked at, under its name; nothing if it cannot be decoded."""
    try:
        decoded = images.decode(data)
    except ImageError:
        return {}
    turn = decoded.header.orientation
    stored_hw = (decoded.pixels.shape[0], decoded.pixels.shape[1])
    kept = picture.scores >= np.float32(threshold)
    truth: Any = picture.truth.boxes if picture.truth is not None else picture.boxes[:0]
    boxes, drawn = (
        images.boxes_upright(each, stored_hw, turn) for each in (picture.boxes[kept], truth)
    )
    pixels = images.upright(decoded.pixels, turn)
    return {image: Sample(image, pixels, boxes, picture.scores[kept], drawn)}
