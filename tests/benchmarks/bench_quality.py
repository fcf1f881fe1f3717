"""From boxes to average precision, for many logos and seeds, by the commands that a user types.

For each set of boxes and each seed the annotated pictures are split, near duplicates together;
`nnst crop`, `train`, `scan` and `evaluate` run with their defaults. Judged are the other pictures
of the set and every second one of the negatives; the rest of these is the background that is learnt
from. Run it from the project's root; a row takes some minutes:

    python -m tests.benchmarks.bench_quality --truth ../shared/data/pare/training.xml --seeds 0 1 2
    python -m tests.benchmarks.bench_quality --boxes ../shared/data/flickrlogos27/boxes.csv \\
        --classes Fedex DHL Google Ford Yahoo

A CSV has columns image, class, x1, y1, x2, y2 and its pictures beside it in images/.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from nnst import crops, images, imglab, storage
from nnst.imglab import Box, Dataset, Image


@dataclass(frozen=True, slots=True)
class Annotated:
    """A set of pictures with boxes, all of them files."""

    name: str
    pictures: tuple[tuple[Path, tuple[Box, ...]], ...]


def of_xml(path: str) -> Annotated:
    """The pictures of an imglab file that have boxes."""
    dataset = imglab.read(path)
    found = [(Path(dataset.resolve(each)), each.boxes) for each in dataset.images if each.boxes]
    return Annotated(Path(path).parent.name, tuple(found))


def of_csv(path: str, name: str) -> Annotated:
    """The pictures of one class of a CSV; a box that comes twice counts once."""
    found: dict[str, set[tuple[int, int, int, int]]] = {}
    with open(path, newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["class"] == name:
                x0, y0, x1, y1 = (int(row[side]) for side in ("x1", "y1", "x2", "y2"))
                found.setdefault(row["image"], set()).add((x0, y0, x1, y1))
    folder = Path(path).parent / "images"
    pictures = [
        (
            folder / image,
            tuple(
                Box(left=x0, top=y0, width=x1 - x0, height=y1 - y0, label=name)
                for x0, y0, x1, y1 in sorted(boxes)
            ),
        )
        for image, boxes in sorted(found.items())
    ]
    return Annotated(name, tuple(pictures))


def split(every: Annotated, share: float, seed: int) -> tuple[Annotated, Annotated]:
    """To learn from, and to be judged on; near duplicates stay together."""
    data = [path.read_bytes() for path, _ in every.pictures]
    hashes = [images.perceptual_hash(images.decode(each).pixels) for each in data]
    groups = crops.near_duplicate_groups([images.content_hash(each) for each in data], hashes)
    names = sorted(set(groups), key=lambda group: storage.sha256(f"{seed} {group}".encode()))
    held_out = set(names[: max(1, round(share * len(names)))])
    sides: tuple[list[Any], list[Any]] = ([], [])
    for group, picture in zip(groups, every.pictures, strict=True):
        sides[group in held_out].append(picture)
    learnt, judged = (replace(every, pictures=tuple(side)) for side in sides)
    return learnt, judged


def lay_out(folder: Path, pictures: Sequence[tuple[Path, tuple[Box, ...]]]) -> None:
    """The pictures in a folder, and truth.xml beside it."""
    folder.mkdir(parents=True)
    listed = []
    for number, (path, boxes) in enumerate(pictures):
        name = f"{number:04}{path.suffix}"
        shutil.copy(path, folder / name)
        listed.append(Image(file=f"{folder.name}/{name}", boxes=boxes))
    imglab.write(Dataset(images=tuple(listed)), folder.parent / f"{folder.name}.xml")


def nnst(*words: str | Path, folder: Path) -> dict[str, Any]:
    """What a command says in JSON. Raises CalledProcessError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "workflows", *map(str, words), "--json"],
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if words[0] != "scan" else None,
        check=words[0] != "scan",  # which ends with 3 where a negative cannot be read
        text=True,
    )
    return dict(json.loads(done.stdout))


def measure(every: Annotated, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    negatives = [path for folder in options.negatives for path in sorted(Path(folder).rglob("*.*"))]
    learnt, judged = split(every, options.held_out, seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lay_out(folder / "learnt", learnt.pictures)
        nothing = [(path, ()) for path in negatives[1::2][: options.judged_negatives]]
        lay_out(folder / "judged", [*judged.pictures, *nothing])
        lay_out(folder / "background", [(path, ()) for path in negatives[0::2]])
        nnst("crop", folder / "learnt.xml", "--out", folder / "crops", folder=folder)
        start = time.perf_counter()
        words = ("--name", "logo", "--background", folder / "background", "--seed", str(seed))
        stored = ("--set", f"storage={folder}/training")
        nnst("train", folder / "crops", *words, *stored, folder=folder)
        spent = time.perf_counter() - start
        words = ("--model", "logo", "--out", folder / "scan")
        nnst("scan", folder / "judged", *words, folder=folder)
        found = nnst("evaluate", folder / "scan", folder / "judged.xml", folder=folder)
    (figures,) = found["labels"]
    return {
        "set": every.name,
        "seed": seed,
        "learnt": len(learnt.pictures),
        "judged": len(judged.pictures),
        "boxes": figures["truth_boxes"],
        "negatives": len(nothing),
        "ap50": figures["ap50"]["value"],
        "ap30": figures["ap30"]["value"],
        "recall": figures["recall50_at_megapixel_rate"]["value"],
        "training_s": round(spent, 1),
    }


def sets(options: argparse.Namespace) -> Iterator[Annotated]:
    """Those that are asked for."""
    for path in options.truth:
        yield of_xml(path)
    if options.boxes:
        for name in options.classes:
            yield of_csv(options.boxes, name)


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", nargs="*", default=[], help="imglab files")
    parser.add_argument("--boxes", help="a CSV of boxes")
    parser.add_argument("--classes", nargs="*", default=[], help="classes of the CSV")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--held-out", type=float, default=0.3, help="share of the pictures")
    shared = "../shared/data/negatives"
    parser.add_argument("--negatives", nargs="+", default=[f"{shared}/photos", f"{shared}/signs"])
    parser.add_argument("--judged-negatives", type=int, default=200, help="at most")
    options = parser.parse_args()
    rows = []
    for every in sets(options):
        for seed in options.seeds:
            rows.append(measure(every, seed, options))
            print(json.dumps(rows[-1]), flush=True)
    if rows:
        names = ("ap50", "ap30", "recall", "training_s")
        print(json.dumps({"mean": {name: float(np.round(mean(r[name] for r in rows), 3))
                                   for name in names}}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
