"""nnst collect beside img2dataset: pictures a second of one URL list, one after the other.

A server process of its own gives JPEGs of about 50 kB, no two alike, on many loopback hosts. Both
keep the bytes as they are, neither resizes, both with two processes: once each picture is decoded
(nnst's default; img2dataset's `skip_reencode`), once it is not (`disable_all_reencoding`). nnst
follows robots.txt and TDMRep as always; only the pace of a host is lifted. From the project's root:

    python -m tests.benchmarks.bench_collect --img2dataset VENV/bin/img2dataset [--pictures 10000]

The rate that counts is the server's: pictures between its first and last request, so that starting
Ray (nnst) or a pool of processes (img2dataset) is left out; the whole command is beside it. So is
the processor time that the command and all its processes took for a picture meanwhile: on a machine
that others use too, that is the figure to compare.
Exits 1 where a run did not get every picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nnst import images
from nnst.scenes.photographs import photographs

BYTES = 50_000
NETWORK = "127.0.2.0/24"


def pictures() -> list[bytes]:
    """JPEGs of about BYTES, cut out of the photographs of installed packages."""
    found = []
    for pixels in photographs().values():
        height, width = pixels.shape[:2]
        for top in range(0, max(1, height - 300), 150):
            data = b""
            side = 300
            while len(data) < BYTES and side < min(height - top, width):
                data = images.encode_jpeg(pixels[top : top + side, :side])
                side += 40
            if len(data) >= 0.8 * BYTES:
                found.append(data)
    return found


def numbered(data: bytes, number: int) -> bytes:
    """The JPEG with a comment that no other one has."""
    comment = f"{number:08d}".encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


class Talk(asyncio.Protocol):
    """As little of HTTP as will do, so that the server is not what is measured."""

    originals: ClassVar[list[bytes]] = []
    times: ClassVar[list[float]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if not path.startswith(b"/p/"):
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            number = int(path[3:].partition(b".")[0])
            body = numbered(self.originals[number % len(self.originals)], number)
            kind = b"Content-Type: image/jpeg\r\n"
            size = b"Content-Length: %d\r\n\r\n" % len(body)
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + kind + size + body)
            self.times.append(time.monotonic())


def serve(hosts: int, pipe: Connection) -> None:
    """Serve until told to stop; each message is answered with the times since the one before."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        Talk.originals = pictures()
        port = 0
        for number in range(1, hosts + 1):
            listening = socket.create_server((f"127.0.2.{number}", port), backlog=512)
            port = listening.getsockname()[1]
            await loop.create_server(Talk, sock=listening)
        pipe.send(port)
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(list(Talk.times))
            Talk.times.clear()

    asyncio.run(run())


@contextlib.contextmanager
def server(hosts: int) -> Iterator[tuple[int, Connection]]:
    """The port, and a pipe to ask for the times at which pictures were given."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(hosts, theirs))
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        ours.send(None)
        process.join(10)


@dataclass(frozen=True)
class Run:
    """What one command came to."""

    name: str
    seconds: float  # of the whole command
    pictures: int  # that lie on disk
    served: int
    rate: float  # pictures a second, between the first and the last request
    cpu_ms: float  # a picture, of the command and its descendants, meanwhile


class CpuWatch(threading.Thread):
    """Looks now and then how much processor time a process and its descendants have taken."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.over = threading.Event()
        self.spent: dict[int, float] = {}  # by process; of those that ended, what was seen last
        self.seen: list[tuple[float, float]] = []  # time, seconds spent by then

    def run(self) -> None:
        while not self.over.wait(0.1):
            for pid in self._family():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    ticks = int(fields[11]) + int(fields[12])
                    self.spent[pid] = ticks / os.sysconf("SC_CLK_TCK")
            self.seen.append((time.monotonic(), sum(self.spent.values())))

    def _family(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def between(self, begun: float, ended: float) -> float:
        """Seconds of processor time spent between two times."""
        times, spent = zip(*self.seen, strict=True)
        first, last = np.interp([begun, ended], times, spent)
        return float(last - first)


def measure(name: str, command: list[str], out: Path, pipe: Connection) -> Run:
    begun = time.monotonic()
    # Ray makes way for others on a busy machine; here both are to have the same share of it.
    environment = {"HOME": str(out.parent), "RAY_worker_niceness": "0"}
    with (out.parent / "said").open("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | environment)
        watch = CpuWatch(process.pid)
        watch.start()
        code = process.wait()
        watch.over.set()
        watch.join()
        if code:
            print((out.parent / "said").read_text()[-2000:], file=sys.stderr)
    seconds = time.monotonic() - begun
    pipe.send(True)
    times = sorted(pipe.recv())
    kept = sum(1 for path in out.rglob("*.jpg") if path.is_file())
    spread = times[-1] - times[0] if len(times) > 1 else float("inf")
    cpu = watch.between(times[0], times[-1]) / len(times) * 1e3 if times else float("nan")
    return Run(name, seconds, kept, len(times), len(times) / spread, cpu)


def nnst(urls: Path, out: Path, port: int, decode: bool) -> list[str]:
    """The command, with the pace of a host lifted."""
    settings = {
        "safety.networks": NETWORK,
        "safety.ports": str(port),
        "pace.rate": "0",
        "pace.connections": "4",
        "shard_links": "2500",
        "decode": str(decode).lower(),
    }
    flags = [word for item in settings.items() for word in ("--set", "=".join(item))]
    command = [sys.executable, "-m", "workflows", "collect", str(urls), "--out", str(out)]
    return [*command, "--contact", "https://example.org/nnst", *flags]


def img2dataset(program: str, urls: Path, out: Path, decode: bool) -> list[str]:
    """The same with two processes: the bytes stay as they came, decoded for their size or not."""
    settings = {
        "url_list": urls,
        "output_folder": out,
        "processes_count": 2,
        "thread_count": 32,
        "resize_mode": "no",
        "skip_reencode" if decode else "disable_all_reencoding": True,
        "output_format": "files",
        "number_sample_per_shard": 2500,
        "enable_wandb": False,
    }
    return [program, *(f"--{name}={value}" for name, value in settings.items())]


def main() -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--img2dataset", default="", help="its program; without, nnst alone")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name, server(options.hosts) as (port, pipe):
        folder = Path(name)
        urls = folder / "urls.txt"
        urls.write_text(
            "".join(
                f"http://127.0.2.{1 + number % options.hosts}:{port}/p/{number}.jpg\n"
                for number in range(options.pictures)
            )
        )
        for repeat in range(options.repeats):
            for decode in (True, False):
                said = f", {'decoded' if decode else 'not decoded'}"
                out = folder / f"nnst{repeat}{decode}"
                runs.append(measure(f"nnst{said}", nnst(urls, out, port, decode), out, pipe))
                if options.img2dataset:
                    out = folder / f"peer{repeat}{decode}"
                    command = img2dataset(options.img2dataset, urls, out, decode)
                    runs.append(measure(f"img2dataset{said}", command, out, pipe))
    if options.json:
        print(json.dumps([vars(run) for run in runs]))
    else:
        for run in runs:
            print(
                f"{run.name:24} {run.rate:8.0f} pictures/s, {run.cpu_ms:.2f} ms of processor a "
                f"picture, {run.pictures:,} kept, "
                f"{run.served:,} served, whole command {run.seconds:.0f} s"
            )
    return 0 if all(run.pictures == options.pictures for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
