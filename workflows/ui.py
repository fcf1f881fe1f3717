"""`nnst ui`: MLflow's page of runs and models, on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nnst.config import setting
from nnst.errors import InputError, JobFailed
from workflows import tracking
from workflows.commands import Options, Outcome

HOST = "127.0.0.1"
START_LIMIT_S = 90.0
STOP_LIMIT_S = 10.0


@dataclass(frozen=True)
class UiConfig:
    """Settings of nnst ui."""

    port: int = setting(5000, "the port on 127.0.0.1 that the page is served at")

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")


def run(config: UiConfig, options: Options) -> Outcome:
    """Serve the page until ctrl-C; the address goes to stderr once it answers."""
    uri = tracking.tracking_uri()
    _check_records(uri)
    _check_port(config.port)
    url = f"http://{HOST}:{config.port}"
    if options.dry_run:
        return Outcome(
            {"url": url}, f"would serve the runs and models of {tracking.shown(uri)} at {url}"
        )
    with _server(_command(uri, config.port)) as (server, log):
        try:
            _await_answer(server, log, f"{url}/health")
            print(f"runs and models: {url} (ctrl-C ends it)", file=sys.stderr, flush=True)
            server.wait()
        except KeyboardInterrupt:
            return Outcome({"url": url}, "nnst ui has ended")
        raise _ended(log)


def _check_records(uri: str) -> None:
    """Raises InputError when there is nothing here to show."""
    if uri.startswith("http"):
        raise InputError(
            f"MLFLOW_TRACKING_URI={tracking.shown(uri)} is a server with a page of its own",
            "open that address, or unset the variable to see mlruns/",
        )
    file = tracking.database_file(uri)
    if file and not os.path.exists(file):
        raise InputError(f"no run is recorded in {file}", "run nnst demo or nnst train first")


def _check_port(port: int) -> None:
    """Raises InputError when the port is taken or not allowed."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            what = f"port {port} cannot be used: {error.strerror}"
            raise InputError(what, "choose another one with --port") from None


def _command(uri: str, port: int) -> list[str]:
    artifacts = Path(tracking.artifact_folder(uri)).as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)),
        *("--backend-store-uri", uri, "--workers", "1"),
        # New experiments get a plain folder, as those that are recorded without a server do.
        *("--default-artifact-root", artifacts, "--artifacts-destination", artifacts),
        # Without it MLflow takes every name like 10.*, which lets a web page in by DNS rebinding.
        *("--allowed-hosts", f"localhost:{port},{HOST}:{port}"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


@contextmanager
def _server(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """The server as a process group of its own, and what it says; ended when left."""
    switches = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with tempfile.TemporaryFile() as log, _terminable():
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | switches,
            start_new_session=True,  # ctrl-C reaches us alone; we end the server, children and all
        )
        try:
            yield server, log
        finally:
            _end(server)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends this process the way in which exceptions do, so that the server ends too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(server: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, kind)
            server.wait(STOP_LIMIT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _await_answer(server: subprocess.Popen[bytes], log: IO[bytes], url: str) -> None:
    """Return when the server answers. Raises JobFailed when it ended, or takes too long."""
    deadline = time.monotonic() + START_LIMIT_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise _ended(log)
        try:
            with direct.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise JobFailed(f"MLflow did not answer at {url} within {START_LIMIT_S:.0f} s", _tail(log))


def _ended(log: IO[bytes]) -> JobFailed:
    return JobFailed("MLflow's server has ended by itself", f"its last words: {_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "none"
