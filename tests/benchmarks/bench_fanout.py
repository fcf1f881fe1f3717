"""What the ledger and the fan-out cost beside a scan, and what a second worker brings.

Small JPEGs, cut from photographs of installed packages, are scanned with an untrained cascade by
one worker and by two, who have loaded all they need before. The ledger's share is what the workers
spend on writing parts, divided among them, and what the driver spends on plan and success. Receipts
are committed while the workers work; what they would add, were nobody at work, is told apart. Then
rows of the same shape go through the whole machinery (fan-out, ledger, Parquet) without a look at a
picture. All in one run, on one Ray of this machine. Run it from the project's root:

    python -m tests.benchmarks.bench_fanout [--pictures 10000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

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


class TimedLedger(Ledger):
    """A ledger that knows how many seconds its driver has spent on it."""

    seconds = 0.0  # on plan and success
    commits = 0.0  # on receipts, while workers work

    def commit(self, receipt: Receipt) -> None:
        started = time.monotonic()
        super().commit(receipt)
        self.commits += time.monotonic() - started

    def succeed(self) -> dict[str, Any]:
        started = time.monotonic()
        totals = super().succeed()
        self.seconds += time.monotonic() - started
        return totals


def begun(out: Path, planned: Job) -> TimedLedger:
    started = time.monotonic()
    book = TimedLedger(str(out), Ledger.create(str(out), planned).plan)
    book.seconds = time.monotonic() - started
    return book


def timed(work: fanout.ShardWork, folder: Path) -> fanout.ShardWork:
    """The work, after which a worker tells how many seconds it has spent on writing parts."""

    def telling(shard: int, rows: pa.Table) -> Receipt:
        spent, write = 0.0, ledger.write_parts

        def timed_write(*words: Any) -> Any:
            nonlocal spent
            started = time.monotonic()
            parts = write(*words)
            spent += time.monotonic() - started
            return parts

        ledger.write_parts = timed_write
        try:
            return work(shard, rows)
        finally:
            ledger.write_parts = write
            (folder / f"{shard}.parts").write_text(str(spent))

    return telling


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
    return machinery(book, timed(partial(scan_shard, task), Path(book.out)), workers)


def ledger_share(book: TimedLedger, wall: float, workers: int) -> float:
    """The share of a scan's wall time that went into its ledger."""
    parts = sum(float(path.read_text()) for path in Path(book.out).glob("*.parts"))
    return (parts / workers + book.seconds) / wall


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
    tables = {
        "images": pa.Table.from_pylist(seen, schema=records.IMAGES),
        "detections": pa.Table.from_pylist(found, schema=records.DETECTIONS),
    }
    files = ledger.write_parts(out, shard, tables)
    return Receipt(shard, len(names), len(names), 0, files, fingerprint)


def warmed(folder: Path, pictures: Path, model: str) -> None:
    """Let every worker import and load what it needs."""
    inputs = archive.plan(str(pictures), SHARD).inputs.slice(0, WARM)
    for workers in (1, 2):
        scan(begun(folder / f"warm-{workers}", job(pictures, inputs)), model, workers)


def measured(folder: Path, count: int) -> dict[str, float]:
    """All figures, by name."""
    pictures, model = folder / "pictures", f"{folder / 'model'}/"
    pictures.mkdir()
    make(pictures, count)
    network = untrained(models.CASCADE, "40x40")
    models.save(model, network.spec, network.network.state_dict())
    planned = job(pictures, archive.plan(str(pictures), SHARD).inputs)
    warmed(folder, pictures, model)

    two, one, idle = (begun(folder / name, planned) for name in ("two", "one", "idle"))
    nothing = partial(write_rows, idle.out, idle.fingerprint)
    with_two, with_one = scan(two, model, 2), scan(one, model, 1)
    idling = machinery(idle, nothing, 2)
    return {
        "one_worker_s": with_one,
        "two_workers_s": with_two,
        "throughput_of_two": with_one / with_two,
        "ledger_share": ledger_share(two, with_two, 2),
        "commits_share": two.commits / with_two,
        "machinery_ms_a_picture": 1000 * idling / count,
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
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{value:10.3f}  {name}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
