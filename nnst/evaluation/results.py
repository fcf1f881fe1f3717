"""What goes into an evaluation and what comes out of it: settings, pictures, figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnst import boxes as boxes_
from nnst.evaluation.curves import PrecisionRecall
from nnst.records import Annotation

INTERVAL = "95 % percentile bootstrap over pictures"


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How to judge; `unlisted` says what a picture is that the truth does not list."""

    unlisted: Literal["skip", "negative"] = "skip"
    false_positives_per_picture: float = 0.1  # where `recall_at_fp_rate` is read
    false_positives_per_100_megapixels: float = 1.0  # where recall at the megapixel rate is read
    count_difficult: bool = False  # False: difficult boxes are ignored, as in PASCAL VOC
    resamples: int = 1000  # of the bootstrap; 0 gives no intervals
    seed: int = 0


DEFAULTS = EvaluationSettings()


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """What a scan says of one picture, and what the truth says of it."""

    image: str
    boxes: NDArray[np.float32]  # (N, 4) in the picture as stored
    scores: NDArray[np.float32]  # (N,)
    labels: NDArray[np.str_]  # (N,); any sequence of strings is taken
    truth: Annotation | None  # None: not listed. Without boxes: reviewed, nothing to find
    readable: bool = True  # False: the scan has no `ok` for it
    megapixels: float = 0.0  # of the picture as stored; 0 where it could not be read

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", boxes_.as_boxes(self.boxes))
        object.__setattr__(self, "scores", np.array(self.scores, dtype=np.float32).reshape(-1))
        object.__setattr__(self, "labels", np.array(self.labels, dtype=np.str_).reshape(-1))
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(f"{self.image}: boxes, scores and labels must have one length")
        for column in (self.boxes, self.scores, self.labels):
            column.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; nan where it cannot be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SizeSlice:
    """What is found of the logos of one size, at IoU 0.5; nan where there are none."""

    size: str  # small, medium or large, see `slices`
    boxes: int
    recall: float  # at the threshold
    ap50: float


@dataclass(frozen=True, slots=True)
class LabelEvaluation:
    """The figures of one label, at IoU 0.5 unless they have a 30 in their name.

    Those at the megapixel rate are recall at so many false positives per 100 megapixels. Where all
    judged pictures together allow less than one, that is recall before the first false positive.
    From `tp` on, figures are those at the threshold; without one nothing is kept.
    """

    label: str
    ap50: Estimate
    ap30: Estimate
    recall_at_fp_rate: Estimate
    recall50_at_megapixel_rate: Estimate
    recall30_at_megapixel_rate: Estimate
    image_ap: Estimate  # of whole pictures, ranked by their best score
    curve: PrecisionRecall  # where recall rises
    truth_boxes: int
    ignored_boxes: int  # ignore boxes of any label, difficult ones of this
    tp: int
    fp: int
    missed: int
    precision: float
    recall: float
    precision_interval: tuple[float, float]  # low and high, as of an Estimate
    recall_interval: tuple[float, float]
    slices: tuple[SizeSlice, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found, and all that is needed to read it.

    Means are over the labels that have truth boxes.
    """

    labels: tuple[LabelEvaluation, ...]
    map50: Estimate
    map30: Estimate
    mean_recall50_at_megapixel_rate: Estimate
    mean_recall30_at_megapixel_rate: Estimate
    threshold: float  # nan: none
    pictures: int  # judged
    megapixels: float  # of the judged
    unreadable: int  # of the judged
    unlisted: int  # of the judged as negatives
    skipped: int  # not judged, because the truth does not list them
    settings: EvaluationSettings
    interval: str = INTERVAL

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON knows it: lists for arrays, None for nan."""
        return dict(plain(asdict(self)))


def plain(value: Any) -> Any:
    """The value as JSON knows it: lists for arrays and tuples, None for nan."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and np.isnan(value):
        return None
    return float(value) if isinstance(value, np.floating) else value
