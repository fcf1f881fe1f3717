"""A kill at each step of the code that commits, three times each: the same bytes in the end.

Done by `commit_points`, a process of its own that forks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.drills.ground import ROOT

pytestmark = pytest.mark.drill

WRITTEN = ("mid write of {}", "before fsync of {}", "after fsync of {}")
FOLDER = ("before fsync of folder {}", "after fsync of folder {}")
REPLACED = ("before replace of {}", "after replace of {}")
LINKED = ("before link of {}", "after link of {}", "before unlink of {}", "after unlink of {}")


@pytest.fixture(scope="module")
def met() -> Counter[str]:
    """How often a job was killed at each step, over jobs of one, two and three shards."""
    found: Counter[str] = Counter()
    # In memory where that is to be had: a kill takes nothing from a disk, and a sync takes a while.
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        for shards in (1, 2, 3):
            found += kills(Path(folder) / str(shards), shards)
    return found


def kills(folder: Path, shards: int) -> Counter[str]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.commit_points", str(folder), str(shards)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return Counter(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("what", "named", "folder"),
    [
        ("plan", LINKED, "."),
        ("inputs", REPLACED, "plan"),
        ("part", REPLACED, "images"),
        ("part", REPLACED, "detections"),
        ("receipt", LINKED, "receipts"),
        ("success", REPLACED, "."),
    ],
)
def test_a_job_killed_at_any_step_of_a_commit_ends_in_the_same_bytes(
    what: str, named: tuple[str, ...], folder: str, met: Counter[str]
) -> None:
    """The script has compared them; here it is that no step was left out."""
    steps = [step.format(what) for step in (*WRITTEN, *named)]
    steps += [step.format(folder) for step in FOLDER]
    assert {step: met[step] for step in steps if met[step] < 3} == {}
