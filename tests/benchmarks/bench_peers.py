"""nnst beside its peers: average precision and speed on the same pictures, in one run.

All learn from the training pictures of one crop set and are judged on its held-out pictures and on
a background archive, which must hold no picture that a model was trained on. A few files at a time
go through every peer in turn, decoding included, on one thread: a busy machine slows them all.
Run it from the project's root:

    python -m tests.benchmarks.bench_peers CROPS --background PHOTOS --models FOLDER/ [--json]

dlib comes with `dlib-bin`; YOLO11n is measured where ultralytics and torchvision are installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnst import archive, crops, images
from nnst.evaluation import EvaluationSettings, JudgedPicture, evaluate
from nnst.ledger import Ledger
from nnst.records import Annotation, Detections
from tests.benchmarks.peers import Dlib, Nnst, Peer, Picture, Templates, Yolo, wanted
from workflows import bench

AT_A_TIME = 8  # files that one peer is given before the next has its turn


def annotated(crop_set: str) -> tuple[list[Picture], list[Picture]]:
    """The pictures of a crop set: to train on, and held out."""
    sides = {
        item.image: (split, item) for split, item in crops.read_truth(Ledger.open(crop_set, "crop"))
    }
    training, held_out = [], []
    for member in archive.stream(crop_set, archive.plan(crop_set).inputs):
        if member.data is not None and member.image in sides:
            split, truth = sides[member.image]
            (training if split == "train" else held_out).append(Picture(member.data, truth))
    return training, held_out


def background(source: str, count: int, known: set[str]) -> list[Picture]:
    """Pictures spread over the archive, without those that the crop set knows."""
    inputs = bench.choose(archive.plan(source).inputs, count)
    pictures = []
    for data in bench.read_sample(source, inputs).files:
        name = images.content_hash(data)
        if name not in known:
            pictures.append(Picture(data, Annotation(name, name, np.zeros((0, 4)), (), [], [])))
    return pictures


def available(
    training: Sequence[Picture], label: str, options: argparse.Namespace
) -> tuple[list[Peer], list[str]]:
    """The peers that can be measured here, trained, and what is said of the others."""
    peers: list[Peer] = [Nnst(folder, label, options.min_width) for folder in options.models]
    absent = []
    if "templates" in options.peers:
        peers.append(Templates(training, label, options.min_width))
    for name, train in (("dlib", Dlib.trained), ("yolo", Yolo)):
        if name not in options.peers:
            continue
        start = time.perf_counter()
        try:
            made = train(training, label, options)
        except ImportError as error:
            absent.append(f"{name} is not available here: {error}")
            continue
        for peer in made if isinstance(made, tuple) else (made,):
            peer.notes["training_s"] = round(time.perf_counter() - start, 1)
            peers.append(peer)
    return peers, absent


def refuse_known(peers: Sequence[Peer], pictures: Sequence[Picture]) -> None:
    """Exit when a model was trained on a picture that it would be judged on, as far as it says."""
    judged = {picture.truth.image_id for picture in pictures}
    for peer in peers:
        if isinstance(peer, Nnst) and judged & peer.trained_on:
            count = len(judged & peer.trained_on)
            sys.exit(
                f"{peer.notes['model']} was trained on {count} of the pictures it is judged on"
            )


def measure(peers: Sequence[Peer], pictures: Sequence[Picture], label: str) -> list[dict[str, Any]]:
    """One row for each peer."""
    files = [picture.data for picture in pictures]
    found: list[list[Detections]] = [[] for _ in peers]
    seconds = [0.0] * len(peers)
    for peer in peers:
        peer.find(files[:2])  # what is built on first use is not the pictures' cost
    for start in range(0, len(files), AT_A_TIME):
        for index, peer in enumerate(peers):
            begun = time.perf_counter()
            found[index] += peer.find(files[start : start + AT_A_TIME])
            seconds[index] += time.perf_counter() - begun
    headers = [images.read_header(data) for data in files]
    megapixels = sum(header.width * header.height for header in headers) / 1e6
    return [
        {
            "peer": peer.name,
            **average_precision(pictures, each, label),
            "megapixels_per_s": megapixels / spent,
            **peer.notes,
        }
        for peer, each, spent in zip(peers, found, seconds, strict=True)
    ]


def average_precision(
    pictures: Sequence[Picture], found: Sequence[Detections], label: str
) -> dict[str, float]:
    """At both overlaps."""
    judged = [
        JudgedPicture(
            image=picture.truth.image,
            boxes=each.boxes,
            scores=each.scores,
            labels=np.full(len(each), label),
            truth=picture.truth,
        )
        for picture, each in zip(pictures, found, strict=True)
    ]
    (figures,) = evaluate(judged, [label], 0.0, EvaluationSettings(resamples=0)).labels
    return {"ap50": figures.ap50.value, "ap30": figures.ap30.value}


def table(document: dict[str, Any]) -> str:
    """The document for people."""
    lines = [
        f"{document['held_out']} held-out pictures with {document['boxes']} boxes of "
        f"{document['label']}, {document['background']} of the background, "
        f"trained on {document['training']}",
        f"{'':24} {'AP@0.5':>8} {'AP@0.3':>8} {'MP/s':>8}",
    ]
    for row in document["peers"]:
        figures = f"{row['ap50']:8.3f} {row['ap30']:8.3f} {row['megapixels_per_s']:8.2f}"
        lines.append(f"{row['peer']:24} {figures}")
    return "\n".join([*lines, *(f"note: {note}" for note in document["absent"])])


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", help="an output folder of nnst crop")
    parser.add_argument("--background", required=True, help="an archive without the logo")
    parser.add_argument("--models", nargs="*", default=[], help="folders of models of nnst")
    parser.add_argument("--label", help="which logo; needed where the crop set has several")
    parser.add_argument("--peers", nargs="*", default=["templates", "dlib", "yolo"])
    parser.add_argument("--negatives", type=int, default=40, help="background pictures at most")
    parser.add_argument("--min-width", type=int, default=0, help="of nnst and of the templates")
    parser.add_argument("--dlib-seconds", type=int, default=150, help="dlib trains no longer")
    parser.add_argument("--dlib-c", type=float, default=5.0, help="C of dlib's SVM")
    parser.add_argument("--yolo-epochs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    training, held_out = annotated(options.crops)
    labels = {label for picture in training for label in picture.truth.labels}
    label = options.label or (labels.pop() if len(labels) == 1 else parser.error("give --label"))
    known = {picture.truth.image_id for picture in (*training, *held_out)}
    negatives = background(options.background, options.negatives, known)
    with bench.limited_threads(1):
        peers, absent = available(training, label, options)
        refuse_known(peers, [*held_out, *negatives])
        rows = measure(peers, [*held_out, *negatives], label)
    document = {
        "label": label,
        "training": len(training),
        "held_out": len(held_out),
        "boxes": sum(len(wanted(picture.truth, label)) for picture in held_out),
        "background": len(negatives),
        "peers": rows,
        "absent": absent,
    }
    print(json.dumps(document, indent=1) if options.json else table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
