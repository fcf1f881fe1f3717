"""Figures of a training run, as PNG bytes for its artifacts."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnst import images
from nnst.boxes import Boxes
from nnst.records import BACKGROUND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nnst.evaluation import Evaluation
    from nnst.records import Crop

MOST_KERNELS = 32
MOST_MISTAKES = 40
MOST_LAYERS = 6
SAMPLE_SIDE = 480  # pixels, of a picture among others
SCORE_BINS, CALIBRATION_BINS = 40, 10
FEWEST_IN_BIN = 3  # detections, of which a share says something

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


def precision_recall(found: Evaluation, pictures: str = "Validation pictures") -> bytes:
    """The precision-recall curve of each label on the pictures so called."""
    figure = _figure(4.4, 4)
    axes = figure.subplots()
    for item in found.labels:
        label = f"{item.label}: AP {item.ap50.value:.3f}"
        recall = np.concatenate([[0.0], item.curve.recall])
        precision = np.concatenate([item.curve.precision[:1], item.curve.precision])
        if len(item.curve.recall):
            axes.step(recall, precision, where="pre", label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"{pictures}, IoU 0.5")
    if axes.lines:
        axes.legend(loc="lower left")
    return _png(figure)


def scores(
    found: NDArray[np.float32], is_true: NDArray[np.bool_], threshold: float = math.nan
) -> bytes:
    """How often each score is given to what is a logo, and to what is none; few of many show too.

    `found` (N,) are scores from 0 to 1 and `is_true` (N,) the truth.
    """
    figure = _figure(5.2, 3.6)
    axes = figure.subplots()
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    for wanted, label, colour in ((~is_true, "no logo", "C3"), (is_true, "logo", "C0")):
        name = f"{label}: {int(wanted.sum()):,}"
        axes.hist(found[wanted], bins=edges.tolist(), color=colour, alpha=0.6, label=name)
    if not math.isnan(threshold):
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes.set(xlim=(0, 1), xlabel="score", ylabel="detections", title="Scores, IoU 0.5")
    axes.set_yscale("symlog", linthresh=1)
    axes.legend()
    return _png(figure)


def calibration(found: NDArray[np.float32], is_true: NDArray[np.bool_]) -> bytes:
    """The share of detections that are a logo against their score: the diagonal is perfect.

    A point has at least FEWEST_IN_BIN detections, and an area that grows with their number.
    """
    figure = _figure(4.4, 4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    place = np.minimum((found * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    members = [place == number for number in range(CALIBRATION_BINS)]
    members = [mine for mine in members if mine.sum() >= FEWEST_IN_BIN]
    if members:
        given = [float(found[mine].mean()) for mine in members]
        share = [float(is_true[mine].mean()) for mine in members]
        axes.scatter(given, share, s=[12 + 8 * math.sqrt(mine.sum()) for mine in members])
        axes.plot(given, share, linewidth=1)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="mean score", ylabel="share that is a logo")
    axes.set_title(f"Calibration of {len(found):,} detections")
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


def feature_maps(pixels: NDArray[np.uint8], maps: Sequence[NDArray[np.float32]]) -> bytes:
    """What each convolution makes of a crop: a row a layer, of some of its channels."""
    columns, layers = 8, maps[:MOST_LAYERS]
    figure = _figure(columns * 1.25, (len(layers) + 1) * 1.1 + 0.4)
    axes = figure.subplots(len(layers) + 1, columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    axes[0, 0].imshow(pixels, interpolation="nearest")
    axes[0, 0].set_title("the crop", fontsize=7)
    for number, (row, channels) in enumerate(zip(axes[1:], layers, strict=True), 1):
        loudest = np.argsort(-channels.std(axis=(1, 2)), kind="stable")[:columns]
        for axis, channel in zip(row, loudest, strict=False):
            axis.imshow(channels[channel], cmap="gray", interpolation="nearest")
            axis.set_title(f"layer {number}, channel {channel}", fontsize=6)
    figure.suptitle("What the convolutions make of a crop", fontsize=10)
    return _png(figure)


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, upright, with what was found in it and what is there."""

    image: str
    pixels: NDArray[np.uint8]  # (H, W, 3)
    boxes: Boxes  # (N, 4) found
    scores: NDArray[np.float32]  # (N,)
    truth: Boxes  # (M, 4)


def samples(shown: Sequence[Sample]) -> bytes:
    """Pictures with what was found (yellow) and what a person marked (white, dashed)."""
    columns = 4
    rows = max(1, math.ceil(len(shown) / columns))
    figure = _figure(columns * 2.5, rows * 2.1 + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, sample in zip(axes, shown, strict=False):
        height, width = sample.pixels.shape[:2]
        shrink = min(1.0, SAMPLE_SIDE / max(height, width))
        hw = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        axis.imshow(images.resize(sample.pixels, hw), extent=(0, width, height, 0))
        _draw_boxes(axis, sample.truth, "white", "--")
        _draw_boxes(axis, sample.boxes, "#ffe03d", "-")
        for box, score in zip(sample.boxes, sample.scores, strict=True):
            axis.text(box[0], box[1], f"{score:.2f}", fontsize=6, color="#ffe03d", va="bottom")
        axis.set_title(_tail(sample.image), fontsize=6)
    figure.suptitle("Held-out pictures: found (yellow), marked (dashed)", fontsize=10)
    return _png(figure)


def _draw_boxes(axis: Any, boxes: Boxes, colour: str, line: str) -> None:
    from matplotlib.patches import Rectangle

    for x0, y0, x1, y1 in boxes.tolist():
        axis.add_patch(
            Rectangle(
                (x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, linestyle=line, linewidth=1
            )
        )


def _tail(image: str) -> str:
    """The end of a name, which tells pictures of one folder apart; nothing of it is markup."""
    text = image if len(image) <= 34 else f"…{image[-33:]}"
    return text.replace("$", r"\$")


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
