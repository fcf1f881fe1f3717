"""The drill of nnst collect: a driver killed twice amid hostile hosts, whose logs prove it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnst import archive, images, records
from nnst.ledger import Ledger
from tests.local_web import NOT_FOUND, LocalWeb, Reply, Request, Script

HOSTS, ADDRESSES = 20, 2000
CONNECTIONS = 2
LATENCY = 0.03
KINDS = {  # of a hundred addresses, how many
    "gone": 5,
    "busy": 5,  # 503, then the picture
    "slow down": 2,  # 429 with Retry-After, then the picture
    "drip": 1,
    "endless": 1,
    "page": 1,
    "bomb": 1,
    "to metadata": 1,
    "to file": 1,
    "to ftp": 1,
    "to loopback": 1,
    "same": 5,
}
EXPECTED = {
    "gone": {"not_found"},
    "busy": {"ok"},
    "slow down": {"ok"},
    "drip": {"timeout"},
    "endless": {"too_many_bytes"},
    "page": {"unsupported_format"},
    "bomb": {"not_an_image"},
    "to metadata": {"private_address"},
    "to file": {"bad_redirect"},
    "to ftp": {"bad_redirect"},
    "to loopback": {"private_address"},
    "same": {"ok"},
    "picture": {"ok"},
}
BOMB = gzip.compress(bytes(20 << 20))

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("cluster")]


def kind_of(number: int) -> str:
    place = number // HOSTS % 100  # each host has all of them
    for kind, count in KINDS.items():
        if place < count:
            return kind
        place -= count
    return "picture"


def jpeg(number: int) -> bytes:
    rng = np.random.default_rng(number)
    return images.encode_jpeg(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))


async def drip(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


class HostileSite:
    """What each host answers."""

    def __init__(self) -> None:
        self.port = 0
        self.pictures = [jpeg(number) for number in range(ADDRESSES)]
        self.same = jpeg(ADDRESSES)
        self.counts: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply | Script:
        if not request.path.startswith("/p/"):
            return NOT_FOUND
        number = int(request.path[3:])
        self.counts[request.path] += 1
        return self._answer(kind_of(number), number, self.counts[request.path] == 1)

    def _answer(self, kind: str, number: int, first: bool) -> Reply | Script:
        picture = Reply(self.pictures[number], seconds=LATENCY)
        targets = {
            "to metadata": "http://169.254.169.254/latest/meta-data/",
            "to file": "file:///etc/passwd",
            "to ftp": "ftp://127.0.0.1/a.jpg",
            "to loopback": f"http://127.0.0.1:{self.port}/trap",
        }
        if kind in targets:
            return Reply(code=302, headers={"Location": targets[kind]})
        if first and kind in ("busy", "slow down"):
            busy = kind == "busy"
            return Reply(b"", 503 if busy else 429, {} if busy else {"Retry-After": "1"})
        fixed: dict[str, Reply | Script] = {
            "gone": NOT_FOUND,
            "drip": drip,
            "endless": endless,
            "page": Reply(b"<!doctype html><p>no picture"),
            "bomb": Reply(BOMB, headers={"Content-Encoding": "gzip"}),
            "same": Reply(self.same, seconds=LATENCY),
        }
        return fixed.get(kind, picture)


def finished(out: Path) -> set[str]:
    """The addresses that have a row by now; journals stay until the whole collection is done."""
    found = set()
    for path in (out / "journal").glob("*.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                found |= {row["url"] for row in json.loads(line).values()}
    return found


def wait_until(done: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.timeout(900)  # of a machine that has other work
def test_two_thousand_addresses_end_in_two_thousand_rows_whatever_dies(
    start_driver: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    site, out, urls = HostileSite(), tmp_path / "out", tmp_path / "urls.txt"
    with LocalWeb(site, HOSTS) as web:
        site.port = web.port
        listed = [web.url(f"/p/{n}", 1 + n % HOSTS) for n in range(ADDRESSES)]
        urls.write_text("\n".join([*listed, *listed[:50]]))  # some of them twice
        flags = {
            "safety.networks": "127.0.1.0/24",
            "safety.ports": f"80,{web.port}",
            "pace.rate": 0,
            "pace.connections": CONNECTIONS,
            "pace.backoff": 0.05,
            "limits.idle": 1.5,
            "limits.max_bytes": 1 << 20,
            "shard_links": 500,
            "fanout.max_bad": 1,
        }
        words = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
        command = ["collect", urls, "--out", out, "--contact", "me@example.org", *words]

        before: dict[int, set[str]] = {}  # requests up to then -> addresses finished by then
        for share in (0.25, 0.6):
            driver = start_driver(*command)
            wait_until(lambda share=share: len(finished(out)) > share * ADDRESSES)
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
            last = [0, time.monotonic()]

            def is_quiet(last: list[float] = last) -> bool:
                """Whether its workers have ended: no request for longer than a host may take."""
                if len(web.log) != last[0]:
                    last[:] = [len(web.log), time.monotonic()]
                return time.monotonic() - last[1] > 3

            wait_until(is_quiet)
            before[len(web.log)] = finished(out)
            assert not (out / "_SUCCESS").exists()
        driver = start_driver(*command)
        said, complained = driver.communicate(timeout=400)
        assert driver.returncode == 0, complained

        assert web.trapped == []
        crowded = [(n, each) for n, each in enumerate(web.log) if each.connections > CONNECTIONS]
        assert crowded == [], f"drivers began after {list(before)} requests"
        for count, known in before.items():
            asked = {f"http://{each.host}:{web.port}{each.path}" for each in web.log[count:]}
            assert len(known) > 0.2 * ADDRESSES
            assert not asked & known
        robots = Counter(each.host for each in web.log if each.path == "/robots.txt")
        assert max(robots.values()) <= 3  # once for each driver
        for each in web.asked():
            assert each.headers["user-agent"].endswith("(+me@example.org)")
        _check_waits(web)

    rows = Ledger.open(str(out)).read("pictures").to_pylist()
    assert sorted(row["url"] for row in rows) == sorted(listed)
    kinds = {url: kind_of(number) for number, url in enumerate(listed)}
    wrong = [(kinds[r["url"]], r) for r in rows if r["status"] not in EXPECTED[kinds[r["url"]]]]
    assert wrong == []
    assert "50 skipped: listed again" in said
    _check_archive(out, rows)


def owner_of(port: int, server: int) -> int:
    """The process that has a connection from this local port to the server's."""
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port:04X}")
        and fields[2].endswith(f":{server:04X}")
    } - {"0"}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                with contextlib.suppress(OSError):  # it was closed in the meantime
                    if os.readlink(path) in wanted:
                        return int(folder.parent.name)
    raise AssertionError(f"nobody has port {port}")


def test_a_worker_that_dies_costs_no_finished_address_a_second_request(
    nnst: Callable[..., Any], tmp_path: Path
) -> None:
    """Its shard is done again by another one, behind the last row of its journal."""
    out, count = tmp_path / "out", 200
    victims: dict[int, set[str]] = {}  # process -> addresses finished by then

    def site(request: Request) -> Reply:
        if not request.path.startswith("/p/"):
            return NOT_FOUND
        if not victims and len(web.asked()) > count / 2:
            worker = owner_of(request.port, web.port)
            os.kill(worker, signal.SIGKILL)
            victims[worker] = finished(out)
        return Reply(jpeg(int(request.path[3:])), seconds=0.01)

    with LocalWeb(site, hosts=4) as web:
        listed = [web.url(f"/p/{n}", 1 + n % 4) for n in range(count)]
        (tmp_path / "urls.txt").write_text("\n".join(listed))
        flags = {"safety.networks": "127.0.1.0/24", "safety.ports": web.port, "pace.rate": 0}
        words = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
        contact = ("--contact", "me@example.org")
        done = nnst("collect", tmp_path / "urls.txt", "--out", out, *contact, *words)
        assert done.code == 0, done.err
        ((worker, known),) = victims.items()
        assert worker != os.getpid()
        assert len(known) > count / 4
        counts = Counter(f"http://{each.host}:{web.port}{each.path}" for each in web.asked())
        assert {url for url in known if counts[url] != 1} == set()
        crowded = [(n, each) for n, each in enumerate(web.log) if each.connections > CONNECTIONS]
        assert crowded == []
    rows = Ledger.open(str(out)).read("pictures").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * count
    notes = "".join(path.read_text() for path in (out / "attempts").iterdir())
    assert "WorkerCrashedError" in notes


def _check_waits(web: LocalWeb) -> None:
    """A host that asked for a second of peace had it, but for what was under way by then."""
    for host in web.hosts:
        times = [each for each in web.log if each.host == host]
        for index, each in enumerate(times):
            number = each.path[3:]
            if number.isdecimal() and kind_of(int(number)) == "slow down":
                first = all(earlier.path != each.path for earlier in times[:index])
                soon = [after for after in times[index + 1 :] if after.begun < each.begun + 0.9]
                assert not first or len(soon) < CONNECTIONS


def _check_archive(out: Path, rows: list[dict[str, Any]]) -> None:
    """Each distinct picture is there once, whole."""
    ids = {row["image_id"] for row in rows if row["status"] == records.OK}
    plan = archive.plan(str(out))
    found = [
        images.content_hash(member.data or b"") for member in archive.stream(str(out), plan.inputs)
    ]
    assert len(found) == len(ids)
    assert set(found) == ids
    assert {path.stem for path in (out / "blobs").rglob("*.jpg")} == ids
