"""Files that are whole or not there, on a disk and in a store, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import storage
from nnst.errors import InputError
from tests import flaky_store

ROOT = Path(__file__).resolve().parents[1]
FEW = settings(max_examples=60, deadline=None)


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty folder on a disk, and one in a store that is not this disk."""
    if request.param == "local":
        yield str(tmp_path)
        return
    where = f"memory://{uuid.uuid4().hex}"
    yield where
    storage.remove(where)


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever the test sets as umask is taken back."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def start(script: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Another process that runs a script which knows nnst."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


# --- The same promises on a disk and in a store


def test_what_is_put_is_read_back(folder: str) -> None:
    path = storage.join(folder, "a", "b.bin")  # the folder `a` is made
    storage.put(path, b"0123456789")
    assert storage.read(path) == b"0123456789"
    assert storage.read(path, limit=4) == b"0123"
    assert storage.read(path, limit=99) == b"0123456789"
    assert storage.size(path) == 10
    storage.put(path, b"")  # and replaced
    assert (storage.read(path), storage.size(path)) == (b"", 0)


def test_a_stream_can_be_read_from_any_place(folder: str) -> None:
    path = storage.join(folder, "b.bin")
    storage.put(path, b"0123456789")
    with storage.open_stream(path) as stream:
        stream.seek(6)
        assert stream.read(2) == b"67"
        stream.seek(-1, os.SEEK_END)
        assert stream.read() == b"9"


def test_what_is_put_quickly_is_there_whole(folder: str) -> None:
    path = storage.join(folder, "a", "b", "file")
    for data in (b"first", b"", b"third" * 100_000):
        storage.put_quickly(path, data)
        storage.sync()
        assert storage.read(path) == data
    assert storage.names(storage.join(folder, "a", "b")) == ["file"]


def test_a_quick_put_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        storage.put_quickly(tmp_path / "file", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_streamed_is_there_whole_or_not_at_all(folder: str) -> None:
    """Of a block that fails nothing is left, and what was there stays."""
    path = storage.join(folder, "a", "b.bin")
    with storage.writing(path) as stream:
        for number in range(3):
            stream.write(bytes([number]) * 100_000)
    data = storage.read(path)
    assert (len(data), data[:1], data[-1:]) == (300_000, b"\0", b"\2")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert storage.read(path) == data
    assert storage.names(storage.join(folder, "a")) == ["b.bin"]


def write_half(path: str) -> None:
    with storage.writing(path) as stream:
        stream.write(b"half")
        raise RuntimeError("the rest cannot be made")


def test_put_new_keeps_what_is_there(folder: str) -> None:
    path = storage.join(folder, "a", "receipt.json")
    assert storage.put_new(path, b"first")
    assert not storage.put_new(path, b"second")
    assert storage.read(path) == b"first"
    assert storage.names(storage.join(folder, "a")) == ["receipt.json"]


def test_a_missing_file_is_file_not_found(folder: str) -> None:
    path = storage.join(folder, "none")
    assert not storage.exists(path)
    for function in (storage.read, storage.size, storage.open_stream, storage.read_json):
        with pytest.raises(FileNotFoundError):
            function(path)


def test_a_file_exists_and_is_no_folder(folder: str) -> None:
    storage.put(storage.join(folder, "a", "b"), b"x")
    assert storage.exists(storage.join(folder, "a", "b"))
    assert not storage.is_folder(storage.join(folder, "a", "b"))
    assert storage.exists(storage.join(folder, "a"))
    assert storage.is_folder(storage.join(folder, "a"))
    assert not storage.is_folder(storage.join(folder, "none"))


def test_names_are_sorted_and_not_those_below(folder: str) -> None:
    for name in ("b", "a", "c/d", ".hidden", ".put-0123"):
        storage.put(storage.join(folder, name), b"x")
    assert storage.names(folder) == ["a", "b", "c"]


def test_sizes_are_those_of_the_files_directly_in_a_folder(folder: str) -> None:
    for name, data in {"b": b"12", "a": b"", ".put-1": b"half", "below/c": b"123"}.items():
        storage.put(storage.join(folder, *name.split("/")), data)
    assert storage.sizes(folder) == {"a": 0, "b": 2}
    assert list(storage.sizes(folder)) == ["a", "b"]
    assert storage.sizes(storage.join(folder, "nothing")) == {}
    assert storage.sizes(storage.join(folder, "b")) == {}


def test_sizes_can_be_asked_for_while_files_come_and_go(tmp_path: Path) -> None:
    writer = start(PUT_FOREVER, tmp_path)
    try:
        while "ready" not in storage.names(tmp_path):
            assert writer.poll() is None
            time.sleep(0.01)
        for _ in range(300):
            assert set(storage.sizes(tmp_path).values()) == {200_000}
    finally:
        writer.kill()
        writer.wait()


def test_neither_a_file_nor_nothing_has_names(folder: str) -> None:
    storage.put(storage.join(folder, "file"), b"x")
    assert storage.names(storage.join(folder, "file")) == []
    assert storage.names(storage.join(folder, "none")) == []


def test_remove_takes_a_file_or_a_whole_folder_and_nothing_else(folder: str) -> None:
    for name in ("a/b/c", "a/d", "ab", "e"):
        storage.put(storage.join(folder, name), b"x")
    storage.remove(storage.join(folder, "a"))
    assert storage.names(folder) == ["ab", "e"]
    storage.remove(storage.join(folder, "e"))
    storage.remove(storage.join(folder, "e"))  # nothing there, nothing happens
    assert storage.names(folder) == ["ab"]


def test_a_sweep_waits_for_what_is_on_its_way_out_and_then_gives_up(tmp_path: Path) -> None:
    stopped = threading.Event()

    def write() -> None:
        number = 0
        while not stopped.is_set():
            with contextlib.suppress(OSError):  # its folder went between two steps
                storage.put_quickly(tmp_path / "swept" / "deep" / str(number := number + 1), b"x")

    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(1.0, stopped.set).start()
    while writer.is_alive():
        storage.sweep(tmp_path / "swept")  # raises nothing, whoever wins
    storage.sweep(tmp_path / "swept")
    storage.sweep(tmp_path / "swept")  # nothing there, nothing happens
    assert storage.names(tmp_path) == []


def test_walk_lists_every_file_in_the_order_of_the_names(folder: str) -> None:
    for name in ("b", "a/x", "a.txt", "a0", "a/c/y", ".git/config", "a/.put-0123", "a/.b/z"):
        storage.put(storage.join(folder, name), name.encode())
    found = list(storage.walk(folder))
    assert [entry.name for entry in found] == ["a.txt", "a/c/y", "a/x", "a0", "b"]
    for entry in found:
        assert entry.kind == "file"
        assert storage.read(entry.path) == entry.name.encode()
        assert entry.bytes == len(entry.name)


def test_the_stamp_of_a_file_changes_with_it_and_only_then(folder: str) -> None:
    path = storage.join(folder, "a")
    storage.put(path, b"old")
    (before,) = storage.walk(folder)
    assert list(storage.walk(folder)) == [before]
    time.sleep(0.02)  # coarse file systems keep time in ticks of about 4 ms
    storage.put(path, b"new")
    (after,) = storage.walk(folder)
    assert before.stamp
    assert after.stamp != before.stamp


NAMES = st.lists(
    st.lists(st.text("aB0.-_ é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
    max_size=8,
    unique=True,
)


@FEW
@given(NAMES)
def test_a_disk_and_a_store_list_one_tree_alike(names: list[str]) -> None:
    names = [name for name in names if not {".", ".."} & set(name.split("/"))]
    # A name cannot be a file and a folder at once.
    names = [name for name in names if not any(other.startswith(name + "/") for other in names)]
    visible = [name for name in names if not any(p.startswith(".") for p in name.split("/"))]
    with tempfile.TemporaryDirectory() as local:
        remote = f"memory://{uuid.uuid4().hex}"
        for name in names:
            storage.put(storage.join(local, name), b"x")
            storage.put(storage.join(remote, name), b"x")
        for folder in (local, remote):
            assert [entry.name for entry in storage.walk(folder)] == sorted(visible)
        assert storage.names(local) == storage.names(remote)
        storage.remove(remote)


# --- What only a disk has


def test_links_and_special_files_are_told_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").write_bytes(b"x")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "folder").symlink_to(outside)
    (inside / "broken").symlink_to(outside / "none")
    (inside / "loop").symlink_to(inside)
    os.mkfifo(inside / "pipe")
    assert {entry.name: entry.kind for entry in storage.walk(inside)} == {
        "broken": "link",
        "file": "file",
        "folder": "link",
        "link": "link",
        "loop": "link",
        "pipe": "special",
    }


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    storage.remove(tmp_path / "link")
    assert storage.names(tmp_path) == ["kept"]
    assert storage.names(tmp_path / "kept") == ["file"]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_that_the_umask_asks_for(tmp_path: Path, mask: int) -> None:
    """Colleagues who share a folder can read what any tool of theirs could have written."""
    os.umask(mask)
    storage.put(tmp_path / "put", b"x")
    storage.put_new(tmp_path / "new", b"x")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_put_never_sets_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the whole process: set for a moment, it gives the files of another thread a
    wrong mode, and two threads that set it at once may leave it set."""

    def umask(mask: int) -> int:
        raise AssertionError(f"the umask was set to {mask:o}")

    monkeypatch.setattr(os, "umask", umask)
    storage.put(tmp_path / "put", b"x")
    storage.put_new(tmp_path / "new", b"x")
    assert sorted(os.listdir(tmp_path)) == ["new", "put"]


def test_threads_may_put_one_file_at_once(tmp_path: Path) -> None:
    def put_many(letter: bytes) -> None:
        for _ in range(25):
            storage.put(tmp_path / "file", letter * 10_000)

    threads = [threading.Thread(target=put_many, args=(bytes([97 + i]),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = storage.read(tmp_path / "file")
    assert (len(data), len(set(data))) == (10_000, 1)
    assert os.listdir(tmp_path) == ["file"]


def test_a_put_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        storage.put(tmp_path / "taken", b"x")
    assert storage.put_new(tmp_path / "taken", b"x") is False
    assert os.listdir(tmp_path) == ["taken"]


PUT_AND_DIE = """
import os, signal, sys
from nnst import storage
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
storage.put(sys.argv[1], b"new")
"""


def test_a_put_killed_before_its_last_step_changes_nothing_that_readers_see(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plan.json"
    storage.put(path, b"old")
    assert start(PUT_AND_DIE, path).wait(timeout=60) == -signal.SIGKILL
    assert storage.read(path) == b"old"
    assert storage.names(tmp_path) == ["plan.json"]
    assert [entry.name for entry in storage.walk(tmp_path)] == ["plan.json"]
    leftover = set(os.listdir(tmp_path)) - {"plan.json"}
    assert len(leftover) == 1  # else the process died elsewhere and nothing was tested
    assert leftover.pop().startswith(".put-")


PUT_FOREVER = """
import itertools, sys
from nnst import storage
for turn in itertools.count():
    letter = bytes([97 + turn % 26])
    storage.put(storage.join(sys.argv[1], f"file-{turn % 3}"), letter * 200_000)
    if turn == 5:
        storage.put(storage.join(sys.argv[1], "ready"), letter * 200_000)
"""


def test_no_reader_sees_a_part_of_a_file_not_even_after_kill_9(tmp_path: Path) -> None:
    delay = random.Random(5)
    for round_ in range(3):
        folder = tmp_path / str(round_)
        writer = start(PUT_FOREVER, folder)
        deadline = time.monotonic() + 60
        while "ready" not in storage.names(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            last = time.monotonic() + delay.uniform(0.02, 0.15)
            while time.monotonic() < last:
                assert_whole(folder)
        finally:
            writer.kill()
            writer.wait()
        assert storage.names(folder) == ["file-0", "file-1", "file-2", "ready"]
        assert_whole(folder)


def assert_whole(folder: Path) -> None:
    """Each listed file is one letter, 200,000 times."""
    for name in storage.names(folder):
        data = storage.read(folder / name)
        assert (len(data), len(set(data))) == (200_000, 1), name


RACE = """
import os, sys, time
from nnst import storage
folder, begin = sys.argv[1], time.time() + 0.2
for number in range(8):
    if os.fork() == 0:
        for turn in range(25):
            time.sleep(max(0.0, begin + turn / 100 - time.time()))  # all eight at once, each turn
            name = f"{turn:02d}"
            if storage.put_new(storage.join(folder, name), str(number).encode() * 5_000):
                storage.put(storage.join(folder, "won", f"{name}-{number}"), b"")
        os._exit(0)
failed = [status for _, status in (os.wait() for _ in range(8)) if status]
sys.exit(len(failed))
"""


def test_of_eight_processes_exactly_one_puts_a_new_file(tmp_path: Path) -> None:
    assert start(RACE, tmp_path).wait(timeout=120) == 0
    won = [name.split("-") for name in storage.names(tmp_path / "won")]
    assert [turn for turn, _ in won] == [f"{turn:02d}" for turn in range(25)]
    for turn, number in won:
        assert storage.read(tmp_path / turn) == number.encode() * 5_000
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".put-")]


# --- Stores


@pytest.mark.parametrize("path", ["nosuchstore://bucket/key", "://x"])
def test_a_store_that_is_not_known_is_an_input_error(path: str) -> None:
    with pytest.raises(InputError, match=path):
        storage.read(path)


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_local_path_with_a_scheme_is_refused(tmp_path: Path, scheme: str) -> None:
    """fsspec would write it in place: neither atomic nor lasting."""
    with pytest.raises(InputError, match="is a local path; write it without the scheme"):
        storage.put(f"{scheme}://{tmp_path}/a", b"x")
    assert os.listdir(tmp_path) == []


def test_walking_a_file_of_a_store_lists_nothing() -> None:
    path = f"memory://{uuid.uuid4().hex}"
    storage.put(path, b"x")
    assert list(storage.walk(path)) == []
    storage.remove(path)
    assert not fsspec.filesystem("memory").exists(path)


# --- Paths and names


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://bucket/key", True), ("memory://a", True), ("/a/b", False), ("a:b", False), ("", False)],
)
def test_a_path_with_a_scheme_is_remote(path: str, remote: bool) -> None:
    assert storage.is_remote(path) is remote


def test_an_absolute_path_holds_in_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.absolute("a/../b") == str(tmp_path / "b")
    assert storage.absolute("~/a") == str(tmp_path / "home" / "a")
    assert storage.absolute(Path("c")) == str(tmp_path / "c")
    assert storage.absolute("s3://bucket/../key") == "s3://bucket/../key"
    once = storage.absolute("a")
    assert storage.absolute(once) == once


def test_join_uses_the_stores_own_slash() -> None:
    assert storage.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"
    assert storage.join("s3://bucket", "a") == "s3://bucket/a"
    assert storage.join(Path("a"), "b") == os.path.join("a", "b")


@FEW
@given(st.text(), st.integers(1, 100))
def test_any_text_becomes_a_name_for_a_file(text: str, limit: int) -> None:
    name = storage.safe_name(text, limit)
    assert 1 <= len(name) <= limit
    assert set(name) <= set(string.ascii_letters + string.digits + "._-")
    assert name[0] not in ".-"  # neither hidden, nor a folder, nor an option
    assert storage.safe_name(name, limit) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IMG_0001.jpg", "IMG_0001.jpg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
        ("", "_"),
        ("-rf", "rf"),
        ("a\x00b\nc", "a_b_c"),
        ("Straße 1", "Stra_e_1"),
        ("x" * 99, "x" * 80),
    ],
)
def test_safe_names_worked_by_hand(text: str, expected: str) -> None:
    assert storage.safe_name(text) == expected


# --- JSON


def test_a_documents_bytes_depend_on_its_content_only() -> None:
    one = storage.to_json({"b": [1, 2.5], "a": {"y": None, "x": "ü"}})
    two = storage.to_json({"a": {"x": "ü", "y": None}, "b": [1, 2.5]})
    assert one == two
    assert one.endswith(b"\n")
    assert "ü".encode() in one


def test_a_document_comes_back(folder: str) -> None:
    document = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    storage.put(storage.join(folder, "a.json"), storage.to_json(document))
    assert storage.read_json(storage.join(folder, "a.json")) == document


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"{} {}"])
def test_what_is_no_json_is_refused_by_name(folder: str, data: bytes) -> None:
    path = storage.join(folder, "a.json")
    storage.put(path, data)
    with pytest.raises(InputError, match=r"a\.json is not JSON"):
        storage.read_json(path)


def test_sha256_is_the_published_one() -> None:
    """The example of FIPS 180-2, appendix B.1."""
    assert storage.sha256(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


# --- A store that fails now and then


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder of a store whose faults the tests choose, without pauses between tries."""
    monkeypatch.setattr(storage.store, "PATIENCE", storage.store.Patience(pause=0.0))
    where = f"flaky://{uuid.uuid4().hex}"
    with flaky_store.faults(0, 0):
        yield where
        storage.remove(where)


def test_a_store_that_fails_and_lies_holds_what_was_put(flaky: str) -> None:
    """Of 100 requests 8 fail, and of the rest 4 are done and said to have failed."""
    contents = {f"{number:03}": os.urandom(number) for number in range(300)}
    with flaky_store.faults(0.08, 0.04, seed=1) as faults:
        for number, (name, data) in enumerate(contents.items()):
            if number % 2:
                storage.put(storage.join(flaky, name), data)
            else:
                assert storage.put_new(storage.join(flaky, name), data)
                assert not storage.put_new(storage.join(flaky, name), b"later")
        assert storage.names(flaky) == sorted(contents)
        assert [entry.name for entry in storage.walk(flaky)] == sorted(contents)
        for name, data in contents.items():
            assert storage.size(storage.join(flaky, name)) == len(data)
            assert storage.read(storage.join(flaky, name)) == data
            with storage.open_stream(storage.join(flaky, name)) as stream:
                stream.seek(len(data) // 2)
                assert stream.read() == data[len(data) // 2 :]
        for name in contents:
            storage.remove(storage.join(flaky, name))
        assert not storage.exists(flaky)
    assert faults.failed > 100
    assert faults.lied > 20


def test_what_fails_to_the_end_is_a_fault_of_the_connection_and_names_the_file(flaky: str) -> None:
    path = storage.join(flaky, "file")
    for request in (
        lambda: storage.read(path),
        lambda: storage.open_stream(path),
        lambda: storage.put(path, b""),
        lambda: storage.put_new(path, b""),
        lambda: storage.names(flaky),
        lambda: list(storage.walk(flaky)),
        lambda: storage.remove(path),
        lambda: storage.exists(path),
        lambda: storage.is_folder(path),
        lambda: storage.size(path),
    ):
        with (
            flaky_store.faults(1, 0) as faults,
            pytest.raises(ConnectionError, match=rf"answer for {flaky}.* \(tried 5 times\)"),
        ):
            request()
        assert faults.requests == 5


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.EIO, ""), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (flaky_store.TooManyRequests(), True),
        (OSError("a store's own words, without a number"), True),
        (FileNotFoundError(), False),
        (FileExistsError(), False),
        (PermissionError(), False),
        (IsADirectoryError(), False),
        (OSError(errno.ENOSPC, ""), False),  # more tries make no more space
        (ValueError(), False),
        (KeyError("a fault of ours"), False),
    ],
)
def test_only_what_may_be_over_soon_is_tried_again(
    error: Exception, passing: bool, flaky: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage.store.is_passing(error) == passing
    monkeypatch.setattr(flaky_store, "FAULTS", (lambda: error,))
    with flaky_store.faults(1, 0) as faults, pytest.raises(Exception):  # noqa: B017 PT011
        storage.read(flaky)
    assert faults.requests == (5 if passing else 1)


def test_pauses_take_no_number_from_somebodys_seed(flaky: str) -> None:
    """Training draws from it, and must draw the same after a store was away."""
    random.seed(5)
    expected = [random.random() for _ in range(2)]
    random.seed(5)
    drawn = [random.random()]
    with flaky_store.faults(1, 0), pytest.raises(ConnectionError):
        storage.read(flaky)
    assert [*drawn, random.random()] == expected


def test_pauses_between_tries_grow_and_differ(flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.store, "PATIENCE", storage.store.Patience())
    for _ in range(3):
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        with flaky_store.faults(1, 0), pytest.raises(ConnectionError):
            storage.read(flaky)
        assert len(slept) == 4
        for pause, usual in zip(slept, (0.5, 1, 2, 4), strict=True):
            assert usual / 2 <= pause <= usual * 1.5


def test_somebody_elses_file_is_not_taken_for_ones_own_after_a_lie(flaky: str) -> None:
    path = storage.join(flaky, "file")
    storage.put(path, b"theirs")
    with flaky_store.faults(0.5, 0.2, seed=3) as faults:
        for _ in range(50):
            with contextlib.suppress(ConnectionError):
                assert storage.put_new(path, b"ours") is False
    assert faults.failed > 20
    assert storage.read(path) == b"theirs"
