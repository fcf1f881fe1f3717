"""One round of the loop on real pictures: what a reviewer says makes the next model better."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import bench_loop
from tests.benchmarks.bench_quality import of_csv


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_round_of_review_raises_average_precision_on_pictures_held_out(
    nnst: Callable[..., Any], shared_data: Path, tmp_path: Path
) -> None:
    """Three boxes to begin with, and a sixth of the usual training; the benchmark has it whole."""
    options = argparse.Namespace(
        held_out=0.4,
        first=3,
        answers=30,
        negatives=[shared_data / "negatives" / name for name in ("photos", "signs")],
        most=12,
        train="--epochs 2 --rounds 1",
    )

    def run(*words: object) -> dict[str, Any]:
        done = nnst(*words, "--json")
        assert done.code == 0 or words[0] == "scan", done.err  # 3: a negative cannot be read
        return dict(done.document)

    logo = of_csv(str(shared_data / "flickrlogos27" / "boxes.csv"), "Google")
    found = bench_loop.one_round(bench_loop.sides_of(logo, 0, options), tmp_path, run)
    assert found["answers"].get("yes", 0) > 0
    assert found["before"]["ap50"] > 0.3
    assert found["gain_ap50"] > 0.02, found
