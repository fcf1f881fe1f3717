"""How pictures are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from nnst.errors import ConfigError

MAX_SCALE = 8.0  # of the largest level: 64 times the picture's pixels, and nothing more to see


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How a picture is looked at. Raises ConfigError for a value that makes no sense."""

    min_width: float = 0.0  # pixels of the smallest object wanted; 0 is what the window shows
    levels_per_octave: int = 0  # 0: what the model was trained to be tolerant of
    min_score: float = 0.01
    candidates_per_megapixel: float = 12.0  # of all levels, that a scout may pass on at most
    iou_threshold: float = 0.3
    nested_threshold: float = 0.8  # share of the smaller box, see nms
    max_candidates: int = 1000  # per picture, before suppression
    max_detections: int = 300  # per picture, after it

    def __post_init__(self) -> None:
        rules = {
            "min_width must be 0 to 65,535 pixels": 0 <= self.min_width <= 65_535,
            "levels_per_octave must be 0 to 16": 0 <= self.levels_per_octave <= 16,
            "min_score must lie in [0, 1]": 0 <= self.min_score <= 1,
            "iou_threshold must lie in [0, 1]": 0 <= self.iou_threshold <= 1,
            "nested_threshold must lie in [0, 1]": 0 <= self.nested_threshold <= 1,
            "max_candidates and max_detections must be 1 or more": min(
                self.max_candidates, self.max_detections
            )
            >= 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise ConfigError(rule, "see `nnst scan --help`")
