"""JPEG decoders side by side, at full and at reduced size: megapixels of the stored size a second.

On one thread, in one run, on photographs of installed packages, tiled to the size asked for and
encoded at quality 90 with halved (4:2:0) and with whole (4:4:4) chroma. From the project's root:

    python -m tests.benchmarks.bench_decode [--megapixels 2 12 20] [--repeats 5] [--json]

`nnst decode` has every check; `nnst fastest`, which a scan is held against, has none. Where the
package imagecodecs is installed, it takes part. Exits 1 unless `decode` gives OpenCV's pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import simplejpeg

from nnst import images
from nnst.scenes.photographs import photographs

SAMPLINGS = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
REDUCED_BGR = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

Decoder = Callable[[bytes], images.Pixels]


def opencv(flags: int) -> Decoder:
    """What OpenCV gives, with BGR turned to RGB in place."""

    def decode(data: bytes) -> images.Pixels:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if not flags & cv2.IMREAD_COLOR_RGB:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
        return pixels

    return decode


def turbojpeg(**options: bool) -> Decoder:
    """What simplejpeg gives at full size."""
    return lambda data: simplejpeg.decode_jpeg(data, "RGB", **options)


def decoders() -> Iterator[tuple[str, int, Decoder]]:
    """Each with its name and its reduction; the first is the one that the others are held to."""
    yield "opencv, BGR turned", 1, opencv(cv2.IMREAD_COLOR)
    yield "opencv, RGB", 1, opencv(cv2.IMREAD_COLOR_RGB)
    for reduction, flag in REDUCED_BGR.items():
        yield "opencv, BGR turned", reduction, opencv(flag)
    yield "simplejpeg", 1, turbojpeg()
    yield "simplejpeg, fast DCT", 1, turbojpeg(fastdct=True)
    yield "simplejpeg, fast chroma", 1, turbojpeg(fastupsample=True)
    if find_spec("imagecodecs"):
        yield "imagecodecs", 1, import_module("imagecodecs").jpeg8_decode
    yield "nnst fastest", 1, images.fastest_full_decode
    for reduction in images.REDUCTIONS:
        yield (
            "nnst decode",
            reduction,
            lambda data, r=reduction: images.decode(data, reduction=r).pixels,
        )


def tiled(megapixels: float) -> images.Pixels:
    """(H, W, 3), 4:3: squares of the photographs at their own size, so that the grain is real."""
    side = 256
    squares = [pixels[:side, :side] for pixels in photographs().values()]
    rows = max(1, round((megapixels * 1e6 * 3 / 4) ** 0.5 / side))
    columns = max(1, round(megapixels * 1e6 / rows / side**2))
    order = np.arange(rows * columns).reshape(rows, columns) % len(squares)
    return np.vstack([np.hstack([squares[number] for number in row]) for row in order])


def encoded(pixels: images.Pixels, sampling: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def fastest_of_each(data: bytes, repeats: int) -> dict[str, float]:
    """name -> seconds of its fastest run. They take turns, so that a slow spell hits them all."""
    seconds: dict[str, float] = {}
    for _ in range(repeats):
        for name, reduction, decode in decoders():
            start = time.perf_counter()
            decode(data)
            taken = time.perf_counter() - start
            key = f"{name} 1/{reduction}"
            seconds[key] = min(taken, seconds.get(key, taken))
    return seconds


def measure(megapixels: float, sampling: str, repeats: int) -> dict[str, Any]:
    """One picture through every decoder."""
    pixels = tiled(megapixels)
    data = encoded(pixels, sampling)
    stored = pixels.shape[0] * pixels.shape[1] / 1e6
    seconds = fastest_of_each(data, repeats)
    plain = opencv(cv2.IMREAD_COLOR)(data)
    noise = ((images.fastest_full_decode(data).astype(np.float32) - plain) ** 2).mean()
    return {
        "megapixels": round(stored, 2),
        "sampling": sampling,
        "bits_per_pixel": round(len(data) * 8 / stored / 1e6, 2),
        "mp_per_s": {name: round(stored / taken, 1) for name, taken in seconds.items()},
        "same_pixels": bool(np.array_equal(images.decode(data).pixels, plain)),
        "psnr_of_fastest_db": round(float(10 * np.log10(255**2 / max(noise, 1e-9))), 1),
    }


def print_table(rows: list[Mapping[str, Any]]) -> None:
    """A line for each decoder, a column for each picture."""
    for name in ("megapixels", "sampling", "bits_per_pixel", "same_pixels", "psnr_of_fastest_db"):
        print(f"{name:28}" + "".join(f"{row[name]!s:>9}" for row in rows))
    for name in rows[0]["mp_per_s"]:
        print(f"{name:28}" + "".join(f"{row['mp_per_s'][name]:9.1f}" for row in rows))


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[2.0, 12.0, 20.0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [
        measure(megapixels, sampling, options.repeats)
        for megapixels in options.megapixels
        for sampling in SAMPLINGS
    ]
    if options.json:
        print(json.dumps(rows))
    else:
        print_table(rows)
    return 0 if all(row["same_pixels"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
