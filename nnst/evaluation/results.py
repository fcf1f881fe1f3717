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
class LabelEvaluation:
    """The figures of one label. All but `ap30` are at IoU 0.5; the last five at the threshold."""

    label: str
    ap50: Estimate
    ap30: Estimate
    recall_at_fp_rate: Estimate
    image_ap: Estimate  # of whole pictures, ranked by their best score
    curve: PrecisionRecall  # where recall rises
    truth_boxes: int
    ignored_boxes: int  # ignore boxes of any label, difficult ones of this
    tp: int
    fp: int
    missed: int
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found, and all that is needed to read it."""

    labels: tuple[LabelEvaluation, ...]
    map50: Estimate  # mean over the labels that have truth boxes
    threshold: float
    pictures: int  # judged
    unreadable: int  # of the judged
    unlisted: int  # of the judged as negatives
    skipped: int  # not judged, because the truth does not list them
    settings: EvaluationSettings
    interval: str = INTERVAL

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON knows it: lists for arrays, None for nan."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and np.isnan(value):
        return None
    return float(value) if isinstance(value, np.floating) else value
