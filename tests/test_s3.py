"""Archives and outputs in a real S3 server on loopback: whole, resumable, sparing of requests."""

from __future__ import annotations

import os
import re
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nnst import storage
from nnst.ledger import Ledger
from workflows import scan

LIMIT_S = 120.0


class Store:
    """The server, and what was asked of it: (method, path, whether it was to copy)."""

    def __init__(self, address: str) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.asked: list[tuple[str, str, bool]] = []
        answer = DomainDispatcherApplication(create_backend_app)

        def listening(environ: dict[str, Any], start_response: Any) -> Any:
            copies = "HTTP_X_AMZ_COPY_SOURCE" in environ
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], copies))
            return answer(environ, start_response)

        port = int(address.rpartition(":")[2])
        self._server = make_server("127.0.0.1", port, listening, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def since(self, start: int, prefix: str) -> Counter[str]:
        """How often each kind of thing was asked for below a path, by method and first part."""
        found: Counter[str] = Counter()
        for method, path, _ in self.asked[start:]:
            if path.startswith(prefix):
                found[f"{method} {path[len(prefix) :].strip('/').split('/')[0]}"] += 1
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def store(cluster: str) -> Iterator[Store]:
    """An S3 server, with a bucket, where the cluster's workers look for it."""
    import fsspec
    import requests

    running = Store(os.environ["AWS_ENDPOINT_URL"])
    requests.put(f"{os.environ['AWS_ENDPOINT_URL']}/bucket", timeout=30).raise_for_status()
    yield running
    fsspec.filesystem("s3").clear_instance_cache()
    running.close()


@pytest.fixture(scope="module")
def archive(store: Store, scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures: here as a folder and a tar, and as both in the bucket."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "photos").mkdir()
    for turn in range(4):
        for path in sorted(scenes.folder.glob("*.png")):
            (folder / "photos" / f"{turn}-{path.name}").write_bytes(path.read_bytes())
    with tarfile.open(folder / "photos.tar", "w") as packed:
        for path in sorted((folder / "photos").iterdir()):
            packed.add(path, path.name)
            storage.put(f"s3://bucket/photos/{path.name}", path.read_bytes())
    storage.put("s3://bucket/photos.tar", (folder / "photos.tar").read_bytes())
    return folder


def part_names(out: str) -> list[str]:
    return [name for table in ("images", "detections") for name in storage.names(f"{out}/{table}")]


def test_a_scan_from_s3_to_s3_goes_on_after_a_kill_and_is_that_of_local_files(
    store: Store,
    archive: Path,
    mark_model: str,
    nnst: Callable[..., Any],
    start_driver: Callable[..., Any],
    tmp_path: Path,
) -> None:
    out = "s3://bucket/scan"
    words = ("--model", mark_model, "--set", "shard_images=4")
    driver = start_driver("scan", "s3://bucket/photos", "--out", out, *words)
    end = time.monotonic() + LIMIT_S
    while not any(path.startswith("/bucket/scan/receipts/") for _, path, _ in store.asked):
        assert time.monotonic() < end
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.02)
    driver.kill()
    driver.communicate()
    before = len(store.asked)
    resumed = nnst("scan", "s3://bucket/photos", "--out", out, *words)
    assert resumed.code == 0, resumed.err
    plain = str(tmp_path / "plain")
    assert nnst("scan", archive / "photos", "--out", plain, *words).code == 0
    assert part_names(out) == part_names(plain)
    assert Ledger.open(out).totals()["rows_in"] == 40
    asked = store.since(before, "/bucket/scan/")
    assert asked["PUT receipts"] <= 10  # each shard at most once more
    assert not any(copies for _, _, copies in store.asked)  # nothing is listed to be renamed
    assert not any(method == "POST" for method, path, _ in store.asked if path != "/bucket")
    assert nnst("status", out).out.startswith(f"{out}: nnst scan, finished")


def test_requests_grow_by_two_a_shard_for_the_driver_and_few_for_a_worker(
    store: Store, archive: Path, mark_model: str, nnst: Callable[..., Any]
) -> None:
    driver, worker, reads = [], [], []
    for images in (8, 4):  # 5 and 10 shards
        start, out = len(store.asked), f"/bucket/by{images}/"
        words = ("--model", mark_model, "--set", f"shard_images={images}")
        done = nnst("scan", "s3://bucket/photos.tar", "--out", f"s3:/{out}", *words)
        assert done.code == 0, done.err
        asked = store.since(start, out)
        parts = sum(asked[f"PUT {table}"] for table in ("images", "detections"))
        timely = sum(count for kind, count in asked.items() if re.search("lease|attempts", kind))
        worker.append(parts)
        driver.append(asked.total() - parts - timely)
        reads.append(sum(store.since(start, "/bucket/photos.tar").values()))
    assert worker == [10, 20]  # a part of each table
    assert driver[1] - driver[0] <= 2 * 5  # a receipt, and what was found is counted
    assert reads[1] - reads[0] <= 4 * 5  # a shard enters the tar at its own place
    assert 2 / scan.SHARD_IN_STORE <= 1 / 100


def test_an_empty_and_a_missing_file_are_told_apart(store: Store) -> None:
    storage.put("s3://bucket/empty", b"")
    assert storage.read("s3://bucket/empty") == b""
    assert storage.read("s3://bucket/empty", 100) == b""
    storage.put("s3://bucket/some", b"some")
    assert storage.read("s3://bucket/some", 100) == b"some"
    assert storage.read("s3://bucket/some", 2) == b"so"
    for limit in (None, 10):
        with pytest.raises(FileNotFoundError):
            storage.read("s3://bucket/none", limit)
    assert storage.put_new("s3://bucket/new", b"1") is True
    assert storage.put_new("s3://bucket/new", b"2") is False
    assert storage.read("s3://bucket/new") == b"1"
