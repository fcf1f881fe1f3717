"""How a network is trained, as settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nnst.config import group, setting

_SHARES = ("occlude", "blur", "noise", "jpeg", "paste")


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How far training windows stray from the crops as they were cut.

    Strengths are standard deviations unless said otherwise; 0 switches a change off.
    """

    rotate: float = setting(7.0, "degrees of rotation")
    stretch: float = setting(0.08, "relative change of aspect")
    shear: float = setting(0.05, "slant, as a tangent")
    perspective: float = setting(0.06, "how much nearer one side is than the middle")
    gamma: float = setting(0.25, "log of the exponent of brightness")
    contrast: float = setting(0.2, "log of the factor of contrast")
    channel: float = setting(0.08, "log of the factor of each colour channel")
    occlude: float = setting(0.1, "share of windows with something before a part of them")
    blur: float = setting(0.3, "share of windows that are blurred")
    noise: float = setting(0.3, "share of windows that get noise")
    jpeg: float = setting(0.25, "share of windows that are compressed as JPEG")
    paste: float = setting(0.3, "share of logos that are pasted on another background")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1.0 if name in _SHARES else float("inf")
            if not 0 <= value <= most:
                raise ValueError(f"{name} must be from 0 to {most:g}, got {value}")


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a network is trained."""

    steps: int = setting(60, "updates in an epoch")
    accumulate: int = setting(1, "batches for one update, where a large one finds no memory")
    logos: int = setting(64, "patches with a logo in a batch")
    background: int = setting(48, "patches of background in a batch")
    strays: float = setting(0.25, "share of logos at a size that another level would show")
    near: int = setting(24, "of a judge's batch: boxes on a logo as the scout gives them")
    moved: int = setting(8, "of a judge's batch: boxes as the judge moves them")
    far: int = setting(12, "of a judge's batch: boxes well off")
    candidates: int = setting(52, "of a judge's batch: boxes on background")
    hard_share: float = setting(0.0667, "share of the background that makes up half of these")
    hardest: float = setting(0.05, "share of the windows of background patches that teach")
    learning_rate: float = setting(2e-3, "the highest one; it warms up and falls as a cosine")
    bfloat16: bool = setting(True, "whether layers compute with 16 bits: twice as fast")
    weight_decay: float = setting(1e-3, "pull of the weights towards zero (AdamW)")
    augment: AugmentSettings = group(AugmentSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "logos", "background"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 < self.hardest <= 1:
            raise ValueError(f"hardest must be above 0 and at most 1, got {self.hardest}")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be above 0, weight_decay 0 or more")
