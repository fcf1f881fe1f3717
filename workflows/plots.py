"""Figures of a training run, as PNG bytes for its artifacts."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnst.records import BACKGROUND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nnst.evaluation import Evaluation
    from nnst.records import Crop

MOST_KERNELS = 32
MOST_MISTAKES = 40

# matplotlib costs half a second to import: functions import it. `Figure` by itself needs no
# display and keeps no global state, as pyplot would.


def curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Loss and average precision against the epoch."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        left.plot(epochs, [row[name] for row in history], label=label)
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    left.legend()
    right.plot(epochs, [row["validation_window_ap"] for row in history], color="C2")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="epoch", ylim=(0, 1.02), title="Average precision of validation windows")
    return _png(figure)


def precision_recall(found: Evaluation) -> bytes:
    """The precision-recall curve of each label on the validation pictures."""
    figure = _figure(4.4, 4)
    axes = figure.subplots()
    for item in found.labels:
        label = f"{item.label}: AP {item.ap50.value:.3f}"
        recall = np.concatenate([[0.0], item.curve.recall])
        precision = np.concatenate([item.curve.precision[:1], item.curve.precision])
        if len(item.curve.recall):
            axes.step(recall, precision, where="pre", label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("Validation pictures, IoU 0.5")
    if axes.lines:
        axes.legend(loc="lower left")
    return _png(figure)


def learning_curve(points: Sequence[Mapping[str, Any]]) -> bytes:
    """Average precision, with its interval, against the number of boxes learnt from.

    A point has `boxes`, and `ap50` and `ap30` with value, low and high, None where not known.
    """
    figure = _figure(5.2, 3.6)
    axes = figure.subplots()
    boxes = [point["boxes"] for point in points]
    for name, label in (("ap50", "IoU 0.5"), ("ap30", "IoU 0.3")):
        # None becomes nan, which is not drawn.
        value, low, high = (
            np.array([point[name][key] for point in points], dtype=np.float64)
            for key in ("value", "low", "high")
        )
        (line,) = axes.plot(boxes, value, marker="o", label=label)
        axes.fill_between(boxes, low, high, color=line.get_color(), alpha=0.15)
    axes.set(xlim=(0, None), ylim=(0, 1.02), xlabel="boxes learnt from", ylabel="average precision")
    axes.set_title("Pictures that the model was not trained on")
    axes.legend(loc="lower right")
    return _png(figure)


def kernels(weights: NDArray[np.float32]) -> bytes:
    """The first layer's (C, 3, h, w) kernels as small pictures, each stretched to its own range."""
    chosen = weights[:MOST_KERNELS].transpose(0, 2, 3, 1)  # (C, h, w, 3)
    pictures = [(kernel - kernel.min()) / max(np.ptp(kernel), 1e-9) for kernel in chosen]
    titles = [""] * len(pictures)
    return _sheet(pictures, titles, f"First layer: {len(pictures)} of {len(weights)} kernels")


def mistakes(
    crops: Sequence[Crop], scores: NDArray[np.float64], classes: NDArray[np.int64]
) -> bytes:
    """The validation crops that the network is most wrong about, worst first.

    `scores` (N, K) are probabilities, `classes` (N,) the truth.
    """
    right = scores[np.arange(len(classes)), classes]
    worst = np.argsort(right, kind="stable")[:MOST_MISTAKES]
    pictures: list[NDArray[Any]] = [crops[i].pixels for i in worst]
    titles = [
        f"{'background' if classes[i] == BACKGROUND else crops[i].label} {right[i]:.2f}"
        for i in worst
    ]
    return _sheet(
        pictures, titles, "Validation crops with the least probability of their own class"
    )


def _sheet(pictures: Sequence[NDArray[Any]], titles: Sequence[str], title: str) -> bytes:
    columns = 8
    rows = max(1, math.ceil(len(pictures) / columns))
    figure = _figure(columns * 1.25, rows * 1.35 + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, picture, text in zip(axes, pictures, titles, strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(text, fontsize=7)
    figure.suptitle(title, fontsize=10)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()
