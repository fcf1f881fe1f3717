"""What the ledger and the fan-out cost beside a scan, and what a second worker brings.

Small JPEGs, cut from photographs of installed packages, are scanned with an untrained cascade by
one worker and by two, who have loaded all they need before. Then the same is done without looking
at a picture: rows of the same shape are written and committed in this process (the ledger), and
sent through the whole machinery (fan-out, ledger, Parquet). All in one run, on one Ray of this
machine. Run it from the project's root:

    python -m tests.benchmarks.bench_fanout [--pictures 10000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from ray import cloudpickle

from nnst import archive, images, ledger, models, records
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from nnst.scenes import photographs
from tests.benchmarks.bench_scan import untrained
from workflows import fanout
from workflows.fanout import FanoutSettings
from workflows.scoring import ScanTask, scan_shard

SIDE = 256
SHARD = 32  # pictures, as nnst scan has it
WARM = 8 * SHARD  # pictures that are looked at before the clock runs


def make(folder: Path, count: int) -> None:
    """Fill the folder with pieces of photographs."""
    rng, whole = np.random.default_rng(0), photographs().values()
    large = [each for each in whole if min(each.shape[:2]) >= SIDE]
    for number in range(count):
        pixels = large[number % len(large)]
        y, x = (int(rng.integers(0, side - SIDE + 1)) for side in pixels.shape[:2])
        data = images.encode_jpeg(np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE]))
        (folder / f"{number:06}.jpg").write_bytes(data)


def job(source: Path, inputs: pa.Table) -> Job:
    return Job("scan", inputs, {}, source=str(source))


def scan(book: Ledger, model: str, workers: int) -> float:
    """Seconds that a scan by so many workers takes."""
    task = ScanTask(
        out=book.out,
        source=book.source,
        fingerprint=book.fingerprint,
        model_folder=model,
        model_digest=models.load(model).digest,
        model_name="untrained/1",
        min_width=0,
        levels_per_octave=0,
        iou_threshold=0.3,
    )
    return machinery(book, partial(scan_shard, task), workers)


def machinery(book: Ledger, work: fanout.ShardWork, workers: int) -> float:
    """Seconds that a fan-out to so many workers takes."""
    settings = FanoutSettings(cpus=ray.cluster_resources()["CPU"] / workers)
    started = time.monotonic()
    fanout.fan_out(book, work, settings, "bench")
    return time.monotonic() - started


def write_rows(out: str, fingerprint: str, shard: int, rows: pa.Table) -> Receipt:
    """What a shard of a scan writes, of pictures that nobody looks at."""
    names = rows["image"].to_pylist()
    seen = [
        {"image": name, "image_id": f"{number:064x}", "width": SIDE, "height": SIDE,
         "status": records.OK, "detections": 1, "score": 0.5}
        for number, name in enumerate(names)
    ]  # fmt: skip
    found = [
        {"image": name, "image_id": f"{number:064x}", "x0": 1.0, "y0": 1.0, "x1": 9.0, "y1": 9.0,
         "score": 0.5, "label": "logo", "model": "untrained/1"}
        for number, name in enumerate(names)
    ]  # fmt: skip
    files = tuple(
        ledger.write_part(out, name, shard, pa.Table.from_pylist(some, schema=schema))
        for name, some, schema in (
            ("images", seen, records.IMAGES),
            ("detections", found, records.DETECTIONS),
        )
    )
    return Receipt(shard, len(names), len(names), 0, files, fingerprint)


def ledger_alone(planned: Job, out: Path) -> float:
    """Seconds that plan, parts, receipts and success take, one after the other."""
    started = time.monotonic()
    book = Ledger.create(str(out), planned)
    for number, rows in book.shards().items():
        book.commit(write_rows(book.out, book.fingerprint, number, rows))
    book.succeed()
    return time.monotonic() - started


def warmed(folder: Path, pictures: Path, model: str) -> None:
    """Let every worker import and load what it needs."""
    inputs = archive.plan(str(pictures), SHARD).inputs.slice(0, WARM)
    for workers in (1, 2):
        scan(Ledger.create(str(folder / f"warm-{workers}"), job(pictures, inputs)), model, workers)


def measured(folder: Path, count: int) -> dict[str, float]:
    """All figures, in seconds, by name."""
    pictures, model = folder / "pictures", f"{folder / 'model'}/"
    pictures.mkdir()
    make(pictures, count)
    network = untrained(models.CASCADE, "40x40")
    models.save(model, network.spec, network.network.state_dict())
    planned = job(pictures, archive.plan(str(pictures), SHARD).inputs)
    warmed(folder, pictures, model)

    def book(name: str) -> Ledger:
        return Ledger.create(str(folder / name), planned)

    def nothing(out: Ledger) -> Callable[[int, pa.Table], Receipt]:
        return partial(write_rows, out.out, out.fingerprint)

    idle = book("idle")
    return {
        "two_workers_s": scan(book("two"), model, 2),
        "one_worker_s": scan(book("one"), model, 1),
        "ledger_s": ledger_alone(planned, folder / "alone"),
        "machinery_s": machinery(idle, nothing(idle), 2),
    }


def ratios(found: dict[str, float], count: int) -> dict[str, float]:
    """What the promises are about."""
    return {
        "throughput_of_two": found["one_worker_s"] / found["two_workers_s"],
        "ledger_share": found["ledger_s"] / found["two_workers_s"],
        "machinery_ms_a_picture": 1000 * found["machinery_s"] / count,
    }


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    fanout.start()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), options.pictures)
    found |= ratios(found, options.pictures)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{value:10.3f}  {name}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
