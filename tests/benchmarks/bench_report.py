"""What a report costs of a large scan: seconds, memory, and bytes of the page; how fast it opens.

A scan is made up, of as many pictures as asked for: one in twenty with a detection above the
threshold, and as many detections below it as pictures. Only the pictures that get a thumbnail are
there, as photographs of installed packages. The report is then written by a process of its own,
which tells its largest memory. Run it from the project's root:

    python -m tests.benchmarks.bench_report [--pictures 1000000] [--shard 64]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nnst import images, records, report, storage
from nnst.ledger import Job, Ledger, write_part
from nnst.records import Receipt
from nnst.scenes import photographs

THRESHOLD = 0.5
SHOWN = 400  # pictures with a thumbnail, as nnst report has it


def names_of(count: int) -> list[str]:
    return [f"folder{number // 1000:05}/picture{number:08}.jpg" for number in range(count)]


def scores_of(count: int) -> np.ndarray:
    """(N,) the best score of each picture: one in twenty reaches the threshold."""
    scores = np.random.default_rng(0).uniform(0.01, THRESHOLD, count).astype(np.float32)
    scores[::20] = np.linspace(0.99, 0.51, len(scores[::20]))
    return scores


def make_pictures(folder: Path, names: list[str]) -> tuple[str, int, str]:
    """One photograph under all these names; its hash, bytes and stamp."""
    pixels = next(each for each in photographs().values() if min(each.shape[:2]) > 300)
    data = images.encode_jpeg(pixels, 90)
    first = folder / "first.jpg"
    folder.mkdir(parents=True)
    first.write_bytes(data)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).hardlink_to(first)
    return storage.sha256(data), len(data), str(first.stat().st_mtime_ns)


def make_scan(out: Path, source: Path, count: int, shard: int) -> None:
    names, scores = names_of(count), scores_of(count)
    best = [names[index] for index in np.argsort(-scores, kind="stable")[:SHOWN]]
    there = set(best)
    digest, size, stamp = make_pictures(source, best)
    ids = [digest if name in there else storage.sha256(name.encode()) for name in names]
    planned = {
        "image": names,
        "container": names,
        "offset": [-1] * count,
        "bytes": [size] * count,
        "stamp": [stamp] * count,
        "reason": [None] * count,
        "shard": [number // shard for number in range(count)],
    }
    inputs = pa.table(planned, schema=records.INPUTS)
    model = {"name": "acme", "version": "1", "digest": "0" * 64, "threshold": THRESHOLD}
    job = Job("scan", inputs, {}, model | {"labels": ["background", "acme"]}, source=str(source))
    book = Ledger.create(str(out), job)
    for number, tables in enumerate(shards(names, ids, scores, shard)):
        files = tuple(write_part(str(out), name, number, rows) for name, rows in tables.items())
        rows = tables["images"].num_rows
        book.commit(Receipt(number, rows, rows, 0, files, book.fingerprint, {}))
    book.succeed()


def shards(
    names: list[str], ids: list[str], scores: np.ndarray, shard: int
) -> Iterator[dict[str, pa.Table]]:
    """The tables of each shard: two detections a picture that was found, one of the others."""
    for start in range(0, len(names), shard):
        piece = slice(start, start + shard)
        image, image_id, score = names[piece], ids[piece], scores[piece]
        rows = np.repeat(np.arange(len(image)), np.where(score >= THRESHOLD, 2, 1))
        of_rows = np.where(np.append([False], rows[1:] == rows[:-1]), 0.2, score[rows])
        looked: dict[str, Any] = {"image": image, "image_id": image_id}
        looked |= {"width": [640] * len(image), "height": [480] * len(image)}
        looked |= {"status": ["ok"] * len(image), "detections": np.bincount(rows), "score": score}
        found: dict[str, Any] = {"image": [image[row] for row in rows]}
        found |= {"image_id": [image_id[row] for row in rows]}
        sides = {"x0": 10.25, "y0": 20.5, "x1": 90.75, "y1": 60.125}
        found |= {name: np.full(len(rows), value, np.float32) for name, value in sides.items()}
        found |= {"score": of_rows.astype(np.float32), "label": ["acme"] * len(rows)}
        found |= {"model": ["acme/1"] * len(rows)}
        yield {
            "images": pa.table(looked).cast(records.IMAGES),
            "detections": pa.table(found).cast(records.DETECTIONS),
        }


def peak_mib() -> int:
    """The most memory that this process has had (Linux; getrusage would tell of its parent too)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def write_report(out: str) -> None:
    """In a process of its own: write the report, tell seconds, memory and sizes."""
    before = peak_mib()
    started = time.monotonic()
    made = report.write(Ledger.open(out, "scan"))
    seconds = time.monotonic() - started
    figures = {
        "seconds": round(seconds, 2),
        "pictures_per_s": round(made.counts["pictures"] / seconds),
        "peak_mib": peak_mib(),
        "peak_before_mib": before,
        "page_mib": round(Path(made.index).stat().st_size / 2**20, 1),
        "csv_mib": round(Path(made.csv).stat().st_size / 2**20, 1),
        **made.counts,
        **opened(made.index),
    }
    print(json.dumps(figures, indent=1))


def opened(index: str) -> dict[str, float]:
    """Seconds until the page shows its pictures, and until it follows a step of the threshold."""
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        started = time.monotonic()
        page.goto(Path(index).as_uri())
        page.wait_for_selector("#grid .card")
        shown = time.monotonic() - started
        value = page.text_content("#threshold-value")
        started = time.monotonic()
        page.keyboard.press("]")
        page.wait_for_function(
            "value => document.getElementById('threshold-value').textContent !== value", arg=value
        )
        stepped = time.monotonic() - started
        browser.close()
    return {"page_opens_s": round(shown, 2), "page_steps_s": round(stepped, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--scan", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.scan:
        return write_report(given.scan)
    with tempfile.TemporaryDirectory() as folder:
        out, source = Path(folder, "scan"), Path(folder, "pictures")
        make_scan(out, source, given.pictures, given.shard)
        child = [sys.executable, "-m", "tests.benchmarks.bench_report", "--scan", str(out)]
        subprocess.run(child, check=True)


if __name__ == "__main__":
    main()
