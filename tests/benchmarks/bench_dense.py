"""Scoring a level in one pass against scoring its windows one by one in batches: both in MP/s.

The same network, the same windows, the same number of threads. Run it from the project's root:

    python -m tests.benchmarks.bench_dense [--megapixels 2] [--threads 1] [--batch 256] [--json]

A megapixel is a million pixels of the level. Exits 1 unless all scores (probabilities)
agree to 1e-5.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nnst import windows
from nnst.models import networks
from nnst.records import ModelSpec

TALK_WINDOW_HW = (22, 75)


def fastest(score: Callable[[], windows.ScoreMap], repeats: int) -> tuple[float, windows.ScoreMap]:
    """Seconds of the fastest of some runs, and the scores."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        scores = score()
        seconds.append(time.perf_counter() - start)
    return min(seconds), scores


def measure(architecture: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    spec = ModelSpec(architecture, ("", "logo"), TALK_WINDOW_HW, 4)
    network = networks.build(spec).eval().to(memory_format=torch.channels_last)
    height = round((options.megapixels * 1e6 * 3 / 4) ** 0.5)
    hw = (height, round(options.megapixels * 1e6 / height))
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    windows.score_map(network, pixels[:300])  # the first pass also builds kernels
    dense_s, dense = fastest(lambda: windows.score_map(network, pixels), repeats=3)
    plain_s, plain = fastest(
        lambda: windows.score_windows_one_by_one(network, pixels, options.batch), repeats=1
    )
    difference = np.abs(windows.probabilities(dense, spec) - windows.probabilities(plain, spec))
    megapixels = hw[0] * hw[1] / 1e6
    return {
        "architecture": architecture,
        "megapixels": round(megapixels, 3),
        "windows": dense.shape[1] * dense.shape[2],
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "dense_mp_per_s": round(megapixels / dense_s, 4),
        "one_by_one_mp_per_s": round(megapixels / plain_s, 4),
        "ratio": round(plain_s / dense_s, 1),
        "largest_logit": float(np.abs(plain).max()),
        "largest_difference_of_logits": float(np.abs(dense - plain).max()),
        "largest_difference_of_scores": float(difference.max()),
    }


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--architecture", choices=networks.ARCHITECTURES, default="lenet")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = measure(options.architecture, options)
    if options.json:
        print(json.dumps(row))
    else:
        for name, value in row.items():
            print(f"{name:30} {value}")
    return 0 if row["largest_difference_of_scores"] <= 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
