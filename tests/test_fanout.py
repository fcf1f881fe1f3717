"""Shards on a real Ray: every result once, whatever raises, dies or is interrupted.

The work of these tests is small functions that leave marks in a folder, so that a test knows what
was tried. They are sent to the workers by value, as no worker can import this file.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle

from nnst import ledger, records
from nnst.errors import InputError, JobFailed
from nnst.ledger import Job, Ledger
from nnst.records import Receipt
from tests.stderr import without_progress
from workflows import fanout
from workflows.fanout import FanoutSettings
from workflows.fanout import cluster as cluster_
from workflows.fanout.pool import Pool
from workflows.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
PLAIN = FanoutSettings()

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Functions of this file travel with their code."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def inputs(shards: int, rows: int = 2) -> pa.Table:
    """Rows that name pictures which nobody opens."""
    found = [
        {"image": f"{shard}-{row}.jpg", "container": "", "offset": -1, "bytes": 1, "stamp": "",
         "shard": shard}
        for shard in range(shards)
        for row in range(rows)
    ]  # fmt: skip
    return pa.Table.from_pylist(found, schema=records.INPUTS)


def book(out: Path, shards: int) -> Ledger:
    """A new ledger, or the one that is there."""
    return Ledger.create(str(out), Job(verb="scan", inputs=inputs(shards), settings={}))


def tasks(count: int) -> dict[int, pa.Table]:
    return {number: inputs(1) for number in range(count)}


def tables(out: Path) -> dict[str, bytes]:
    """Every file that counts, by its path."""
    kept = ("plan", "images", "receipts", "_SUCCESS")
    # Hidden is what a worker was writing when it was killed.
    files = [path for path in sorted(out.rglob("[!.]*")) if path.is_file()]
    inside = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in inside.items() if name.startswith(kept)}


def attempts(out: Path) -> list[dict[str, object]]:
    """The events of every attempt."""
    texts = [path.read_text() for path in out.glob("attempts/*.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def write_shard(out: str, fingerprint: str, shard: int, rows: pa.Table) -> Receipt:
    """What a verb's shard function does, without a picture."""
    found = [
        {"image": name, "status": "ok", "detections": shard} for name in rows["image"].to_pylist()
    ]
    table = pa.Table.from_pylist(found, schema=records.IMAGES)
    file = ledger.write_part(out, "images", shard, table)
    return Receipt(shard, len(found), len(found), 0, (file,), fingerprint)


def shard_work(opened: Ledger) -> fanout.ShardWork:
    return partial(write_shard, opened.out, opened.fingerprint)


def count_try(marks: Path, shard: int) -> int:
    """How often this shard has been begun, this time included."""
    marks.mkdir(exist_ok=True, parents=True)
    tries = sum(path.name.startswith(f"{shard}-") for path in marks.iterdir())
    (marks / f"{shard}-{tries}").touch()
    return tries + 1


# --- Results


def test_the_results_of_all_tasks_come_back_once() -> None:
    with Progress("test", 40) as progress:
        found = list(
            fanout.run_tasks(lambda n, rows: (n, rows.num_rows), tasks(20), PLAIN, progress)
        )
    assert sorted(found) == [(n, (n, 2)) for n in range(20)]


def test_no_task_is_no_work() -> None:
    with Progress("test", 0) as progress:
        assert list(fanout.run_tasks(lambda n, rows: n, {}, PLAIN, progress)) == []


def test_a_bounded_number_of_tasks_is_sent_ahead(
    monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    import ray

    slots = int(ray.cluster_resources()["CPU"])
    sent: list[int] = []
    fill = Pool.fill
    monkeypatch.setattr(
        Pool, "fill", lambda pool: (fill(pool), sent.append(len(pool.in_flight)))[0]
    )
    settings = FanoutSettings(in_flight=3)
    with Progress("test", 60) as progress:
        found = list(fanout.run_tasks(lambda n, rows: n, tasks(30), settings, progress))
    assert sorted(found) == [(n, n) for n in range(30)]
    assert max(sent) == min(30, 3 * slots)


def test_a_worker_computes_on_one_thread_with_limits_on_pictures_and_shut_doors() -> None:
    """So that scores are the same on every machine, and a bomb is refused by the decoder too."""
    doors = list(cluster_.UNSAFE)

    def threads(shard: int, rows: pa.Table) -> dict[str, object]:
        import cv2

        names = ("OMP_NUM_THREADS", "OPENCV_IO_MAX_IMAGE_PIXELS", "MLFLOW_DISABLE_TELEMETRY")
        found = {"cv2": cv2.getNumThreads()} | {name: os.environ[name] for name in names}
        return found | {"doors": [os.environ[door] for door in doors]}

    with Progress("test", 1) as progress:
        ((_, found),) = fanout.run_tasks(threads, tasks(1), PLAIN, progress)
    assert found == {
        "cv2": 1,
        "OMP_NUM_THREADS": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**27),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "doors": ["0"] * len(doors),
    }


def test_every_shard_is_committed_and_the_job_with_them(tmp_path: Path) -> None:
    opened = book(tmp_path / "out", 7)
    fanout.fan_out(opened, shard_work(opened), PLAIN, "test")
    assert opened.is_done()
    assert opened.read("images", ["image"])["image"].to_pylist() == inputs(7)["image"].to_pylist()
    done = attempts(tmp_path / "out")
    assert sorted(event["shard"] for event in done) == list(range(7))
    assert all(event["host"] and event["seconds"] >= 0 for event in done)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    opened = book(tmp_path / "out", 6)
    work = shard_work(opened)
    for shard in (1, 4):
        opened.commit(work(shard, opened.shards()[shard]))

    def counted(shard: int, rows: pa.Table) -> Receipt:
        count_try(marks, shard)
        return work(shard, rows)

    fanout.fan_out(opened, counted, PLAIN, "test")
    assert sorted(path.name for path in marks.iterdir()) == ["0-0", "2-0", "3-0", "5-0"]
    assert opened.is_done()


# --- What raises


def test_a_task_that_raises_fails_its_shard_and_the_others_are_done_first(tmp_path: Path) -> None:
    opened = book(tmp_path / "out", 8)
    work = shard_work(opened)

    def broken(shard: int, rows: pa.Table) -> Receipt:
        if shard == 0:
            raise ZeroDivisionError("a fault\nof two lines")
        return work(shard, rows)

    with pytest.raises(JobFailed) as told:
        fanout.fan_out(opened, broken, PLAIN, "test")
    assert str(told.value) == (
        "1 of 8 shards failed; shard 0: ZeroDivisionError: a fault; "
        "run the same command again; it does only what is missing"
    )
    assert not opened.is_done()
    assert sorted(opened.receipts()) == list(range(1, 8))
    (event,) = [event for event in attempts(tmp_path / "out") if "error" in event]
    assert event["shard"] == 0
    assert "in broken\n    raise ZeroDivisionError" in str(event["error"])  # the traceback
    fanout.fan_out(opened, work, PLAIN, "test")  # the fault put right
    assert opened.is_done()


def test_an_error_of_ours_in_a_worker_keeps_its_words() -> None:
    def refuse(shard: int, rows: pa.Table) -> None:
        raise InputError("the model in m is broken", "copy it anew")

    with Progress("test", 1) as progress, pytest.raises(JobFailed, match="m is broken; copy it"):
        list(fanout.run_tasks(refuse, tasks(1), PLAIN, progress))


def test_three_shards_that_raise_stop_the_job_early(tmp_path: Path) -> None:
    """It is the job that is at fault then, and a thousand more shards would only tell the same."""

    def broken(shard: int, rows: pa.Table) -> None:
        count_try(tmp_path, shard)
        raise ValueError(f"in shard {shard}")

    told = "of 200 shards failed; shard 0: ValueError: in shard 0"
    with Progress("test", 400) as progress, pytest.raises(JobFailed, match=told):
        list(fanout.run_tasks(broken, tasks(200), PLAIN, progress))
    assert 3 <= len(list(tmp_path.iterdir())) < 40


# --- What dies


def test_a_worker_that_is_killed_is_tried_again_and_all_ends_well(tmp_path: Path) -> None:
    opened = book(tmp_path / "out", 6)
    work, marks = shard_work(opened), tmp_path / "marks"

    def dying(shard: int, rows: pa.Table) -> Receipt:
        if count_try(marks, shard) == 1 and shard in (2, 3):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(shard, rows)

    fanout.fan_out(opened, dying, PLAIN, "test")
    assert opened.is_done()
    causes = [event["cause"] for event in attempts(tmp_path / "out") if "cause" in event]
    assert set(causes) == {"worker crashed"}
    undisturbed = book(tmp_path / "undisturbed", 6)
    fanout.fan_out(undisturbed, shard_work(undisturbed), PLAIN, "test")
    assert tables(tmp_path / "out") == tables(tmp_path / "undisturbed")


def test_work_in_two_steps_is_done_by_two_tasks_and_tried_again_whichever_dies(
    tmp_path: Path,
) -> None:
    opened = book(tmp_path / "out", 6)
    work, marks = shard_work(opened), tmp_path / "marks"

    def first(shard: int, rows: pa.Table) -> Iterator[str]:
        if count_try(marks / "first", shard) == 1 and shard in (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from rows["image"].to_pylist()

    def second(shard: int, begun: list[str]) -> Receipt:
        assert begun == [f"{shard}-0.jpg", f"{shard}-1.jpg"]
        if count_try(marks / "second", shard) == 1 and shard in (2, 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(shard, pa.table({"image": begun}))

    def never(shard: int, rows: pa.Table) -> Receipt:
        raise AssertionError

    staged = fanout.Staged(never, first, second)
    fanout.fan_out(opened, staged, FanoutSettings(apart=0.5, cpus=0.5), "test")
    assert opened.is_done()
    causes = [event["cause"] for event in attempts(tmp_path / "out") if "cause" in event]
    assert set(causes) == {"worker crashed"}
    undisturbed = book(tmp_path / "undisturbed", 6)
    whole = fanout.Staged(shard_work(undisturbed), first, second)
    fanout.fan_out(undisturbed, whole, PLAIN, "test")  # in one
    assert tables(tmp_path / "out") == tables(tmp_path / "undisturbed")


def test_a_shard_that_kills_every_worker_is_given_up_after_a_bounded_number(
    tmp_path: Path,
) -> None:
    opened = book(tmp_path / "out", 3)
    work, marks = shard_work(opened), tmp_path / "marks"

    def deadly(shard: int, rows: pa.Table) -> Receipt:
        count_try(marks, shard)
        if shard == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(shard, rows)

    with pytest.raises(JobFailed, match="1 of 3 shards failed; shard 1: WorkerCrashedError"):
        fanout.fan_out(opened, deadly, PLAIN, "test")
    assert sum(path.name.startswith("1-") for path in marks.iterdir()) == 4  # once and 3 retries
    assert sorted(opened.receipts()) == [0, 2]


def test_a_shard_that_wants_memory_is_done_again_with_more_of_it_and_smaller_batches(
    tmp_path: Path,
) -> None:
    opened = book(tmp_path / "out", 3)
    work, marks = shard_work(opened), tmp_path / "marks"

    def hungry(shard: int, rows: pa.Table) -> Receipt:
        from workflows.fanout import care

        taken, tries = care.current(), count_try(marks, shard)
        assert (taken.split, taken.memory >> 30) == {1: (1, 0), 2: (2, 2), 3: (4, 4)}[tries]
        if shard == 1 and tries < 3:
            raise MemoryError("of one batch")
        return work(shard, rows)

    fanout.fan_out(opened, hungry, PLAIN, "test")
    assert opened.is_done()
    ends = [event["cause"] for event in attempts(tmp_path / "out") if "cause" in event]
    assert ends == ["out of memory"] * 2


def test_more_memory_than_a_node_has_is_not_waited_for() -> None:
    def work(shard: int, rows: pa.Table) -> int:
        return shard

    settings = FanoutSettings(memory=1e6)  # a petabyte
    with Progress("test", 1) as progress:
        assert list(fanout.run_tasks(work, tasks(1), settings, progress)) == [(0, 0)]


# --- What is slow


def wait_until(path: Path) -> None:
    """Return when there is the file, or after a minute: no worker outlives a test for long."""
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)


def test_a_straggler_has_a_twin_and_is_not_waited_for(tmp_path: Path) -> None:
    opened, over = book(tmp_path / "out", 8), tmp_path / "over"
    work, marks = shard_work(opened), tmp_path / "marks"

    def slow(shard: int, rows: pa.Table) -> Receipt:
        if count_try(marks, shard) == 1 and shard == 5:
            wait_until(over)
        return work(shard, rows)

    try:
        fanout.fan_out(opened, slow, FanoutSettings(twin=1.0), "test")
        assert opened.is_done()  # while the first attempt still waits
    finally:
        over.touch()
    twins = [event["shard"] for event in attempts(tmp_path / "out") if "twin" in event]
    assert twins == [5]
    tried = sorted(path.name for path in (tmp_path / "marks").iterdir())
    assert tried == ["0-0", "1-0", "2-0", "3-0", "4-0", "5-0", "5-1", "6-0", "7-0"]
    undisturbed = book(tmp_path / "undisturbed", 8)
    fanout.fan_out(undisturbed, shard_work(undisturbed), PLAIN, "test")
    assert tables(tmp_path / "out") == tables(tmp_path / "undisturbed")


def late_and_other(out: Path, other: bool) -> fanout.ShardWork:
    """The work, of which shard 5 is done twice, the first attempt last, and maybe differently."""
    opened = book(out, 8)
    work, marks = shard_work(opened), out / "attempts" / "marks"

    def twice(shard: int, rows: pa.Table) -> Receipt:
        tries = count_try(marks, shard)
        if shard == 5 and tries == 1:
            wait_until(out / "receipts" / "00005.json")  # the twin's
            if other:
                rows = rows.set_column(0, "image", pa.array(["another", "row"]))
        receipt = work(shard, rows)
        if shard == 5 and tries == 1:
            (marks / "late").touch()
        if shard == 7:  # there is still work when the late one comes
            wait_until(marks / "late")
            time.sleep(4)
        return receipt

    return twice


@pytest.mark.parametrize("other", [False, True], ids=["the same", "another"])
def test_the_first_of_two_results_stands_and_a_second_one_has_to_be_the_same(
    other: bool, tmp_path: Path
) -> None:
    out, settings = tmp_path / "out", FanoutSettings(twin=1.0, cpus=0.5)
    opened, work = book(out, 8), late_and_other(out, other)
    if other:
        with pytest.raises(JobFailed, match=r"shard 5 .* came out differently a second time"):
            fanout.fan_out(opened, work, settings, "test")
    else:
        fanout.fan_out(opened, work, settings, "test")
        assert opened.is_done()
    (part,) = opened.receipts()[5].files
    rows = pq.read_table(out / "images" / part.name)
    assert rows["image"].to_pylist() == ["5-0.jpg", "5-1.jpg"]


def test_no_twin_is_started_before_it_is_time(tmp_path: Path) -> None:
    opened = book(tmp_path / "out", 8)
    work, marks = shard_work(opened), tmp_path / "marks"

    def slow(shard: int, rows: pa.Table) -> Receipt:
        count_try(marks, shard)
        time.sleep(2.5 if shard == 5 else 0)
        return work(shard, rows)

    fanout.fan_out(opened, slow, PLAIN, "test")
    assert len(list(marks.iterdir())) == 8


# --- What is refused


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (FanoutSettings(cpus=1000), "a shard wants 1000 CPUs, .*; lower --set fanout.cpus"),
        (FanoutSettings(gpus=99), "a shard wants 99 GPUs, .*; lower --set fanout.gpus"),
    ],
    ids=["CPUs", "GPUs"],
)
def test_more_than_the_cluster_has_is_refused_at_once(settings: FanoutSettings, told: str) -> None:
    """Ray would wait for ever."""
    with Progress("test", 1) as progress, pytest.raises(InputError, match=told):
        list(fanout.run_tasks(lambda n, rows: n, tasks(1), settings, progress))


@pytest.mark.parametrize("name", cluster_.UNSAFE)
def test_settings_that_let_data_run_code_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(InputError, match=f"{name} lets data files run code; unset {name}"):
        fanout.start()


def test_the_doors_that_are_refused_are_those_of_this_ray() -> None:
    """A door that is renamed would stand open."""
    import ray

    text = "".join(path.read_text() for path in (Path(ray.__file__).parent / "data").rglob("*.py"))
    assert [name for name in cluster_.UNSAFE if name not in text] == []


def test_a_cluster_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    code = """
import sys
from workflows.fanout import start
from nnst.errors import InputError
try:
    start()
except InputError as error:
    sys.exit(str(error))
"""
    environment = os.environ | {"RAY_ADDRESS": "not an address", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "cannot join the Ray cluster at not an address" in done.stderr.splitlines()[-1]
    assert "check RAY_ADDRESS" in done.stderr.splitlines()[-1]


def test_nobody_else_can_read_the_token_of_the_local_cluster(cluster: str) -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("bad", "allowed", "is_error"),
    [(5, 0.05, False), (6, 0.05, True), (100, 1.0, False), (1, 0.0, True), (0, 0.0, False)],
)
def test_more_bad_pictures_than_allowed_is_an_error_after_the_work(
    bad: int, allowed: float, is_error: bool
) -> None:
    reasons = {"truncated": bad - 1, "empty": 1} if bad > 1 else {"empty": bad} if bad else {}
    totals = {"rows_in": 100, "rows_bad": bad, "bad": reasons}
    found = fanout.too_many_bad(totals, FanoutSettings(max_bad=allowed))
    assert (found is not None) == is_error
    if bad == 6:
        assert str(found) == (
            "6 of 100 pictures could not be used (empty 1, truncated 5), more than 5%; all else is "
            "done and written; look at them, or allow more with --max-bad 1"
        )


# --- What is interrupted

DRIVER = """
import os, signal, sys, time
from functools import partial
import pyarrow as pa
from nnst import ledger, records
from nnst.errors import NnstError
from nnst.ledger import Ledger
from nnst.records import Receipt
from workflows import fanout

def work(out, fingerprint, pause, shard, rows):
    time.sleep(pause)
    if not pause and shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    found = [
        {"image": name, "status": "ok", "detections": shard} for name in rows["image"].to_pylist()
    ]
    table = pa.Table.from_pylist(found, schema=records.IMAGES)
    file = ledger.write_part(out, "images", shard, table)
    return Receipt(shard, len(found), len(found), 0, (file,), fingerprint)

opened = Ledger.open(sys.argv[1])
pause = float(sys.argv[2])
settings = fanout.FanoutSettings()
try:
    fanout.fan_out(opened, partial(work, opened.out, opened.fingerprint, pause), settings, "test")
except KeyboardInterrupt:
    sys.exit(130)
except NnstError as error:
    sys.exit(str(error))
"""


def drive(out: Path, cluster: str, pause: float) -> subprocess.Popen[str]:
    """A driver of its own that does the ledger's shards; without a pause, shard 1 is deadly."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(out), str(pause)],
        env=os.environ | {"RAY_ADDRESS": cluster, "RAY_AUTH_MODE": "token"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ray_says_nothing_where_results_are_printed(tmp_path: Path, cluster: str) -> None:
    """It would tell of dead workers on stdout, at any time until the driver ends."""
    book(tmp_path / "out", 6)
    process = drive(tmp_path / "out", cluster, 0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    (line,) = without_progress(err).splitlines()
    assert line.startswith("1 of 6 shards failed; shard 1: WorkerCrashedError")


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return once it is seen; fail when the process ends before, or nothing comes."""
    for _ in range(2400):
        if seen():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing came")


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT], ids=lambda each: each.name)
def test_an_interrupted_job_goes_on_and_ends_as_if_nothing_had_been(
    signal_: signal.Signals, tmp_path: Path, cluster: str
) -> None:
    out = tmp_path / "out"
    opened = book(out, 30)
    process = drive(out, cluster, 0.3)
    wait_for(lambda: len(opened.receipts()) >= 2, process)
    process.send_signal(signal_)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if signal_ == signal.SIGINT else -signal_), err
    before = tables(out)
    assert not opened.is_done()
    assert 2 <= len(opened.receipts()) < 30
    fanout.fan_out(opened, shard_work(opened), PLAIN, "test")
    undisturbed = book(tmp_path / "undisturbed", 30)
    fanout.fan_out(undisturbed, shard_work(undisturbed), PLAIN, "test")
    after = tables(out)
    assert after == tables(tmp_path / "undisturbed")
    assert {name: after[name] for name in before} == before  # and no part was left over


# --- What a cluster has, and what it counts


NODES = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 32.0}]


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (1, 0, 48),  # every CPU
        (1, 1, 2),  # one for each GPU
        (1, 0.25, 8),  # four share one
        (3, 0.25, 4),  # but for want of CPUs beside it
        (16, 0, 2),  # a shard is on one node, so none on the small ones
    ],
)
def test_shards_run_where_one_node_has_all_that_they_take(
    cpus: float, gpus: float, expected: int
) -> None:
    """No GPU is needed to count: what nodes have is what they say."""
    assert cluster_.slots(NODES, cpus, gpus, 1000) == expected
    assert cluster_.shortage(NODES, FanoutSettings(cpus=cpus, gpus=gpus)) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (FanoutSettings(apart=33), "33 CPUs, and no node has more than 32"),
        (FanoutSettings(cpus=33), "33 CPUs, and no node of the cluster has more than 32"),
        (FanoutSettings(gpus=2), "2 GPUs, and no node of the cluster has more than 1"),
        (FanoutSettings(cpus=16, gpus=1), "16 CPUs and 1 GPUs, and no node of the cluster has"),
    ],
)
def test_what_only_several_nodes_have_together_is_refused(
    settings: FanoutSettings, told: str
) -> None:
    assert told in str(cluster_.shortage(NODES, settings))


def test_a_cluster_gets_a_while_to_come_by_a_node_and_no_more(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its autoscaler, where there is one, is told what is missing."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"--set fanout.wait=900"):
        cluster_.gpus_for(FanoutSettings(gpus=2, wait=1.5))
    assert 1.5 <= time.monotonic() - began < 60


def test_a_tally_counts_stages_and_reasons_of_one_shard() -> None:
    from workflows.fanout import meters

    with meters.counted() as tally:
        assert meters.current() is tally
        assert list(tally.stopwatch.each("read", iter("ab"))) == ["a", "b"]
        with pytest.raises(KeyError), tally.stopwatch.stage("decode"):
            raise KeyError
        tally.add_receipt(Receipt(0, 5, 3, 2, (), "", {"corrupt": 2}))
    assert meters.current() is not tally
    assert tally.counts["nnst_pictures", ""] == 5
    assert tally.counts["nnst_bad_pictures", "corrupt"] == 2
    assert tally.stopwatch.seconds.keys() == {"read", "decode"}
    assert {name for name, _ in tally.counts} <= meters.METRICS.keys()
