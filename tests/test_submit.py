"""A verb as a job of a cluster: handed over once, followed to its end, stopped; and the doors."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nnst.errors import InputError
from nnst.ledger import LeaseSettings
from workflows import jobs, submit

LIMIT_S = 120.0


@pytest.fixture(scope="session")
def dashboard(script_cluster: Any) -> str:
    """The address of a dashboard that takes jobs."""
    return script_cluster.dashboard


def until(true: Callable[[], object]) -> None:
    """Return when it is true; fail when it takes too long."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


# --- A job from its beginning to its end


def test_a_relative_path_is_refused_in_a_job_with_what_to_do_and_its_own_exit_code(
    send: Any,
) -> None:
    done = send("status", "scans/1")
    assert done.code == 2
    assert "scans/1 is a relative path, and a submitted job's folder is a copy" in done.err
    assert "give a path in full that every node reaches, or one of a store" in done.err
    stopped = send("status", "scans/1", flags=("--stop",))  # it has ended by itself
    assert stopped.code == 2
    assert "no job of this command is running" in stopped.err


def test_a_command_that_could_not_be_run_is_refused_before_it_travels(
    nnst: Callable[..., Any],
) -> None:
    for words, expected in (
        (("scam", "a"), "did you mean 'scan'?"),
        (("scan", "/a", "--model", "m"), "lacks --out"),
        (("scan", "/a", "--model", "m", "--out", "/b", "--bad", "0.5"), "--bad"),
        (("ui",), "of no use on a cluster"),
    ):
        done = nnst("submit", "--address", "http://127.0.0.1:9", "--", *words)
        assert done.code == 2
        assert expected in done.err


def test_what_cannot_be_reached_is_wrong_input_and_says_what_to_check(
    nnst: Callable[..., Any],
) -> None:
    with socket.socket() as taken:  # bound and deaf
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = nnst("submit", "--address", address, "--", "status", "/a")
    assert done.code == 2
    assert "check --address" in done.err


# --- Following


class Relay:
    """Passes connections on to another port of this machine, until they are cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=ends))
                    self._threads[-1].start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        _shut(source, target)

    def cut(self) -> None:
        """End every connection that is open now."""
        _shut(*self._ends)

    def close(self) -> None:
        _shut(self._server)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in (self._server, *self._ends):
            end.close()


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(dashboard: str) -> Iterator[Relay]:
    """Between us and the dashboard."""
    between = Relay(int(dashboard.rpartition(":")[2]))
    yield between
    between.close()


def client_of(address: str, script_cluster: Any) -> Any:
    """What speaks to the dashboard, with the cluster's token."""
    from ray.job_submission import JobSubmissionClient

    token = {"Authorization": f"Bearer {script_cluster.token.read_text()}"}
    return JobSubmissionClient(address, headers=token)


def test_a_job_is_begun_once_followed_over_a_dropped_connection_and_stopped(
    relay: Relay, script_cluster: Any, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    code = f"""
import os, time
print("first line", flush=True)
while not os.path.exists({str(go)!r}): time.sleep(0.05)
print("second line", flush=True)
time.sleep(600)
"""
    (tmp_path / "job.py").write_text(code)
    client = client_of(relay.address, script_cluster)
    job = jobs.Job("nnst-test", f"python {tmp_path / 'job.py'}", str(tmp_path))
    identity, new = jobs.begin(client, job)
    assert (identity, new) == ("nnst-test-1", True)
    assert jobs.begin(client, job) == ("nnst-test-1", False)  # at work: not begun twice
    said: list[str] = []
    ends: list[jobs.End] = []
    follower = threading.Thread(
        target=lambda: ends.append(jobs.follow(client, identity, said.append)), daemon=True
    )
    follower.start()
    until(lambda: "first line" in "".join(said))
    relay.cut()
    go.touch()
    until(lambda: "second line" in "".join(said))
    jobs.stop(client, identity)
    follower.join(LIMIT_S)
    assert [end.code for end in ends] == [130]  # of which Ray's own command says 0
    assert "".join(said).count("first line") == 1
    again = jobs.Job("nnst-test", "exit 7", str(tmp_path))
    identity, new = jobs.begin(client, again)
    assert (identity, new) == ("nnst-test-2", True)  # what has ended is run anew
    assert jobs.follow(client, identity, said.append) == jobs.End(7, "", lost=False)


def test_a_job_whose_driver_is_lost_with_its_machine_begins_anew(
    script_cluster: Any, tmp_path: Path
) -> None:
    """Killed is the process through which Ray watches over the driver, as the machine's end would.

    The driver then goes as well.
    """
    first = tmp_path / "first"
    code = f"""
import os, time
if os.path.exists({str(first)!r}): raise SystemExit(print("second attempt"))
open({str(first)!r}, "w").write(str(os.getpid()))
time.sleep(600)
"""
    (tmp_path / "job.py").write_text(code)
    client = client_of(script_cluster.dashboard, script_cluster)
    job = jobs.Job("nnst-lost", f"exec python {tmp_path / 'job.py'}", str(tmp_path))
    identity, _ = jobs.begin(client, job)
    said: list[str] = []
    patience = jobs.Patience(said.append, losses=1, pause=0.0)
    ends: list[Any] = []
    follower = threading.Thread(
        target=lambda: ends.append(jobs.see_through(client, job, identity, patience)), daemon=True
    )
    follower.start()
    until(lambda: first.exists() and first.read_text())
    watchman_of(int(first.read_text())).kill()
    follower.join(LIMIT_S)
    assert ends == [("nnst-lost-2", jobs.End(0, "", lost=False))]
    assert "the machine of job nnst-lost-1 is lost; it begins anew" in "".join(said)
    assert "second attempt" in "".join(said)
    assert jobs.Patience(said.append).pause > LeaseSettings().stale


def watchman_of(pid: int) -> Any:
    """The process above the driver's that Ray calls its job's supervisor."""
    import ray  # it brings psutil
    import psutil  # isort: skip

    assert ray
    (found,) = (p for p in psutil.Process(pid).parents() if "JobSupervisor" in p.cmdline()[0])
    return found


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("STOPPED", None, 130),
        ("FAILED", 3, 3),
        ("FAILED", -9, 137),  # killed
        ("FAILED", None, 1),  # its node is gone
    ],
)
def test_the_end_of_a_job_is_an_exit_code(status: str, code: int | None, expected: int) -> None:
    record = SimpleNamespace(status=status, driver_exit_code=code)
    assert jobs.exit_code(record) == expected


# --- What travels


def test_the_code_alone_travels_and_works_from_where_it_lands(tmp_path: Path) -> None:
    with submit.code_folder() as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.relative_to(folder).parts[0] for path in files} == {"nnst", "workflows"}
        suffixes = {path.suffix for path in files}
        assert suffixes >= {".py", ".html", ".css", ".js", ".safetensors"}
        assert not suffixes & {".pyc", ".db", ".jpg", ".parquet"}
        assert sum(path.stat().st_size for path in files) < 4e6
        command = [sys.executable, "-c", "import nnst, workflows; print(nnst.__path__)"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"['{folder / 'nnst'}']"
    assert not folder.exists()


def test_a_file_of_settings_travels_and_is_part_of_the_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("min_width = 56\n")
    command = ("scan", "/a", "--config", str(path))
    first = submit.name_of(command)
    with submit.code_folder() as folder:
        entry = submit._entrypoint(command, folder)
        assert entry == "python -m workflows scan /a --config settings.toml"
        assert (folder / "settings.toml").read_text() == "min_width = 56\n"
    path.write_text("min_width = 57\n")
    assert submit.name_of(command) != first


# --- The doors


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/version", "/nodes?view=summary"])
def test_a_request_without_the_token_is_refused(dashboard: str, path: str) -> None:
    body = b'{"entrypoint": "true"}' if path == "/api/jobs/" else None
    for headers in ({}, {"Authorization": "Bearer 0000"}):
        request = urllib.request.Request(
            f"{dashboard}{path}", body, headers | {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code in (401, 403)
        refused.value.close()


def test_a_ray_of_this_machine_alone_listens_on_loopback_alone(cluster: str) -> None:
    import ray  # it brings psutil

    processes = ray._private.worker._global_node.all_processes
    ours = [info.process.pid for infos in processes.values() for info in infos]
    import psutil

    family = [psutil.Process(pid) for pid in ours]
    family += [child for parent in family for child in parent.children(recursive=True)]
    sockets = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # workers come and go
            found = process.net_connections("inet")
            name, open_ones = process.name(), [each for each in found if each.status == "LISTEN"]
            sockets += [(name, each.laddr.ip) for each in open_ones]
    assert len(sockets) >= 4
    open_to_others = [
        each for each in sockets if not each[1].removeprefix("::ffff:").startswith("127.")
    ]
    assert open_to_others == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://head.example:8265", "ssh -L"),
        ("http://me:word@127.0.0.1:8265", "no password"),
        ("127.0.0.1:8265", "http://HOST:PORT"),
    ],
)
def test_the_token_goes_only_where_it_is_safe(
    nnst: Callable[..., Any], address: str, expected: str
) -> None:
    done = nnst("submit", "--address", address, "--", "status", "/a")
    assert done.code == 2
    assert expected in done.err


def test_a_password_neither_travels_nor_is_shown(
    nnst: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ("submit", "--address", "http://127.0.0.1:9", "--", "status")
    done = nnst(*here, "s3://key:geheim@bucket/out")
    assert done.code == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:geheim@mlflow.example")
    refused = nnst(*here, "/a")
    assert refused.code == 2
    for said in (done.err, refused.err):
        assert "holds a user or password" in said
        assert "geheim" not in said
    with pytest.raises(InputError):
        submit._environment()
