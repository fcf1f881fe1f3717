"""One round of the loop - scan, review, learn again - and what it does for average precision.

A logo of few boxes is learnt, and an archive scanned of more pictures with the logo and of others.
A reviewer who knows the truth answers so many questions, in the order in which `nnst review` asks;
`nnst review --to imglab`, `crop --beside` and `train` make the next model of it. Both models are
judged on pictures that neither has seen, near duplicates apart. Run it from the project's root; a
row takes two trainings, some ten minutes on two cores:

    python -m tests.benchmarks.bench_loop --boxes ../shared/data/flickrlogos27/boxes.csv \\
        --classes Google DHL Ford --seeds 0 1 --first 6 --answers 100
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from nnst import imglab, review
from nnst.boxes import pairwise_iou
from nnst.imglab import Box
from nnst.ledger import Ledger
from tests.benchmarks.bench_quality import Annotated, lay_out, nnst, of_csv, split

Pictures = Sequence[tuple[Path, tuple[Box, ...]]]
Nnst = Callable[..., dict[str, Any]]  # runs a command, and returns what it says in JSON
FAR = 0.1  # IoU with every box below which a detection shows no logo


@dataclass(frozen=True, slots=True)
class Sides:
    """The pictures of one round, and how it goes."""

    first: Pictures  # whose boxes are given
    pool: Pictures  # that are scanned for more, with boxes for the reviewer alone
    judged: Pictures  # that no model sees
    background: Pictures
    answers: int
    train: tuple[str, ...] = ()  # further words for nnst train


def sides_of(every: Annotated, seed: int, options: argparse.Namespace) -> Sides:
    """The logo's pictures and those without it, dealt out."""
    learnt, judged = split(every, options.held_out, seed)
    paths = [path for folder in options.negatives for path in sorted(Path(folder).rglob("*.*"))]
    others = [[(path, ()) for path in paths[side::3]][: options.most] for side in range(3)]
    return Sides(
        first=learnt.pictures[: options.first],
        pool=(*learnt.pictures[options.first :], *others[1]),
        judged=(*judged.pictures, *others[2]),
        background=others[0],
        answers=options.answers,
        train=("--seed", str(seed), *shlex.split(options.train)),
    )


def answers(scan: Path, truth: Path, count: int) -> Counter[str]:
    """Answer the first `count` questions from the truth; how often each was the answer."""
    book = Ledger.open(str(scan), "scan")
    detections = book.read("detections")
    threshold = float(book.plan["identity"]["model"]["threshold"])
    asked = review.order(detections, threshold, seed=0).rows[:count]  # the same on every machine
    log = review.VerdictLog(str(scan / "review" / "verdicts.jsonl"))
    known = {Path(image.file).name: image.boxes for image in imglab.read(truth).images}
    said: Counter[str] = Counter()
    for found in detections.take(asked).to_pylist():
        verdict = said_of(found, known[Path(found["image"]).name])
        log.append(found, verdict, "bench_loop", "")
        said[verdict] += 1
    return said


def said_of(found: dict[str, Any], boxes: Sequence[Box]) -> str:
    """What somebody who knows the boxes says of a detection."""
    drawn = [(b.left, b.top, b.left + b.width, b.top + b.height) for b in boxes]
    mine = np.array([[found[side] for side in ("x0", "y0", "x1", "y1")]], np.float32)
    iou = pairwise_iou(mine, np.array(drawn, np.float32).reshape(-1, 4)).max(initial=0)
    return "yes" if iou >= 0.5 else "no" if iou < FAR else "wrong_box"


def one_round(sides: Sides, folder: Path, nnst: Nnst) -> dict[str, Any]:
    """What was answered, and the figures of the model before the round and of that after it."""
    for name in ("first", "background", "pool", "judged"):
        lay_out(folder / name, getattr(sides, name))
    words = ("--name", "logo", "--background", folder / "background", *sides.train)
    train = (*words, "--set", f"storage={folder}/training")
    crops, more, scan = folder / "crops", folder / "more", folder / "scan"
    nnst("crop", folder / "first.xml", "--out", crops)
    model = nnst("train", crops, *train)["model"]
    before = judge(folder, model, nnst)
    nnst("scan", folder / "pool", "--model", model, "--out", scan)
    said = answers(scan, folder / "pool.xml", sides.answers)
    reviewed = folder / "reviewed.xml"
    written = nnst("review", scan, "--to", "imglab", reviewed)
    flags = ("--negative-label", review.NEGATIVE) if written["refused"] else ()
    nnst("crop", reviewed, "--out", more, "--beside", crops, *flags)
    after = judge(folder, nnst("train", crops, more, *train)["model"], nnst)
    gain = round(after["ap50"] - before["ap50"], 4)
    return {"answers": dict(said), "before": before, "after": after, "gain_ap50": gain}


def judge(folder: Path, model: str, nnst: Nnst) -> dict[str, float]:
    """The figures of a version on the pictures that were held out."""
    out = folder / f"judged-{model.replace('/', '-')}"
    nnst("scan", folder / "judged", "--model", model, "--out", out)
    (figures,) = nnst("evaluate", out, folder / "judged.xml")["labels"]
    recall = figures["recall50_at_megapixel_rate"]["value"]
    return {"ap50": figures["ap50"]["value"], "ap30": figures["ap30"]["value"], "recall": recall}


def measure(every: Annotated, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    sides = sides_of(every, seed, options)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = one_round(sides, Path(place), partial(nnst, folder=Path(place)))
    return {
        "set": every.name,
        "seed": seed,
        **{name: len(getattr(sides, name)) for name in ("first", "pool", "judged", "background")},
        **found,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> int:
    """The process's exit code: 1 when average precision has not risen over all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", default="../shared/data/flickrlogos27/boxes.csv")
    parser.add_argument("--classes", nargs="+", default=["Google", "DHL", "Ford"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--first", type=int, default=6, help="pictures whose boxes are given")
    parser.add_argument("--answers", type=int, default=100, help="questions that are answered")
    parser.add_argument("--held-out", type=float, default=0.4, help="share of the pictures")
    shared = "../shared/data/negatives"
    parser.add_argument("--negatives", nargs="+", default=[f"{shared}/photos", f"{shared}/signs"])
    parser.add_argument("--most", type=int, default=150, help="of them on each of three sides")
    parser.add_argument("--train", default="", help='further words for nnst train, as "--epochs 2"')
    options = parser.parse_args()
    rows = []
    for name in options.classes:
        for seed in options.seeds:
            rows.append(measure(of_csv(options.boxes, name), seed, options))
            print(json.dumps(rows[-1]), flush=True)
    gain = mean(row["gain_ap50"] for row in rows)
    print(json.dumps({"mean_gain_ap50": round(gain, 4), "rows": len(rows)}))
    return 0 if gain > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
