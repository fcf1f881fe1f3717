"""Who is at work on an output folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnst import ledger
from nnst.errors import JobBusy
from nnst.ledger import LeaseSettings, lease

OTHER_HOST = "another.example"


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path)


def written(out: str, **changes: object) -> None:
    """A lease as another driver would have left it."""
    document = {
        "owner": "ab" * 16,
        "host": OTHER_HOST,
        "pid": 7,
        "started": "1",
        "beat": time.time(),
    }
    Path(out, lease.NAME).write_text(json.dumps(document | changes), encoding="utf-8")


@pytest.fixture
def sleeper() -> Iterator[Callable[[], int]]:
    """Starts processes of this host that hold leases; ends them."""
    begun: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return begun[-1].pid

    yield start
    for process in begun:
        process.kill()
        process.wait()


def test_a_lease_is_there_while_it_is_held_and_then_no_more(out: str) -> None:
    with ledger.held(out):
        found = json.loads(Path(out, lease.NAME).read_bytes())
        assert (found["pid"], found["started"] != "") == (os.getpid(), True)
    assert os.listdir(out) == []


def test_it_goes_when_the_work_fails(out: str) -> None:
    with pytest.raises(RuntimeError), ledger.held(out):
        raise RuntimeError
    assert os.listdir(out) == []


def test_a_second_driver_is_refused_and_disturbs_nothing(out: str) -> None:
    with ledger.held(out):
        before = Path(out, lease.NAME).read_bytes()
        told = rf"{out} is being worked on by process {os.getpid()} on"
        with pytest.raises(JobBusy, match=told), ledger.held(out):
            raise AssertionError
        assert Path(out, lease.NAME).read_bytes() == before


def test_a_second_driver_may_take_over_and_the_first_leaves_it_its_lease(out: str) -> None:
    first, second = ledger.held(out), ledger.held(out, LeaseSettings(take_over=True))
    with second if first.__enter__() is None else first:
        taken = Path(out, lease.NAME).read_bytes()
        first.__exit__(None, None, None)
        assert Path(out, lease.NAME).read_bytes() == taken
    assert os.listdir(out) == []


def test_of_another_host_the_last_beat_says_whether_it_lives(out: str) -> None:
    written(out, beat=time.time() - 59)
    with pytest.raises(JobBusy, match=f"process 7 on {OTHER_HOST}"):
        ledger.check_free(out)
    written(out, beat=time.time() - 61)
    with ledger.held(out):
        pass


def test_a_beat_of_the_future_is_no_sign_of_life(out: str) -> None:
    """Clocks jump; a lease must not hold until the next year."""
    written(out, beat=time.time() + 3600)
    ledger.check_free(out)


def test_on_this_host_a_process_that_is_dead_holds_nothing_however_young_its_beat(
    out: str, sleeper: Callable[[], int]
) -> None:
    pid = sleeper()
    own = {"host": lease.socket.gethostname(), "pid": pid, "started": lease._start_of(pid)}
    written(out, **own, beat=time.time() - 3600)  # asleep, not dead
    with pytest.raises(JobBusy):
        ledger.check_free(out)
    written(out, **(own | {"started": "1"}))  # another process of that number
    ledger.check_free(out)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    written(out, **own)
    ledger.check_free(out)


def test_the_heart_beats_and_stops_with_the_work(out: str) -> None:
    settings = LeaseSettings(beat=0.05)
    with ledger.held(out, settings):
        first = json.loads(Path(out, lease.NAME).read_bytes())["beat"]
        end = time.monotonic() + 30  # it is written to disk, which other work may hold up
        while json.loads(Path(out, lease.NAME).read_bytes())["beat"] == first:
            assert time.monotonic() < end
            time.sleep(0.05)
    time.sleep(0.2)
    assert os.listdir(out) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"owner": 3}', '{"owner": "a"}'])
def test_a_lease_that_says_nothing_holds_nothing(out: str, text: str) -> None:
    Path(out, lease.NAME).write_text(text, encoding="utf-8")
    with ledger.held(out):
        assert json.loads(Path(out, lease.NAME).read_bytes())["pid"] == os.getpid()


def test_nothing_is_started_afresh_under_a_driver_at_work(out: str) -> None:
    written(out)
    with pytest.raises(JobBusy):
        ledger.start_fresh(out)
    assert os.listdir(out) == [lease.NAME]
