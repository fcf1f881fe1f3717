"""Pictures of a hundred megapixels: what a worker keeps of them in memory is bounded.

The bound is stated here and in the README. Nearly all of it is the picture itself, the one that is
read ahead, and the levels of the pyramid, the largest of which has 1.5 times the picture's sides
where no smallest width is asked for: 3 + 3 + 3 * 1.5^2 * 4/3 bytes a pixel, and the score maps.
"""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from nnst import archive, images, models
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from tests.drills.ground import LARGE
from workflows import fanout
from workflows.fanout import FanoutSettings, ShardWork
from workflows.scoring import ScanTask, scan_shard

SIDE = 10_000
COUNT = 100 if LARGE else 4
SHARD = 2  # so that one is read ahead
BOUND = 0.7 * 2**30 + 20 * SIDE**2  # bytes: what a worker is without pictures, and 20 a pixel

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder with one picture under many names."""
    folder = tmp_path / "large"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    (folder / "000.jpg").write_bytes(images.encode_jpeg(pixels, 60))
    for number in range(1, COUNT):
        os.link(folder / "000.jpg", folder / f"{number:03}.jpg")
    return folder


def told(work: ShardWork, folder: Path) -> ShardWork:
    """The work, after which the worker tells how much memory it ever had."""

    def telling(shard: int, rows: pa.Table) -> Receipt:
        receipt = work(shard, rows)
        most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (folder / f"{shard}-{os.getpid()}").write_text(str(most))
        return receipt

    return telling


def test_a_worker_that_scans_large_pictures_stays_within_the_stated_memory(
    large: Path, mark_cascade: str, tmp_path: Path
) -> None:
    planned = archive.plan(str(large), SHARD)
    book = Ledger.create(str(tmp_path / "out"), Job("scan", planned.inputs, {}, source=str(large)))
    task = ScanTask(
        out=book.out,
        source=book.source,
        fingerprint=book.fingerprint,
        model_folder=mark_cascade,
        model_digest=models.load(mark_cascade).digest,
        model_name="mark/1",
        min_width=0,
        levels_per_octave=0,
        iou_threshold=0.3,
    )
    work = told(partial(scan_shard, task), tmp_path)
    fanout.fan_out(book, work, FanoutSettings(), "memory")
    assert book.totals()["rows_ok"] == COUNT
    most = [int(path.read_text()) for path in tmp_path.glob("[0-9]*-*")]
    assert len(most) == COUNT // SHARD
    assert min(most) > SIDE**2 * 3  # the pictures were there
    assert max(most) < BOUND, [round(each / 2**30, 2) for each in most]
