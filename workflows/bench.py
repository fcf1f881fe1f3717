"""`nnst bench`: what a scan costs beside the mere decoding of the same pictures, on this machine.

One process, no Ray: the pictures' bytes are held in memory, and decoding all of them and scanning
all of them take turns, so that a busy machine slows both. The fastest of each counts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnst import archive, images, records, storage
from nnst.config import setting
from nnst.errors import ImageError, InputError
from workflows.commands import Options, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

    from nnst.detector import Detector
    from workflows.tracking import ModelRef

# torch and MLflow cost seconds to import: functions import what needs them.


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """Settings of nnst bench."""

    archive: str = setting(help="a folder, tar, zip, Parquet or output folder with pictures")
    model: str = setting(help="NAME, NAME/3, NAME@alias, or a folder written with a slash")
    min_width: int = setting(0, "the smallest logo wanted, in pixels; 0 is the model's window")
    threads: int = setting(1, "threads of the one process that is measured")
    pictures: int = setting(32, "at most so many, spread evenly over the archive")
    repeats: int = setting(3, "how often all pictures are decoded and scanned; the fastest counts")
    price_per_hour: float | None = setting(
        None, "of a core, or of the GPU where there is one, in any currency"
    )

    def __post_init__(self) -> None:
        if min(self.threads, self.pictures, self.repeats) < 1:
            raise ValueError("threads, pictures and repeats must be 1 or more")
        if min(self.min_width, self.price_per_hour or 0) < 0:
            raise ValueError("min_width and price_per_hour must be 0 or more")


@dataclass(frozen=True, slots=True)
class Sample:
    """Pictures that can be decoded, as they are stored, and what had to be left out."""

    files: tuple[bytes, ...]
    megapixels: float  # of all files, at full size
    left_out: Mapping[str, int]  # reason -> how many


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the fastest decoding and of the fastest scan of the same pictures."""

    decode_s: float  # at full size, the fastest way, nothing checked
    scan_s: float
    stages: Mapping[str, float]  # of that scan; they sum to scan_s
    detections: int


def run(settings: BenchConfig, options: Options) -> Outcome:
    """Choose pictures, hold their bytes, measure."""
    from nnst.detector import DetectorSettings, load_detector
    from workflows import tracking

    source = storage.absolute(settings.archive)
    model = tracking.resolve(settings.model)
    inputs = choose(archive.plan(source).inputs, settings.pictures)
    if options.dry_run:
        text = f"would measure {model} on {inputs.num_rows} pictures of {source}"
        return Outcome({"model": str(model), "pictures": inputs.num_rows}, text)
    with limited_threads(settings.threads):
        sample = read_sample(source, inputs)
        looks = DetectorSettings(min_width=settings.min_width)
        detector = load_detector(model.folder, model.digest, looks)
        timing = measure(detector, sample.files, settings.repeats)
    seen = {"device": _device(), "reduction": detector.reduction}
    document = _document(settings, model, sample, timing) | seen
    return Outcome(document, _describe(document))


def choose(inputs: pa.Table, most: int) -> pa.Table:
    """At most so many rows of a plan, in its order and spread evenly over it."""
    count = min(most, inputs.num_rows)
    return inputs.take(np.linspace(0, inputs.num_rows - 1, count).round().astype(np.int64))


def read_sample(source: str, inputs: pa.Table) -> Sample:
    """The bytes of every picture of a plan that can be decoded. Raises InputError if none can."""
    files: list[bytes] = []
    left_out: Counter[str] = Counter()
    pixels = 0
    for member in archive.stream(source, inputs):
        if member.data is None:
            assert member.failure is not None
            left_out[member.failure.reason] += 1
            continue
        try:
            header = images.decode(member.data).header
        except ImageError as error:
            left_out[error.reason] += 1
            continue
        files.append(member.data)
        pixels += header.width * header.height
    if not files:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items()))
        what = f"none of {inputs.num_rows} pictures of {source} can be decoded ({reasons})"
        raise InputError(what, "give an archive of whole pictures")
    return Sample(tuple(files), pixels / 1e6, dict(sorted(left_out.items())))


def measure(detector: Detector, files: Sequence[bytes], repeats: int) -> Timing:
    """The fastest of `repeats` decodings of all files, and of as many scans, taken in turn."""
    _scan(detector, files[:4])  # what is built on first use is not the pictures' cost
    decodings, scans = [], []
    for _ in range(repeats):
        decodings.append(_decode(files))
        scans.append(_scan(detector, files))
    scan_s, stages, detections = min(scans, key=lambda scan: scan[0])
    return Timing(min(decodings), scan_s, stages, detections)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """While inside, torch and OpenCV use so many threads in this process."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _decode(files: Sequence[bytes]) -> float:
    start = time.perf_counter()
    for data in files:
        images.fastest_full_decode(data)
    return time.perf_counter() - start


def _scan(detector: Detector, files: Sequence[bytes]) -> tuple[float, dict[str, float], int]:
    """Seconds, seconds of each stage and detections of one scan."""
    clock = detector.stopwatch
    before = dict(clock.seconds)
    start = time.perf_counter()
    detections = sum(map(len, look(detector, files)))
    seconds = time.perf_counter() - start
    stages = {name: value - before.get(name, 0.0) for name, value in clock.seconds.items()}
    stages["other"] = seconds - sum(stages.values())
    return seconds, stages, detections


def look(detector: Detector, files: Iterable[bytes]) -> Iterator[records.Detections]:
    """The detections in each file, decoded and looked at together as `nnst scan` does."""
    from nnst.detector import batches

    decoded = ((None, images.decode(data, reduction=detector.reduction)) for data in files)
    for batch in batches(detector.stopwatch.each("decode", decoded), detector.at_once):
        yield from detector.detect_pictures([picture for _, picture in batch if picture])


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _document(
    settings: BenchConfig, model: ModelRef, sample: Sample, timing: Timing
) -> dict[str, Any]:
    return {
        "model": str(model),
        "min_width": settings.min_width,
        "threads": settings.threads,
        "repeats": settings.repeats,
        "pictures": len(sample.files),
        "left_out": dict(sample.left_out),
        "megapixels": sample.megapixels,
        "detections": timing.detections,
        "decode_s": timing.decode_s,
        "scan_s": timing.scan_s,
        "ratio": timing.scan_s / timing.decode_s,
        "stages": dict(timing.stages),
        "decode_megapixels_per_s": sample.megapixels / timing.decode_s,
        "megapixels_per_s": sample.megapixels / timing.scan_s,
        **_rates(settings, len(sample.files) / timing.scan_s * 3600),
    }


def _rates(settings: BenchConfig, per_hour: float) -> dict[str, float | None]:
    """What an hour of a core or GPU scans, and what a million pictures cost; None if not known."""
    on_gpu, price = _device() != "cpu", settings.price_per_hour
    per_core_hour = per_hour / settings.threads
    paid = per_hour if on_gpu else per_core_hour
    return {
        "pictures_per_core_hour": per_core_hour,
        "pictures_per_gpu_hour": per_hour if on_gpu else None,
        "price_per_hour": price,
        "cost_per_million_pictures": None if price is None else 1e6 / paid * price,
    }


def _describe(document: Mapping[str, Any]) -> str:
    scan_s, threads = document["scan_s"], document["threads"]
    lines = [
        f"{document['pictures']:,} pictures, {document['megapixels']:,.1f} megapixels, with "
        f"{document['model']} on {document['device']}, {threads} thread{'s' * (threads > 1)}",
        *(
            f"  {count:,} left out: {records.REASONS[reason]}"
            for reason, count in document["left_out"].items()
        ),
        f"  {'decoding alone':<26} {document['decode_s']:>10.3f} s",
        f"  {'whole scan':<26} {scan_s:>10.3f} s   {document['ratio']:.2f} times the decoding",
        *(
            f"    {name:<24} {seconds:>10.3f} s   {seconds / scan_s:.0%}"
            for name, seconds in document["stages"].items()
        ),
        f"  {'megapixels per second':<26} {document['megapixels_per_s']:>10.1f}",
        *_amounts(document),
    ]
    return "\n".join(lines)


def _amounts(document: Mapping[str, Any]) -> Iterator[str]:
    for key in ("pictures_per_core_hour", "pictures_per_gpu_hour"):
        if document[key] is not None:
            yield f"  {key.replace('_', ' '):<26} {document[key]:>10,.0f}"
    if document["cost_per_million_pictures"] is not None:
        cost, price = document["cost_per_million_pictures"], document["price_per_hour"]
        yield f"  {'cost per million pictures':<26} {cost:>10.2f}     at {price:g} an hour"
