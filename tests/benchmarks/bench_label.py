"""How soon `nnst label` shows the first picture of a folder of many, and how long a change takes.

    python -m tests.benchmarks.bench_label --pictures 10000

Times are from the request of all names to its answer, as the page makes it, and from a change to
the answer that it is on the disk; beside them the bare listing of the folder, and a put of as many
bytes as the XML then has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nnst import images, imglab, storage
from nnst.imglab import Box, Dataset, Image, TruthFile
from workflows import labelling


def timed(work: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Seconds, the median of some times, and what came out last."""
    spent, found = [], None
    for _ in range(times):
        start = time.perf_counter()
        found = work()
        spent.append(time.perf_counter() - start)
    return round(median(spent), 4), found


def fill(folder: Path, count: int) -> None:
    """Names of one small picture; what is measured opens none but the first."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    (folder / "000000.jpg").write_bytes(images.encode_jpeg(pixels))
    for number in range(1, count):
        os.link(folder / "000000.jpg", folder / f"{number:06}.jpg")


def measure(count: int) -> dict[str, Any]:
    """The row."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fill(folder, count)
        path = folder / "truth.xml"
        listing_s, _ = timed(lambda: list(storage.walk(folder)))

        def opened() -> labelling.Desk:
            files, _ = labelling.files_of(str(folder), path)
            return labelling.Desk(TruthFile.open(path), files, ())

        open_s, desk = timed(opened)
        names_s, answer = timed(lambda: asyncio.run(desk.state(None)))
        boxes = (Box(1, 2, 30, 20, "logo"), Box(5, 6, 30, 20, "logo"))
        entries = tuple(Image(file, boxes, 64, 48) for file in desk.files)
        imglab.write(Dataset(entries), path)
        full = TruthFile.open(path)
        entry = Image("000000.jpg", (), 64, 48)
        sides = [entry, entries[0]] * 3
        change_s, _ = timed(
            lambda: full.change("000000.jpg", sides.pop(), full.version("000000.jpg")), 5
        )
        data = path.read_bytes()
        put_s, _ = timed(lambda: storage.put(folder / "copy.xml", data), 5)
    return {
        "pictures": count,
        "bare_listing_s": listing_s,
        "open_s": open_s,
        "names_s": names_s,
        "names_bytes": len(answer.body),
        "open_and_names_s": round(open_s + names_s, 4),
        "change_of_a_full_file_s": change_s,
        "bare_put_s": put_s,
        "xml_bytes": len(data),
    }


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    print(json.dumps(measure(parser.parse_args().pictures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
