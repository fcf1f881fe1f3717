"""How much faster two training workers are than one, and that each time the weights are the same.

The scout and the judge of a cascade are fitted as `nnst train` fits them, by one worker and by two
in turn, on one Ray of this machine. An epoch is the time from the end of one to the end of the
next, checkpoint and validation included; the fastest of the repeats counts. Without crop sets the
demo's scenes are drawn and cut. Run it from the project's root, on two quiet cores:

    python -m tests.benchmarks.bench_workers [CROPS...] [--epochs 5] [--repeats 2]

The ratio is that of two workers to one: 0.5 would be all that there is to gain, 0.6 is wanted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnst import scenes, storage
from nnst.models import layout
from nnst.records import ModelSpec
from nnst.training.settings import TrainingSettings
from workflows import cropsets, fanout, trainer
from workflows.__main__ import dispatch
from workflows.cropsets import TrainingData
from workflows.fanout import FanoutSettings
from workflows.trainer import Crew, FitTask

SCENES = 40
STAGES = ("scout", "judge")


@dataclass(frozen=True)
class Fit:
    """One training: seconds of an epoch, and the weights."""

    epoch_s: float
    weights: Mapping[str, torch.Tensor]


def drawn(folder: Path) -> str:
    """A crop set of the demo's scenes."""
    for _ in scenes.write(str(folder), scenes.SETS[0], SCENES, 0):
        pass
    out = str(folder / "crops")
    truth = (str(folder / "scenes" / "truth.xml"),)
    dispatch("crop", {"truth": truth, "negative_label": (scenes.OTHER,), "out": out})
    return out


def opened(crops: Sequence[str], folder: Path) -> TrainingData:
    wanted = cropsets.Wanted(tuple(crops), "", 0, str(folder), FanoutSettings())
    return cropsets.open_sets(wanted, dry_run=False)


def task_of(stage: str, data: TrainingData, folder: Path, options: argparse.Namespace) -> FitTask:
    """What `nnst train` has its workers do at this stage."""
    height, width = data.window_hw
    spec: ModelSpec = layout.cascade_spec(data.labels, width / height)
    scout, judge = spec.stages
    return FitTask(
        folder=str(folder),
        data=data.crop_data(1.0),
        labels=data.labels,
        spec=scout if stage == "scout" else judge,
        settings=TrainingSettings(steps=options.steps),
        epochs=options.epochs,
        seed=0,
        scout=None if stage == "scout" else scout,
        pretrained=stage == "judge",
    )


def fit(task: FitTask, workers: int) -> Fit:
    ends: list[int] = []
    done = trainer.fit(task, Crew(workers, 0.0), lambda epoch, row, ended: ends.append(ended))
    storage.remove(task.folder)
    return Fit((ends[-1] - ends[0]) / 1000 / (len(ends) - 1), done.weights)


def same(fits: Sequence[Fit]) -> bool:
    """Whether all weights are equal to the last bit."""
    first = fits[0].weights
    return all(torch.equal(each.weights[name], first[name]) for each in fits for name in first)


def measured(stage: str, data: TrainingData, folder: Path, options: Any) -> dict[str, Any]:
    fits: dict[int, list[Fit]] = {1: [], 2: []}
    for _ in range(options.repeats):
        for workers, found in fits.items():
            found.append(fit(task_of(stage, data, folder / stage, options), workers))
    one, two = (min(each.epoch_s for each in fits[workers]) for workers in (1, 2))
    equal = all(same(found) for found in fits.values())
    return {"one_s": one, "two_s": two, "ratio": two / one, "same_weights": equal}


def main() -> int:
    """The process's exit code: 1 when the same seed gave other weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", nargs="*")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--stages", nargs="+", choices=("scout", "judge"), default=["scout", "judge"]
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fanout.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = opened(options.crops or [drawn(folder)], folder)
        found = {stage: measured(stage, data, folder, options) for stage in options.stages}
    if options.json:
        print(json.dumps(found, indent=1))
    for stage, row in {} if options.json else found.items():
        print(
            f"{stage}: an epoch takes {row['one_s']:.2f} s with one worker, {row['two_s']:.2f} s "
            f"with two: {row['ratio']:.2f}; same weights each time: {row['same_weights']}"
        )
    return 0 if all(row["same_weights"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
