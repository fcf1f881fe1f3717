"""How little a scout may be sure of what it passes on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nnst import models
from nnst.models import Network
from nnst.records import Crop, ModelSpec
from nnst.training import pointing
from nnst.training.batches import CropStore
from nnst.training.lessons import WindowLesson
from nnst.training.settings import TrainingSettings

SPEC = ModelSpec("scout", ("background", "object"), (16, 24), 4, levels_per_octave=1)
SETTINGS = TrainingSettings()


class Brightness(Network):
    """Sees a logo, surely or less so, in what is bright."""

    def __init__(self, odds: Callable[[Tensor], Tensor]) -> None:
        super().__init__(SPEC, models.build(SPEC).layers)
        self._odds = odds

    def forward(self, pixels: Tensor) -> Tensor:
        windows = pixels.float().mean(1, keepdim=True).unfold(2, 16, 4).unfold(3, 24, 4)
        odds = self._odds(windows.mean(dim=(4, 5)) / 255)
        return torch.cat([torch.zeros_like(odds), odds], dim=1)


def lesson() -> WindowLesson:
    """One white logo of the window's shape on black."""
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[24:56, 36:84] = 255
    box = np.array([36, 24, 84, 56], np.float32)
    logo = Crop(pixels, "mark", "positive", "ab" * 32, box, box)
    nothing = Crop(np.zeros_like(pixels), "", "negative", "cd" * 32, box, box)
    return WindowLesson(SPEC, CropStore.of([logo, nothing], ("background", "mark")), SETTINGS)


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def threshold(odds: Callable[[Tensor], Tensor], seed: int = 0) -> float:
    return log_odds(pointing.scout_threshold(Brightness(odds), lesson(), SETTINGS, seed))


def test_it_lies_a_margin_below_what_is_said_of_hardly_any_logo() -> None:
    """A window that shows a logo as well as it gets between windows and levels is mostly bright."""
    found = threshold(lambda bright: 4 * bright)
    assert 4 * 0.45 - pointing.MARGIN < found < 4 * 0.95 - pointing.MARGIN


def test_a_scout_that_is_sure_of_every_logo_gets_no_more_than_the_highest() -> None:
    assert threshold(lambda bright: 90 * bright) == pytest.approx(pointing.WIDEST)


def test_a_scout_that_knows_nothing_gets_no_less_than_the_lowest() -> None:
    assert threshold(lambda bright: 0 * bright - 50) == pytest.approx(-pointing.WIDEST)


def test_what_it_says_of_background_does_not_matter() -> None:
    one = threshold(lambda bright: 4 * bright)
    other = threshold(lambda bright: torch.where(bright < 0.01, torch.tensor(50.0), 4 * bright))
    assert one == other


def test_the_same_seed_gives_the_same_threshold() -> None:
    one, same, other = (threshold(lambda bright: 4 * bright, seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
