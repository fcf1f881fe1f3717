"""The threshold of a scout: how little it may be sure of what it passes on to the judge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from nnst.models import Network
from nnst.records import BACKGROUND
from nnst.training.batches import STILL, draw_batch
from nnst.training.lessons import WindowLesson, batch_settings
from nnst.training.settings import TrainingSettings

VIEWS = 400  # of the logos, each somewhere between the windows of a scan
SELDOM = 0.02  # share of them that may fall below the threshold's margin
MARGIN = 1.5  # log-odds, as logos that were not learnt from are less clear
WIDEST = 3.0  # log-odds: less is never asked for, nor more


def scout_threshold(
    network: Network, lesson: WindowLesson, settings: TrainingSettings, seed: int = 0
) -> float:
    """A probability that hardly any logo stays below, wherever it lies between windows and levels.

    The best window of each view counts, as in a scan.
    """
    wanted = batch_settings(network.spec, replace(settings, augment=STILL, strays=0.0), 1)
    wanted = replace(wanted, logos=VIEWS, background=1)
    batch = draw_batch(lesson.store, wanted, (seed, 0, 0, 0))
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(batch.patches)).float().cpu().numpy()
    odds = np.where(batch.targets == BACKGROUND, -np.inf, logits[:, 1] - logits[:, 0])
    best = odds.reshape(len(odds), -1).max(axis=1)
    best = np.append(best[np.isfinite(best)], WIDEST)  # few views show too little of a logo
    least = float(np.quantile(best, SELDOM)) - MARGIN
    return 1 / (1 + math.exp(-min(max(least, -WIDEST), WIDEST)))
