"""Whether scores and sizes part: the statistic, and what a scan says, records and reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from nnst import images, models
from nnst.detector import detector_of
from nnst.evaluation import drift
from nnst.evaluation.drift import Distribution
from nnst.records import Detections

Command = Callable[..., Any]

# The statistic


def test_the_distance_is_the_largest_between_the_distribution_functions() -> None:
    assert drift.distance([1, 2, 3], [1, 2, 3]) == 0
    assert drift.distance([1, 2, 3], [4, 5]) == 1
    assert drift.distance([1, 2, 3, 4], [3, 4, 5, 6]) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=60), rng.normal(0.4, 1.3, size=45)
    steps = np.concatenate([one, other])
    plain = max(abs((one <= x).mean() - (other <= x).mean()) for x in steps)
    assert drift.distance(one, other) == pytest.approx(plain)


def drawn(rng: np.random.Generator, count: int, side: float, score: float) -> Distribution:
    """A distribution of detections around a side and a score."""
    sides = rng.normal(side, side / 8, count).clip(4)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1).astype(np.float32)
    return Distribution.of(rng.normal(score, 0.05, count).clip(0, 1), boxes)


def test_equal_sources_do_not_part_and_shifted_ones_do() -> None:
    """At a level of 0.001, of 200 pairs of equal sources none or one may part by chance."""
    rng = np.random.default_rng(1)
    pairs = [(drawn(rng, 40, 50, 0.8), drawn(rng, 60, 50, 0.8)) for _ in range(200)]
    assert sum(found.parted for pair in pairs for found in drift.part(*pair).values()) <= 2
    found = drift.part(drawn(rng, 40, 80, 0.8), drawn(rng, 60, 50, 0.8))
    assert (found["scores"].parted, found["sides"].parted) == (False, True)
    found = drift.part(drawn(rng, 40, 50, 0.6), drawn(rng, 60, 50, 0.8))
    assert (found["scores"].parted, found["sides"].parted) == (True, False)


def test_a_small_difference_is_no_drift_however_many_detections_there_are() -> None:
    rng = np.random.default_rng(2)
    found = drift.part(drawn(rng, 20_000, 51, 0.8), drawn(rng, 20_000, 50, 0.8))
    assert 0 < found["sides"].distance < found["sides"].limit == drift.LEAST_DISTANCE


def test_of_few_detections_nothing_is_said() -> None:
    rng = np.random.default_rng(3)
    assert drift.part(drawn(rng, 19, 200, 0.3), drawn(rng, 500, 50, 0.8)) == {}
    assert drift.part(drawn(rng, 500, 200, 0.3), drawn(rng, 19, 50, 0.8)) == {}


def test_a_distribution_survives_its_file_and_stays_small() -> None:
    many = drawn(np.random.default_rng(4), 100_000, 50, 0.8)
    assert (many.count, len(many.scores)) == (100_000, drift.MOST_KEPT)
    assert Distribution.read(json.loads(json.dumps(many.to_dict()))) == many
    assert Distribution.read(None) is Distribution.read({"count": 1}) is None


# What a scan says


def detections(model: Any, folder: Path) -> Distribution:
    """Of what the model finds in the pictures of a folder, as a training keeps it."""
    detector = detector_of(model)
    files = [images.decode(path.read_bytes()).pixels for path in sorted(folder.iterdir())]
    found = Detections.concatenate(detector.detect_all(files, [1.0] * len(files)))
    found = found[found.scores >= model.spec.threshold]
    return Distribution.of(found.scores, found.boxes)


def pictures(folder: Path, draw: Any, wide: int) -> Path:
    """26 pictures with a mark of about that width each."""
    rng = np.random.default_rng(wide)
    folder.mkdir()
    for number in range(26):
        width = int(wide + rng.integers(-4, 5))
        height = round(width * 0.6)
        x, y = int(rng.integers(0, 220 - width)), int(rng.integers(0, 160 - height))
        pixels = draw([(x, y, x + width, y + height)], seed=number)
        (folder / f"{number}.png").write_bytes(images.encode_png(pixels))
    return folder


def test_a_scan_of_other_sizes_says_so_in_run_and_report(
    nnst: Command, draw: Any, mark_model: str, tmp_path: Path, workplace: Path
) -> None:
    """Small marks are what the model was validated on; then come large ones."""
    model = models.load(mark_model)
    seen = detections(model, pictures(tmp_path / "validation", draw, 41))
    facts = {"validation": seen.to_dict()}
    models.save(tmp_path / "drifting", model.spec, model.network.state_dict(), facts)
    told = {}
    for name, wide in (("small", 40), ("large", 120)):
        archive = pictures(tmp_path / name, draw, wide)
        words = ("--model", f"{tmp_path}/drifting/", "--out", tmp_path / f"scan-{name}")
        done = nnst("scan", archive, *words, "--set", "shard_images=13", "--json")
        assert done.code == 0, done.err
        told[name] = [line for line in done.document["drift"] if line.startswith("sizes")]
        client = MlflowClient(f"sqlite:///{workplace}/mlruns/mlflow.db")
        run = client.get_run(done.document["run_id"]).data
        assert run.metrics["drift_sides_validation"] >= 0
        again = nnst("scan", archive, *words, "--set", "shard_images=13", "--json")
        assert again.document["drift"] == done.document["drift"]
    assert told["small"] == []
    assert [line.partition(":")[0] for line in told["large"]] == [
        "sizes in pixels differ from those on the pictures it was validated on",
        f"sizes in pixels differ from those on its last scan, {tmp_path}/scan-small",
    ]
    assert run.metrics["drift_sides_last_scan"] > 0.9
    assert "sizes in pixels differ" in run.tags["drift"]
    page = Path(nnst("report", tmp_path / "scan-large", "--json").document["page"]).read_text()
    assert "Drift: sizes in pixels differ" in page
