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
from collections.abc import Sequence
from dataclasses import replace
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
FAR = 0.1  # IoU with every box below which a detection shows no logo


def answers(scan: Path, truth: Path, count: int) -> Counter[str]:
    """Answer the first `count` questions from the truth; how often each was the answer."""
    book = Ledger.open(str(scan), "scan")
    detections = book.read("detections")
    threshold = float(book.plan["identity"]["model"]["threshold"])
    asked = review.order(detections, threshold, seed=int(book.fingerprint[:8], 16)).rows[:count]
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


def judge(folder: Path, name: str, version: int) -> dict[str, float]:
    """The figures of a version on the pictures that were held out."""
    out = folder / f"judged-{version}"
    nnst("scan", folder / "judged", "--model", f"{name}/{version}", "--out", out, folder=folder)
    (figures,) = nnst("evaluate", out, folder / "judged.xml", folder=folder)["labels"]
    recall = figures["recall50_at_megapixel_rate"]["value"]
    return {"ap50": figures["ap50"]["value"], "ap30": figures["ap30"]["value"], "recall": recall}


def measure(every: Annotated, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    learnt, judged = split(every, options.held_out, seed)
    first = replace(learnt, pictures=learnt.pictures[: options.first])
    pool = learnt.pictures[options.first :]
    others = [path for folder in options.negatives for path in sorted(Path(folder).rglob("*.*"))]
    sides = [[(path, ()) for path in others[side::3]][: options.most] for side in range(3)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lay_out(folder / "first", first.pictures)
        lay_out(folder / "background", sides[0])
        lay_out(folder / "pool", [*pool, *sides[1]])
        lay_out(folder / "judged", [*judged.pictures, *sides[2]])
        train = ("--name", "logo", "--background", folder / "background", "--seed", seed)
        train = (*train, "--set", f"storage={folder}/training", *shlex.split(options.train))
        train = tuple(map(str, train))
        nnst("crop", folder / "first.xml", "--out", folder / "crops", folder=folder)
        nnst("train", folder / "crops", *train, folder=folder)
        before = judge(folder, "logo", 1)
        scan = folder / "scan"
        nnst("scan", folder / "pool", "--model", "logo/1", "--out", scan, folder=folder)
        said = answers(scan, folder / "pool.xml", options.answers)
        reviewed, more = folder / "reviewed.xml", folder / "more"
        written = nnst("review", scan, "--to", "imglab", reviewed, folder=folder)
        flags = ("--negative-label", review.NEGATIVE) if written["refused"] else ()
        words = ("--out", more, "--beside", folder / "crops")
        nnst("crop", reviewed, *words, *flags, folder=folder)
        nnst("train", folder / "crops", more, *train, folder=folder)
        after = judge(folder, "logo", 2)
    return {
        "set": every.name,
        "seed": seed,
        "first": len(first.pictures),
        "pool": len(pool),
        "judged": len(judged.pictures),
        "others": [len(side) for side in sides],
        "answers": dict(said),
        "before": before,
        "after": after,
        "gain_ap50": round(after["ap50"] - before["ap50"], 4),
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
