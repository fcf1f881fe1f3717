"""Scan time over decode time, for large and small JPEGs, at two sizes of the smallest logo.

The JPEGs are photographs of an archive, resized. Decoding and scanning take turns on one thread,
measured by the code of `nnst bench`. Decode time is that of `images.fastest_full_decode`. Run it
from the project's root:

    python -m tests.benchmarks.bench_scan [--model FOLDER/] [--archive ../shared/data/negatives]

Without a model an untrained one is measured. Its scores are set so low that it finds nothing, as in
photographs without the logo; the scout of a cascade passes on as many candidates as it may.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nnst import archive, images, models
from nnst.detector import DetectorSettings, detector_of
from nnst.models import Model, layout
from workflows import bench

SETS = {"2 to 20 MP": (2.0, 5.0, 10.0, 20.0), "0.2 to 0.5 MP": (0.2, 0.3, 0.4, 0.5)}
SMALL_PICTURES = 24  # a set of few small pictures would be over before a clock can tell
MOST_ENLARGED = 3.0  # of a side; a photograph enlarged further is smoother than a camera's
NEVER = (1.0, -1000.0)  # a calibration with which nothing is found
LABELS = ("background", "logo")


def photographs(source: str, count: int) -> list[images.Pixels]:
    """The largest photographs among some that are spread over the archive."""
    inputs = bench.choose(archive.plan(source).inputs, 20 * count)
    found = [images.decode(data).pixels for data in bench.read_sample(source, inputs).files]
    return sorted(found, key=lambda pixels: pixels.size, reverse=True)[:count]


def camera_picture(photograph: images.Pixels, megapixels: float, grain: float) -> images.Pixels:
    """The photograph at a size, repeated where it would have to be enlarged too much, with grain.

    Grain is what a sensor adds: without it an enlarged picture has fewer bytes than a real one.
    """
    height, width = photograph.shape[:2]
    scale = (megapixels * 1e6 / (height * width)) ** 0.5
    times = int(np.ceil(scale / MOST_ENLARGED))
    tiled = np.tile(photograph, (times, times, 1))
    pixels = images.resize(tiled, (round(height * scale), round(width * scale)))
    noise = np.empty(pixels.shape, np.int16)
    cv2.setRNGSeed(0)
    cv2.randn(noise, 0, grain)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def make(folder: Path, sizes: Sequence[float], options: argparse.Namespace) -> None:
    """Fill the folder with JPEGs of these sizes."""
    count = SMALL_PICTURES if max(sizes) < 1 else len(sizes)
    for index, photograph in enumerate(photographs(options.archive, count)):
        pixels = camera_picture(photograph, sizes[index % len(sizes)], options.grain)
        (folder / f"{index:02}.jpg").write_bytes(images.encode_jpeg(pixels, options.quality))


def untrained(architecture: str, window: str) -> Model:
    """A model with random weights and a window as 56x20 says."""
    width, height = map(int, window.split("x"))
    if architecture != models.CASCADE:
        spec = layout.network_spec(architecture, LABELS, (height, width), context=1.0)
        return Model(replace(spec, calibration=NEVER), models.build(spec).eval(), "", {})
    spec = replace(layout.cascade_spec(LABELS, width / height), calibration=NEVER)
    scout, judge = (models.build(stage) for stage in spec.stages)
    return Model(spec, models.Cascade(spec, scout, judge).eval(), "", {})


def measure(
    name: str, sizes: Sequence[float], model: Model, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each size of the smallest logo."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), sizes, options)
        sample = bench.read_sample(folder, archive.plan(folder).inputs)
    rows = []
    for min_width in options.min_width:
        detector = detector_of(model, DetectorSettings(min_width=min_width))
        timing = bench.measure(detector, sample.files, options.repeats)
        rows.append(
            {
                "pictures": name,
                "min_width": min_width,
                "ratio": timing.scan_s / timing.decode_s,
                "megapixels": sample.megapixels,
                "megapixels_per_s": sample.megapixels / timing.scan_s,
                "decode_megapixels_per_s": sample.megapixels / timing.decode_s,
                "bits_per_pixel": 8 * sum(map(len, sample.files)) / sample.megapixels / 1e6,
                "reduction": detector.reduction,
                **asdict(timing),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    head = ("pictures", "min-width", "scan / decode", "MP/s", "decode MP/s", "bits/pixel")
    cells = [
        (
            row["pictures"],
            str(row["min_width"]),
            f"{row['ratio']:.2f}",
            f"{row['megapixels_per_s']:.1f}",
            f"{row['decode_megapixels_per_s']:.0f}",
            f"{row['bits_per_pixel']:.2f}",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *cells)
    )


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model's folder; without it an untrained network")
    parser.add_argument("--architecture", default=models.CASCADE, help="of the untrained network")
    parser.add_argument(
        "--window", default="40x40", help="of the untrained network; of a cascade its aspect"
    )
    parser.add_argument("--archive", default="../shared/data/negatives", help="of photographs")
    parser.add_argument("--min-width", type=int, nargs="+", default=[112, 56])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--grain", type=float, default=2.0, help="standard deviation of the noise")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with bench.limited_threads(1):
        if options.model:
            model = models.load(options.model)
        else:
            model = untrained(options.architecture, options.window)
        rows = [row for name in SETS for row in measure(name, SETS[name], model, options)]
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
