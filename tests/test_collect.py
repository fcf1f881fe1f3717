"""nnst collect: from sources to an archive, again and again, with a row for every address."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnst import archive, images, imglab, records, storage
from nnst.errors import InputError
from nnst.ledger import Ledger
from tests.conftest import Ran
from tests.local_web import NOT_FOUND, LocalWeb, Reply, Request
from workflows import collect as collect_verb
from workflows.fanout import FanoutSettings

Collect = Callable[..., Ran]
CONTACT = "me@example.org"


def drawn(seed: int, hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    """(H, W, 3) coarse noise, of which near duplicates stay alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((hw[0] // 6, hw[1] // 8, 1), np.uint8))


def jpeg(seed: int, quality: int = 95) -> bytes:
    return images.encode_jpeg(drawn(seed), quality)


PICTURES = {
    "/0.jpg": jpeg(0),
    "/1.jpg": jpeg(1),
    "/2": images.encode_png(drawn(2)),
    "/again.jpg": jpeg(0),  # the same bytes
    "/near.jpg": jpeg(0, 60),
    "/broken.jpg": jpeg(3)[:300],
    "/page.jpg": b"<!doctype html><title>no picture</title>",
    "/empty.jpg": b"",
    "/drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}
EXPECTED = {
    "/0.jpg": "ok",
    "/1.jpg": "ok",
    "/2": "ok",
    "/again.jpg": "ok",
    "/near.jpg": "ok",
    "/broken.jpg": "truncated",
    "/page.jpg": "unsupported_format",
    "/empty.jpg": "empty",
    "/drawing.svg": "unsupported_format",
    "/gone.jpg": "not_found",
    "/private/a.jpg": "robots_disallowed",
}


def site(request: Request) -> Reply:
    if request.path == "/robots.txt":
        return Reply(b"User-agent: *\nDisallow: /private/\n")
    if request.path not in PICTURES:
        return NOT_FOUND
    etag = f'"{storage.sha256(PICTURES[request.path])[:8]}"'
    if request.headers.get("if-none-match") == etag:
        return Reply(b"", 304)
    return Reply(PICTURES[request.path], headers={"ETag": etag, "Content-Type": "image/jpeg"})


@pytest.fixture(scope="session")
def collect(nnst: Callable[..., Ran]) -> Collect:
    """Runs nnst collect where local servers can be reached: collect(web, source..., out=...)."""

    def run(web: LocalWeb, *arguments: object, out: Path, bad: float = 1) -> Ran:
        return nnst(
            *("collect", *arguments, "--out", out, "--contact", CONTACT),
            *("--set", "safety.networks=127.0.1.0/24", "--set", f"safety.ports=80,{web.port}"),
            *("--set", "pace.rate=0", "--set", "pace.tries=2", "--set", "pace.backoff=0.01"),
            *("--set", f"fanout.max_bad={bad}"),
        )

    return run


def write_list(folder: Path, web: LocalWeb, paths: Any = EXPECTED, hosts: int = 1) -> Path:
    path = folder / "urls.csv"
    rows = [f"{web.url(each, 1 + n % hosts)},CC0,note {n}" for n, each in enumerate(paths)]
    path.write_text("\n".join(["url,license,remark", *rows]) + "\n")
    return path


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Ledger.open(str(out)).read("pictures").to_pylist()
    return rows


def stored_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "stored.parquet").to_pylist()
    return rows


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and "attempts" not in path.parts
    }


@pytest.fixture(params=["files", "webdataset"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_address_has_one_row_and_every_picture_is_stored_once(
    collect: Collect, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    with LocalWeb(site, hosts=2) as web:
        urls = write_list(tmp_path, web, hosts=2)
        done = collect(web, urls, "--format", form, "--json", out=out)
        assert done.code == 0, done.err
        assert web.trapped == []
    rows = {row["url"]: row for row in rows_of(out)}
    wanted = {web.url(path, 1 + n % 2): each for n, (path, each) in enumerate(EXPECTED.items())}
    assert {url: row["status"] for url, row in rows.items()} == wanted
    document = done.document
    assert (document["addresses"], document["pictures"]) == (11, 4)
    assert (document["duplicates"], document["near_duplicates"]) == (1, 1)
    assert document["bad"] == dict(Counter(EXPECTED.values()) - Counter({"ok": 5}))

    first = rows[web.url("/0.jpg", 1)]
    data = PICTURES["/0.jpg"]
    assert first["image_id"] == images.content_hash(data)
    assert first["image"] == f"{first['image_id']}.jpg"
    assert (first["width"], first["height"], first["bytes"]) == (80, 60, len(data))
    assert (first["code"], first["content_type"]) == (200, "image/jpeg")
    assert (first["licence"], first["source"]) == ("CC0", str(urls))
    assert json.loads(first["carried"]) == {"remark": "note 0"}
    assert rows[web.url("/gone.jpg", 2)]["code"] == 404
    assert rows[web.url("/2", 1)]["image"].endswith(".png")  # as its bytes are, whatever its name

    stored = {row["image_id"]: row for row in stored_of(out)}
    assert stored[first["image_id"]]["urls"] == 2
    near = images.content_hash(PICTURES["/near.jpg"])
    assert stored[near]["group"] == stored[first["image_id"]]["group"]
    assert len({row["group"] for row in stored.values()}) == 3

    plan = archive.plan(str(out))
    members = list(archive.stream(str(out), plan.inputs))
    assert [member.failure for member in members] == [None] * 4
    ids = [images.content_hash(member.data or b"") for member in members]
    assert sorted(ids) == sorted(stored)
    assert [member.image.partition(".")[0] for member in members] == ids
    left = {path.name for path in out.iterdir()}
    assert left == {
        *("plan", "plan.json", "pictures", "receipts", "_SUCCESS", "attempts", "stored.parquet"),
        "blobs" if form == "files" else "tars",
    }


def test_running_it_again_asks_nobody_and_changes_nothing(
    collect: Collect, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        first = collect(web, urls, "--format", form, out=out)
        asked, before = len(web.log), files_below(out)
        again = collect(web, urls, "--format", form, out=out)
        assert (again.code, again.out) == (0, first.out)
        assert len(web.log) == asked
        assert files_below(out) == before
        # --retry-failed finds nothing that another day may change
        assert collect(web, urls, "--format", form, "--retry-failed", out=out).code == 0
        assert len(web.log) == asked
        (out / "stored.parquet").unlink()  # as if it had been killed before this was written
        with pytest.raises(InputError, match="is not finished"):
            archive.plan(str(out))
        assert collect(web, urls, "--format", form, out=out).code == 0
        assert len(web.log) == asked
        assert files_below(out).keys() == before.keys()
        members = list(archive.stream(str(out), archive.plan(str(out)).inputs))
        assert len(members) == 4
        assert all(member.data for member in members)


def test_a_scan_takes_it_as_it_is(
    collect: Collect, nnst: Callable[..., Ran], mark_model: str, tmp_path: Path, form: str
) -> None:
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, "--format", form, out=tmp_path / "out").code == 0
    done = nnst("scan", tmp_path / "out", "--model", mark_model, "--out", tmp_path / "scan")
    assert done.code == 0, done.err
    looked = Ledger.open(str(tmp_path / "scan")).read("images").to_pylist()
    assert [row["image_id"] for row in looked] == [
        row["image_id"] for row in stored_of(tmp_path / "out")
    ]
    assert {row["status"] for row in looked} == {"ok"}


def test_two_collections_of_the_same_pictures_are_the_same_tars(
    collect: Collect, tmp_path: Path
) -> None:
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        for name in ("one", "two"):
            assert collect(web, urls, "--format", "webdataset", out=tmp_path / name).code == 0
    tars = [sorted((tmp_path / name / "tars").iterdir()) for name in ("one", "two")]
    assert [path.name for path in tars[0]] == [path.name for path in tars[1]]
    assert [path.read_bytes() for path in tars[0]] == [path.read_bytes() for path in tars[1]]


# --- Later passes


def test_retry_failed_asks_again_only_where_another_day_may_help(
    collect: Collect, tmp_path: Path, form: str
) -> None:
    broken = [True]

    def moody(request: Request) -> Reply:
        if request.path == "/1.jpg" and broken[0]:
            return Reply(b"", 503)
        return site(request)

    out = tmp_path / "out"
    with LocalWeb(moody) as web:
        urls = write_list(tmp_path, web)
        first = collect(web, urls, "--format", form, "--json", out=out)
        assert first.document["bad"]["server_error"] == 1
        assert first.document["retryable"] == 1
        before = {row["url"]: row for row in rows_of(out)}
        web.log.clear()
        assert "--retry-failed fetches 1" in collect(web, urls, "--format", form, out=out).out
        assert web.log == []
        broken[0] = False
        second = collect(web, urls, "--format", form, "--retry-failed", "--json", out=out)
        assert [request.path for request in web.asked()] == ["/1.jpg"]
        assert second.document["pictures"] == first.document["pictures"] + 1
        after = {row["url"]: row for row in rows_of(out)}
        assert list(after) == list(before)
        changed = [url for url in after if after[url] != before[url]]
        assert changed == [web.url("/1.jpg")]
        assert after[changed[0]]["status"] == "ok"
    plan = archive.plan(str(out))
    assert plan.inputs.num_rows == 4
    assert all(member.data for member in archive.stream(str(out), plan.inputs))


def test_refresh_asks_whether_pictures_have_changed(
    collect: Collect, tmp_path: Path, form: str
) -> None:
    changes: dict[str, Reply] = {}

    def changing(request: Request) -> Reply:
        return changes.get(request.path) or site(request)

    out = tmp_path / "out"
    with LocalWeb(changing) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, "--format", form, out=out).code == 0
        before = {row["url"]: row for row in rows_of(out)}
        web.log.clear()
        changes["/1.jpg"] = Reply(jpeg(77))
        changes["/2"] = Reply(b"", 410)
        changes["/near.jpg"] = Reply(b"", 500)
        changes["/again.jpg"] = Reply(jpeg(0), headers={"X-Robots-Tag": "noai"})
        assert collect(web, urls, "--format", form, "--refresh", out=out).code == 0
        after = {row["url"].rpartition("/")[2]: row for row in rows_of(out)}
        pictures = {path for path, status in EXPECTED.items() if status == "ok"}
        assert {request.path for request in web.asked()} == pictures
        assert after["0.jpg"]["code"] == 304
        assert after["0.jpg"]["image_id"] == before[web.url("/0.jpg")]["image_id"]
        assert after["1.jpg"]["image_id"] == images.content_hash(jpeg(77))
        assert after["2"]["status"] == "not_found"
        assert after["again.jpg"]["status"] == "opted_out"  # a wish that came later
        assert after["near.jpg"] == before[web.url("/near.jpg")]  # a bad day takes nothing away
    ids = {
        images.content_hash(member.data or b"")
        for member in archive.stream(str(out), archive.plan(str(out)).inputs)
    }
    assert ids == {images.content_hash(data) for data in (jpeg(0), jpeg(77), jpeg(0, 60))}


def test_a_pass_that_was_cut_short_as_it_began_goes_on(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, out=out).code == 0
        before = rows_of(out)
        storage.put(out / "reopened.json", storage.to_json({"shards": [0]}))
        assert collect(web, urls, out=out).code == 0
        assert not (out / "reopened.json").exists()
        assert [row["image_id"] for row in rows_of(out)] == [row["image_id"] for row in before]


def test_a_later_pass_that_was_killed_goes_on_with_the_plain_command(
    collect: Collect, tmp_path: Path
) -> None:
    from workflows import collected

    broken = [True]

    def moody(request: Request) -> Reply:
        return Reply(b"", 503) if request.path == "/1.jpg" and broken[0] else site(request)

    out = tmp_path / "out"
    with LocalWeb(moody) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, out=out).code == 0
        before = {row["url"]: row for row in rows_of(out)}
        assert collected.begin_pass(Ledger.open(str(out)), retry_failed=True, refresh=False) == 1
        broken[0] = False  # and here its driver was killed
        web.log.clear()
        assert collect(web, urls, out=out).code == 0
        assert [request.path for request in web.asked()] == ["/1.jpg"]
        changed = {row["url"] for row in rows_of(out) if row != before[row["url"]]}
        assert changed == {web.url("/1.jpg")}


def test_a_journal_that_has_a_row_keeps_its_address_from_being_asked_for(
    collect: Collect, tmp_path: Path
) -> None:
    """As after a kill; the drills kill for real."""
    from nnst.web import blobs
    from nnst.web.journal import Journal

    out = tmp_path / "out"
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, out=out).code == 0
        rows = rows_of(out)
        book = Ledger.open(str(out))
        book.reopen([0])
        with Journal(str(out), 0) as journal:
            for row in rows[:6]:
                journal.add(row | {"fetched": 0})
        web.log.clear()
        assert collect(web, urls, out=out).code == 0
        asked = {request.path for request in web.asked()}
        assert asked == set(EXPECTED) - set(list(EXPECTED)[:6]) - {"/private/a.jpg"}
        assert [row["status"] for row in rows_of(out)] == [row["status"] for row in rows]
        # Bytes that are gone are fetched again.
        book.reopen([0])
        with Journal(str(out), 0) as journal:
            for row in rows:
                journal.add(row | {"fetched": 0})
        blobs.remove(str(out), rows[0]["image"])
        web.log.clear()
        assert collect(web, urls, out=out).code == 0
        assert {request.path for request in web.asked()} == {"/0.jpg", "/again.jpg"}


# --- From collected pictures to boxes


def test_new_pictures_come_with_an_xml_to_draw_in(
    collect: Collect, tmp_path: Path, form: str
) -> None:
    broken = [True]

    def moody(request: Request) -> Reply:
        return Reply(b"", 503) if request.path == "/1.jpg" and broken[0] else site(request)

    out, folder = tmp_path / "out", tmp_path / "draw"
    with LocalWeb(moody) as web:
        urls = write_list(tmp_path, web)
        flags = ("--format", form, "--imglab", folder, "--json")
        first = collect(web, urls, *flags, out=out)
        assert first.document["imglab"] == str(folder / "collected.xml")
        dataset = imglab.read(folder / "collected.xml")
        assert len(dataset.images) == first.document["new"] == 3
        for image in dataset.images:
            header = images.read_header(dataset.resolve(image).read_bytes())
            assert (image.width, image.height) == (header.width, header.height)
        drawn_in = (folder / "collected.xml").read_bytes()
        again = collect(web, urls, *flags, out=out)
        assert (again.document["imglab"], again.document["new"]) == ("", 0)
        broken[0] = False
        third = collect(web, urls, *flags, "--retry-failed", out=out)
        assert third.document["imglab"] == str(folder / "collected-2.xml")
        (new,) = imglab.read(folder / "collected-2.xml").images
        assert new.file == f"{images.content_hash(PICTURES['/1.jpg'])}.jpg"
        assert (folder / "collected.xml").read_bytes() == drawn_in


# --- Pages and searches


def test_a_page_and_a_search_are_collected_like_a_list(collect: Collect, tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/page":
            html = b"<img src=/0.jpg alt='a sign'><img src=/1.jpg><img src=/gone.jpg>"
            return Reply(html, headers={"Content-Type": "text/html"})
        if request.path.startswith("/v1/images/"):
            found = {"url": web.url("/2"), "license": "cc0", "attribution": "by nobody"}
            return Reply(json.dumps({"page_count": 1, "results": [found]}).encode())
        return site(request)

    out = tmp_path / "out"
    with LocalWeb(answer) as web:
        endpoint = f"source.endpoints=openverse={web.url('')}"
        given = (web.url("/page"), "openverse:signs", "--set", endpoint)
        assert collect(web, *given, out=out).code == 0
        rows = rows_of(out)
        assert [row["status"] for row in rows] == ["ok", "ok", "not_found", "ok"]
        assert (rows[0]["page"], rows[0]["title"]) == (web.url("/page"), "a sign")
        assert (rows[3]["licence"], rows[3]["attribution"]) == ("CC0", "by nobody")
        assert [row["source"] for row in rows[2:]] == [web.url("/page"), "openverse:signs"]
        # What a page or search gives another day does not change a collection that was begun.
        web.log.clear()
        assert collect(web, *given, out=out).code == 0
        assert web.log == []


# --- Wrong input, and what protects others


def test_wrong_input_ends_in_one_line_and_exit_code_2(
    collect: Collect,
    nnst: Callable[..., Ran],
    scenes: Any,
    crop_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    many = tmp_path / "many.txt"
    many.write_text("".join(f"http://127.0.0.1/{n}.jpg\n" for n in range(101)))
    few = tmp_path / "few.csv"
    few.write_text("address\nhttp://127.0.0.1/1.jpg\n")
    out = tmp_path / "out"
    cases = {
        ("missing.csv",): "there is no file missing.csv",
        (few,): "no column 'url' (it has address)",
        (many,): "101 addresses without a contact; give --contact",
        ("ftp://example.org/a.jpg",): "only http and https are fetched",
        ("opnverse:sign", "--contact", CONTACT): "did you mean openverse:",
        ("openverse:sign",): "without a contact",
        ("flickr:sign", "--contact", CONTACT): "FLICKR_API_KEY is not set",
        ("http://127.0.0.1/page",): "private_address",
        (scenes.truth,): "is no URL list",
        (few, "--contact", "not a contact"): "contact must be",
        (few, "--format", "zip"): "one of files, webdataset",
        (few, "--set", "pace.rate=-1"): "rate",
        (few, "--set", "safety.networks=nonsense"): "nonsense",
        (): "no source",
    }
    for arguments, said in cases.items():
        done = nnst("collect", *arguments, "--out", out)
        assert (done.code, done.out) == (2, ""), (arguments, done)
        assert said in done.err
        assert done.err.count("\n") == 1, done.err
        assert not out.exists()
    assert (
        "written by nnst crop" in nnst("collect", many, "--contact", CONTACT, "--out", crop_set).err
    )


def test_another_list_is_another_collection(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, out=out).code == 0
        write_list(tmp_path, web, ["/0.jpg"])
        changed = collect(web, urls, out=out)
        assert changed.code == 2
        assert "--fresh" in changed.err
        assert collect(web, urls, "--fresh", out=out).code == 0
        assert len(rows_of(out)) == 1
        assert len(list((out / "blobs").rglob("*.jpg"))) == 1


def test_private_addresses_are_fetched_only_where_that_is_said_loudly(
    nnst: Callable[..., Ran], tmp_path: Path
) -> None:
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web, ["/0.jpg"])
        ports = ("--set", f"safety.ports=80,{web.port}", "--set", "pace.rate=0")
        bad = ("--set", "fanout.max_bad=1")
        closed = nnst("collect", urls, "--out", tmp_path / "closed", *ports, *bad)
        assert closed.code == 0
        assert "WARNING" not in closed.err
        assert [row["status"] for row in rows_of(tmp_path / "closed")] == ["private_address"]
        assert web.log == []
        opened = nnst("collect", urls, "--out", tmp_path / "open", "--allow-private", *ports)
        assert opened.code == 0
        assert "WARNING: --allow-private" in opened.err
        assert [row["status"] for row in rows_of(tmp_path / "open")] == ["ok"]


def test_what_a_site_wishes_is_left_alone_only_where_that_is_said_loudly(
    collect: Collect, tmp_path: Path
) -> None:
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web, ["/private/a.jpg"])
        done = collect(web, urls, "--set", "respect.robots=false", out=tmp_path / "out")
        assert "WARNING: respect" in done.err
        assert web.asked("/private/a.jpg")


def test_more_bad_addresses_than_allowed_are_told(collect: Collect, tmp_path: Path) -> None:
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        done = collect(web, urls, out=tmp_path / "out", bad=0.05)
        assert done.code == 3
        assert "5 of 11" in done.err
        assert "robots" not in done.err  # to follow a wish is no failure
        urls = write_list(tmp_path, web, ["/0.jpg", "/private/a.jpg", "/private/b.jpg"])
        assert collect(web, urls, out=tmp_path / "wishes", bad=0).code == 0
        assert archive.plan(str(tmp_path / "out")).inputs.num_rows == 4


def test_a_dry_run_writes_nothing_and_fetches_no_picture(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site, hosts=2) as web:
        urls = write_list(tmp_path, web, hosts=2)
        done = collect(web, urls, "--dry-run", "--json", out=out)
        assert (done.document["addresses"], done.document["hosts"]) == (11, 2)
        said = collect(web, urls, "--dry-run", out=out).out
        assert said.startswith("would fetch 11 addresses of 2 hosts in 1 shard into")
        assert web.log == []
        assert not out.exists()
        assert collect(web, urls, out=out).code == 0
        left = collect(web, urls, "--dry-run", "--json", out=out)
        assert left.document["left"] == 0


def test_an_unfinished_collection_is_no_archive_yet(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        assert collect(web, write_list(tmp_path, web), out=out).code == 0
    Ledger.open(str(out)).reopen([0])
    with pytest.raises(InputError, match="run the same nnst collect again"):
        archive.plan(str(out))


def test_pictures_need_not_be_decoded(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        urls = write_list(tmp_path, web)
        assert collect(web, urls, "--set", "decode=false", out=out).code == 0
    rows = {row["url"].rpartition("/")[2]: row for row in rows_of(out)}
    assert rows["0.jpg"]["perceptual_hash"] is None
    assert rows["page.jpg"]["status"] == "unsupported_format"  # its first bytes tell
    assert len({row["group"] for row in stored_of(out)}) == archive.plan(str(out)).inputs.num_rows


def test_headers_that_are_no_text_and_long_details_are_kept_in_short(
    collect: Collect, tmp_path: Path
) -> None:
    def odd(request: Request) -> Reply:
        if request.path == "/0.jpg":
            return Reply(PICTURES["/0.jpg"], headers={"ETag": "\udcff\udcfe"})
        if request.path == "/far":
            return Reply(code=302, headers={"Location": "ftp://" + "x" * 3000})
        return NOT_FOUND

    out = tmp_path / "out"
    with LocalWeb(odd) as web:
        assert collect(web, write_list(tmp_path, web, ["/0.jpg", "/far"]), out=out).code == 0
    good, far = rows_of(out)
    assert good["etag"].isascii()
    assert far["status"] == "bad_redirect"
    assert len(far["detail"]) <= 300


def test_nothing_is_written_outside_the_output_folder(collect: Collect, tmp_path: Path) -> None:
    """Names come from hashes, whatever addresses, headers and lists say."""
    names = [
        "/../../evil.jpg",
        "/%2e%2e/%2e%2e/evil.jpg",
        "/a/..%2f..%2fevil.jpg",
        "/evil.jpg%00.png",
    ]

    def evil(request: Request) -> Reply:
        header = {"Content-Disposition": 'attachment; filename="../../evil.jpg"'}
        return Reply(jpeg(5), headers=header) if "evil" in request.path else NOT_FOUND

    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    with LocalWeb(evil) as web:
        urls = write_list(tmp_path, web, names)
        assert collect(web, urls, out=inside / "out").code == 0
    below = {path for path in tmp_path.rglob("*") if path.is_file()} - {urls}
    assert all(path.is_relative_to(inside / "out") for path in below)
    assert not any("evil" in path.name for path in below)
    assert [path.stem for path in (inside / "out" / "blobs").rglob("*.jpg")] == [
        images.content_hash(jpeg(5))
    ]


def test_a_worker_that_waits_for_a_host_is_not_taken_for_stuck(
    collect: Collect, tmp_path: Path
) -> None:
    def slow(request: Request) -> Reply:
        first = request.path == "/0.jpg" and len(web.asked("/0.jpg")) == 1
        return Reply(b"", 429, {"Retry-After": "9"}) if first else site(request)

    with LocalWeb(slow) as web:
        urls = write_list(tmp_path, web, ["/0.jpg"])
        done = collect(web, urls, "--set", "fanout.stall=6", out=tmp_path / "out")
        assert done.code == 0, done.err
        assert len(web.asked("/0.jpg")) == 2  # by one worker
    notes = "".join(path.read_text() for path in (tmp_path / "out" / "attempts").iterdir())
    assert "WorkerCrashedError" not in notes


def test_small_pictures_and_large_ones_come_together(collect: Collect, tmp_path: Path) -> None:
    """Large ones are decoded in a thread, while small ones go on."""
    rng = np.random.default_rng(1)
    large = images.encode_png(rng.integers(0, 256, (800, 900, 3), dtype=np.uint8))
    assert len(large) > 2 << 20

    def mixed(request: Request) -> Reply:
        number = request.path[1:].partition(".")[0]
        if not number.isdecimal():
            return NOT_FOUND
        size = int(number) % 4 == 0
        return Reply(large if size else jpeg(int(number)))

    with LocalWeb(mixed, hosts=4) as web:
        urls = write_list(tmp_path, web, [f"/{n}.jpg" for n in range(24)], hosts=4)
        done = collect(web, urls, "--json", out=tmp_path / "out")
    assert (done.document["pictures"], done.document["duplicates"]) == (19, 5)
    assert {row["status"] for row in rows_of(tmp_path / "out")} == {"ok"}


def test_how_far_unfinished_shards_are_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnst.web.journal import Journal
    from workflows.watch import Watch

    with Journal(str(tmp_path), 0) as one, Journal(str(tmp_path), 1) as two:
        one.add({"url": "a", "status": "refused"})
        with Watch(str(tmp_path), 10, seconds=0.05) as watch:
            while "collect: 1 of 10 addresses" not in (said := capsys.readouterr().err):
                time.sleep(0.01)
            two.add({"url": "b", "status": "refused"})
            one.add({"url": "c", "status": "refused"})
            while "collect: 3 of 10 addresses have their row" not in said:
                said += capsys.readouterr().err
                time.sleep(0.01)
            assert watch.count() == 3
    assert " s left" in said
    capsys.readouterr()  # it may have said it once more
    with Watch(
        "memory://nowhere", 10, seconds=0.01
    ):  # a store's journals are not read over and over
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_plain_readers_open_the_tables(collect: Collect, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with LocalWeb(site) as web:
        assert collect(web, write_list(tmp_path, web), out=out).code == 0
    table = pa.concat_tables([pq.read_table(path) for path in (out / "pictures").iterdir()])
    assert table.schema.equals(records.COLLECTED)
    assert set(table["status"].to_pylist()) - {records.OK} <= set(records.REASONS)
    assert all(os.path.exists(out / row["container"]) for row in stored_of(out))


def test_a_collection_takes_no_gpu_and_no_shard_of_it_gets_a_twin() -> None:
    """A twin would ask a host for what it is being asked for already."""
    spread = collect_verb._alone(FanoutSettings(twin=0.1, max_bad=0.5))
    assert (spread.gpus, spread.twin, spread.max_bad) == (0.0, math.inf, 0.5)
