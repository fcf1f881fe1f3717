"""A Ray cluster on this machine as three machines would have it, started by cluster/*.sh."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

SCRIPTS = Path(__file__).resolve().parents[1] / "cluster"
LIMIT_S = 240.0
_FEW = ("--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000")
_ANY_PORTS = ("--min-worker-port=0", "--max-worker-port=0")
# Nor PYTHONPATH: the code has to travel.
_OTHERS = (
    "MLFLOW_TRACKING_URI",
    "PYTHONPATH",
    "RAY_ADDRESS",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, and tells which interface would
        return str(probe.getsockname()[0])


@dataclass
class ScriptCluster:
    """A head and its workers, each a node with one CPU; the head's is used only if it is told."""

    home: Path
    logs: Path  # a file for each node
    temp: str
    stack: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        self.environment = kept | {
            "HOME": str(self.home),
            "NNST_HOST": _own_address(),
            "NNST_PORT": str(free_port()),
            "NNST_DASHBOARD_PORT": str(free_port()),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    @property
    def token(self) -> Path:
        return self.home / "token"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.environment['NNST_DASHBOARD_PORT']}"

    def start_head(self, *words: str) -> None:
        """Start the head, and return when it is there."""
        client = f"--ray-client-server-port={free_port()}"
        self._start("head.sh", f"--temp-dir={self.temp}", client, *(words or _FEW))
        self.until_nodes(1)

    def start_worker(self) -> None:
        """Start a worker, which joins in a while."""
        host, port = self.environment["NNST_HOST"], self.environment["NNST_PORT"]
        self.workers.append(self._start("worker.sh", f"{host}:{port}", *_FEW))

    def kill_worker(self) -> None:
        """Kill one of the worker nodes, and all that belongs to it."""
        _end(self.workers.pop())

    def until_nodes(self, count: int) -> None:
        """Return when so many nodes are alive; fail when that takes too long."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError):
                if self._nodes() >= count:
                    return
            for worker in [each for each in self.workers if each.poll() is not None]:
                # Ray gives a node half a minute to join, which a busy machine may not do.
                self.workers.remove(worker)
                self.start_worker()
            time.sleep(0.3)
        raise AssertionError(f"there are no {count} nodes at {self.dashboard}")

    def _nodes(self) -> int:
        request = urllib.request.Request(
            f"{self.dashboard}/nodes?view=summary",
            headers={"Authorization": f"Bearer {self.token.read_text()}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            nodes = json.load(answer)["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def _start(self, script: str, *words: str) -> subprocess.Popen[bytes]:
        ports = ("--dashboard-agent-listen-port", "--metrics-export-port")
        free = [f"{name}={free_port()}" for name in ports]
        node = subprocess.Popen(
            [str(SCRIPTS / script), *words, *free, *_ANY_PORTS],
            env=self.environment,
            stdout=self.stack.enter_context((self.logs / f"{script}-{free_port()}").open("wb")),
            stderr=subprocess.STDOUT,
        )
        self.stack.callback(_end, node)
        return node


def _end(node: subprocess.Popen[bytes]) -> None:
    """Kill a node that a script started, and all that belongs to it."""
    import ray  # it brings psutil
    import psutil  # isort: skip

    assert ray
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(node.pid)
        for each in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    node.wait(30)


@contextmanager
def running(home: Path, logs: Path) -> Iterator[ScriptCluster]:
    """Inside, what is started is ended at the end."""
    place = tempfile.TemporaryDirectory(prefix="nnst-ray-", ignore_cleanup_errors=True)
    with place as temp, ExitStack() as stack:
        yield ScriptCluster(home, logs, temp, stack)
