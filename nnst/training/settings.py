"""How a network is trained, as settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nnst.config import group, setting


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How far training windows stray from the crops as they were cut.

    Strengths are standard deviations unless said otherwise; 0 switches a change off.
    """

    rotate: float = setting(6.0, "degrees of rotation")
    stretch: float = setting(0.08, "relative change of aspect")
    shear: float = setting(0.05, "slant, as a tangent")
    gamma: float = setting(0.25, "log of the exponent of brightness")
    contrast: float = setting(0.2, "log of the factor of contrast")
    channel: float = setting(0.08, "log of the factor of each colour channel")
    blur: float = setting(0.3, "share of windows that are blurred")
    noise: float = setting(0.3, "share of windows that get noise")
    jpeg: float = setting(0.25, "share of windows that are compressed as JPEG")
    paste: float = setting(0.3, "share of logos that are pasted on another background")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1.0 if name in ("blur", "noise", "jpeg", "paste") else float("inf")
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be from 0 to {most:g}, got {value}")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a network is trained."""

    steps: int = setting(60, "updates in an epoch")
    logos: int = setting(48, "windows on a logo in a batch")
    near_misses: int = setting(32, "windows beside a logo in a batch")
    patches: int = setting(16, "patches of background in a batch, at most")
    hardest: float = setting(0.05, "share of the windows of background patches that teach")
    learning_rate: float = setting(2e-3, "the highest one; it warms up and falls as a cosine")
    weight_decay: float = setting(1e-3, "pull of the weights towards zero (AdamW)")
    levels_per_octave: int = setting(4, "pyramid levels to be tolerant of, as scan has")
    augment: AugmentSettings = group(AugmentSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "logos", "near_misses", "patches", "levels_per_octave"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 < self.hardest <= 1:
            raise ValueError(f"hardest must be above 0 and at most 1, got {self.hardest}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0, weight_decay 0 or more")
