"""Sources: URL lists of every kind, sites and sitemaps, services in their own JSON."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnst.errors import InputError
from nnst.web import (
    Fetcher,
    Found,
    Link,
    PaceSettings,
    SafetySettings,
    SourceSettings,
    WebSettings,
    sources,
)
from nnst.web.services import SERVICES
from tests.local_web import NOT_FOUND, LocalWeb, Reply, Request

HTML = {"Content-Type": "text/html; charset=utf-8"}


def find(given: Sequence[object], web: LocalWeb | None = None, **settings: Any) -> Found:
    """What the sources give; local servers are the only ones that can be reached."""
    ports = (80, 443, web.port) if web else (80, 443)
    safety = SafetySettings(networks=("127.0.1.0/24",), ports=ports)
    fast = PaceSettings(rate=0, tries=2, backoff=0.01)

    async def run() -> Found:
        async with Fetcher(WebSettings("me@example.org", safety, fast)) as fetcher:
            return await sources.find([str(each) for each in given], settings_, fetcher)

    settings_ = SourceSettings(**settings)
    return asyncio.run(run())


def site(pages: dict[str, Reply | str | bytes]) -> Callable[[Request], Reply]:
    """A site of these pages."""

    def answer(request: Request) -> Reply:
        page = pages.get(request.path, NOT_FOUND)
        if isinstance(page, Reply):
            return page
        return Reply(page.encode() if isinstance(page, str) else page, headers=HTML)

    return answer


# --- What a source is


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("http://example.org/page", "site"),
        ("HTTPS://example.org/sitemap.xml", "site"),
        ("https://example.org/list.txt", "site"),
        ("openverse:stop sign", "openverse"),
        ("Commons:stop sign", "commons"),
        ("flickr:stop sign", "flickr"),
        ("s3://bucket/list.parquet", "list"),
    ],
)
def test_a_source_is_known_by_how_it_is_written(source: str, kind: str) -> None:
    assert sources.kind_of(source) == kind


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.csv", "there is no file missing.csv"),
        ("openverse:", "has no query"),
        ("openverse: ", "has no query"),
        ("openvers:sign", "did you mean openverse:"),
        ("bing:sign", "services: openverse, commons, flickr"),
        ("ftp://example.org/list.txt", "only http and https"),
        ("file:///etc/list.txt", "only http and https"),
        ("a word", "is no URL list, address or search"),
    ],
)
def test_what_is_no_source_is_refused_with_the_remedy(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        sources.check([source], "me@example.org")
    assert "\n" not in str(caught.value)


def test_a_search_wants_a_contact_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLICKR_API_KEY", raising=False)
    with pytest.raises(InputError, match="--contact"):
        sources.check(["openverse:sign"], "")
    with pytest.raises(InputError, match="FLICKR_API_KEY is not set"):
        sources.check(["flickr:sign"], "me@example.org")
    monkeypatch.setenv("FLICKR_API_KEY", "0123")
    sources.check(["flickr:sign", "openverse:sign"], "me@example.org")
    with pytest.raises(InputError, match="no source"):
        sources.check([], "")


# --- Lists

ROWS = [
    {"url": "http://example.org/a.jpg", "licence": "CC BY 4.0", "caption": 'A, "so"', "n": 1},
    {"url": "http://example.org/b.jpg", "licence": "", "caption": "ä", "n": 2},
]


def write_list(folder: Path, suffix: str, rows: Sequence[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"list.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    elif suffix == "txt":
        path.write_text("# mine\n\n" + "".join(f"{row['url']}\n" for row in rows))
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.DictWriter(
                stream, list(rows[0]), delimiter="\t" if suffix == "tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_gives_addresses_and_carries_its_columns(tmp_path: Path, suffix: str) -> None:
    path = write_list(tmp_path, suffix)
    first, second = find([path]).links
    assert first.url == "http://example.org/a.jpg"
    assert first.source == str(path)
    assert (first.licence, first.title) == ("CC BY 4.0", 'A, "so"')
    assert (second.licence, second.title) == (None, "ä")
    assert str(json.loads(first.carried or "")["n"]) == "1"


def test_a_text_file_has_an_address_a_line(tmp_path: Path) -> None:
    found = find([write_list(tmp_path, "txt")])
    assert [link.url for link in found.links] == [row["url"] for row in ROWS]


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"address": "http://example.org/a.jpg", "license": "PD", "x": 1, "y": 2}]
    (link,) = find([write_list(tmp_path, "csv", rows)], url="address", carry=("license",)).links
    assert (link.licence, link.carried) == ("PD", None)


def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = write_list(tmp_path, "csv")
    with pytest.raises(InputError, match=r"no column 'urls'.*did you mean 'url'"):
        find([path], url="urls")
    with pytest.raises(InputError, match=r"no column 'capton'.*source\.carry"):
        find([path], carry=("capton",))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b'{"url": 1}\n{', "line 2"),
        ("a.jsonl", b"[1]\n", "no JSON object"),
        ("a.parquet", b"PAR1 and no more", "cannot read the Parquet file"),
        ("a.txt", b"\xff\xfe\0", "not UTF-8"),
        ("a.csv", b'url\n"' + b"x" * 200_000, "line"),
        ("a.txt", b"# nothing\n", "gives no picture's address"),
    ],
)
def test_a_damaged_list_is_told_in_one_line(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said):
        find([tmp_path / name])


def test_every_address_comes_once_and_what_is_none_keeps_its_place(tmp_path: Path) -> None:
    lines = [
        "http://example.org/a.jpg",
        "HTTP://EXAMPLE.org:80/x/../a.jpg#again",
        "ftp://example.org/b.jpg",
        "http://user:secret@example.org/",
        "no address",
        "no address",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = find([tmp_path / "list.txt"])
    assert [(link.url, link.reason) for link in found.links] == [
        ("http://example.org/a.jpg", None),
        ("ftp://example.org/b.jpg", "bad_address"),
        ("http://user:secret@example.org/", "bad_address"),
        ("no address", "bad_address"),
    ]
    assert found.skipped == {"listed again": 2}


def test_lone_surrogates_in_json_do_not_stop_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"url": "http://example.org/a.jpg", "title": "\\ud800"}\n')
    assert find([tmp_path / "a.jsonl"]).links[0].title == "?"


# --- Shards


def test_a_host_is_in_one_shard_and_shards_are_of_about_one_size() -> None:
    links = [Link(f"http://h{n % 50}.example/{n}.jpg") for n in range(1000)]
    links += [Link(f"http://large.example/{n}.jpg") for n in range(300)]
    links += [Link("no address", reason="bad_address"), Link("http://[::1", reason="bad_address")]
    dealt = sources.shards(links, 200)
    homes: dict[str, set[int]] = {}
    for number, shard in enumerate(dealt):
        for link in shard:
            homes.setdefault(sources.host(link), set()).add(number)
    assert {len(shards) for shards in homes.values()} == {1}
    assert sorted(link.url for shard in dealt for link in shard) == sorted(
        link.url for link in links
    )
    assert max(map(len, dealt)) <= 300
    assert sources.shards(links, 200) == dealt


# --- Sites


def test_a_page_gives_its_pictures(tmp_path: Path) -> None:
    with LocalWeb(site({"/": "<img src=/a.jpg alt=A><img src=http://other.example/b.jpg>"})) as web:
        found = find([web.url("/")], web)
        assert [(link.url, link.title) for link in found.links] == [
            (web.url("/a.jpg"), "A"),
            ("http://other.example/b.jpg", None),
        ]
        assert found.links[0].page == web.url("/")
        assert [request.path for request in web.asked()] == ["/"]
        assert web.asked("/robots.txt")[0].headers["user-agent"].endswith("(+me@example.org)")


def test_a_site_is_followed_to_its_depth_on_its_own_host_alone() -> None:
    pages: dict[str, Reply | str | bytes] = {
        "/": "<a href=/one>1</a><a href=/secret>2</a><a href=http://127.0.0.1:80/>3</a>",
        "/one": "<img src=1.jpg><a href=/two>x</a><a href=/>x</a>",
        "/two": "<img src=2.jpg>",
        "/secret": "<img src=s.jpg>",
        "/robots.txt": "User-agent: *\nDisallow: /secret\n",
    }
    with LocalWeb(site(pages)) as web:
        shallow = find([web.url("/")], web, depth=1)
        assert [link.url for link in shallow.links] == [web.url("/1.jpg")]
        assert shallow.skipped == {"pages: robots_disallowed": 1}
        deep = find([web.url("/")], web, depth=2)
        assert [link.url for link in deep.links] == [web.url("/1.jpg"), web.url("/2.jpg")]
        assert not web.asked("/secret")
        assert web.trapped == []
        few = find([web.url("/")], web, depth=2, pages=2)
        assert few.skipped["pages beyond the limit"] == 2
        assert len(find([web.url("/")], web, depth=2, limit=1).links) == 1


def test_a_sitemap_gives_its_pictures_and_reads_only_pages_whose_pictures_it_does_not_list() -> (
    None
):
    with LocalWeb(lambda request: answer(request)) as web:
        index = f"<sitemapindex><sitemap><loc>{web.url('/1.xml.gz')}</loc></sitemap></sitemapindex>"
        inner = (
            f"<urlset><url><loc>{web.url('/one')}</loc><image><loc>{web.url('/1.jpg')}</loc></image>"
            f"</url><url><loc>{web.url('/two')}</loc></url></urlset>"
        )
        answer = site(
            {
                "/sitemap.xml": f"<?xml version='1.0'?>{index}",
                "/1.xml.gz": gzip.compress(f"<?xml version='1.0'?>{inner}".encode()),
                "/one": "<img src=not-needed.jpg>",
                "/two": "<img src=2.jpg>",
            }
        )
        found = find([web.url("/sitemap.xml")], web)
        assert [link.url for link in found.links] == [web.url("/1.jpg"), web.url("/2.jpg")]
        assert not web.asked("/one")


@pytest.mark.parametrize(
    ("page", "headers"),
    [
        ("<meta name=robots content=noai><img src=a.jpg>", {}),
        ("<meta name=nnst content=noindex><img src=a.jpg>", {}),
        ("<meta name=tdm-reservation content=1><img src=a.jpg>", {}),
    ],
)
def test_pictures_of_a_page_that_reserves_them_are_rows_and_not_fetched(
    page: str, headers: dict[str, str]
) -> None:
    with LocalWeb(site({"/": page})) as web:
        (link,) = find([web.url("/")], web).links
        assert link.reason == "opted_out"


@pytest.mark.parametrize(
    ("meta", "count"),
    [
        ("<meta name=robots content=nofollow>", 1),
        ("<meta name=nnst content='noarchive, NOFOLLOW'>", 1),
        ("<meta name=robots content='otherbot: nofollow'>", 2),
        ("<meta name=otherbot content=nofollow>", 2),
    ],
)
def test_links_of_a_page_are_followed_where_it_lets_them_be(meta: str, count: int) -> None:
    page = f"{meta}<img src=a.jpg><a href=/two>x</a>"
    with LocalWeb(site({"/": page, "/two": "<img src=b.jpg>"})) as web:
        assert len(find([web.url("/")], web, depth=3).links) == count


def test_an_address_of_a_picture_is_its_own_source() -> None:
    with LocalWeb(site({"/a": Reply(b"\x89PNG\r\n\x1a\n" + bytes(600))})) as web:
        assert [link.url for link in find([web.url("/a")], web).links] == [web.url("/a")]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (NOT_FOUND, "not_found"),
        (Reply(b"<p>x", headers={"X-Robots-Tag": "noindex"}), "opted_out"),
        (Reply(b"words"), "no page, sitemap or picture"),
        (Reply(b"<html><p>nothing"), "gives no picture"),
        (Reply(b"<?xml version='1.0'?><rss/>"), "no sitemap"),
        (Reply(gzip.compress(bytes(20 << 20))), "too_many_bytes"),  # a gzip bomb
        (Reply(b"\x1f\x8b\x08nonsense"), "damaged gzip"),
    ],
)
def test_a_page_that_gives_nothing_is_told_in_one_line(reply: Reply, said: str) -> None:
    with (
        LocalWeb(site({"/": reply})) as web,
        pytest.raises(InputError, match=said) as caught,
    ):
        find([web.url("/")], web)
    assert "\n" not in str(caught.value)


# --- Services, in the JSON that they answer with


def openverse(query: dict[str, str]) -> dict[str, Any]:
    page = int(query["page"])
    return {
        "result_count": 3,
        "page_count": 2,
        "page_size": 20,
        "page": page,
        "results": [
            {
                "id": f"36537842-b067-4ca0-ad67-e00ff2e06b{page}{number}",
                "title": f"Sign {page}{number}",
                "indexed_on": "2024-01-01T00:00:00Z",
                "foreign_landing_url": f"https://www.flickr.com/photos/ada/{page}{number}",
                "url": f"https://live.staticflickr.com/1/{page}{number}_b.jpg",
                "creator": "Ada",
                "creator_url": "https://www.flickr.com/photos/ada",
                "license": "by-sa",
                "license_version": "2.0",
                "license_url": "https://creativecommons.org/licenses/by-sa/2.0/",
                "provider": "flickr",
                "source": "flickr",
                "category": "photograph",
                "filesize": None,
                "filetype": "jpg",
                "tags": [{"accuracy": None, "name": "sign", "unstable__provider": "flickr"}],
                "attribution": '"Sign" by Ada is licensed under CC BY-SA 2.0.',
                "fields_matched": ["title"],
                "mature": False,
                "height": 768,
                "width": 1024,
                "thumbnail": "https://api.openverse.org/v1/images/x/thumb/",
                "unstable__sensitivity": [],
            }
            for number in range(3 - page)
        ],
    }


def commons(query: dict[str, str]) -> dict[str, Any]:
    first = int(query.get("gsroffset", 0))
    pages = [
        {
            "pageid": 100 + first + number,
            "ns": 6,
            "title": f"File:Sign {first + number}.jpg",
            "index": first + number + 1,
            "imagerepository": "local",
            "imageinfo": [
                {
                    "size": 50000,
                    "width": 1024,
                    "height": 768,
                    "url": f"https://upload.wikimedia.org/wikipedia/commons/a/{first + number}.jpg",
                    "descriptionurl": "https://commons.wikimedia.org/wiki/File:Sign.jpg",
                    "descriptionshorturl": "https://commons.wikimedia.org/w/index.php?curid=1",
                    "sha1": "0" * 40,
                    "mime": "image/jpeg",
                    "extmetadata": {
                        "LicenseShortName": {
                            "value": "CC BY-SA 4.0",
                            "source": "commons-desc-page",
                            "hidden": "",
                        },
                        "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
                        "Artist": {"value": '<a href="//x">Ada &amp; Co</a>'},
                        "Credit": {"value": "<span>Own work</span>"},
                    },
                }
            ],
        }
        for number in (1, 0)  # in the order of their ids, not of the search
    ]
    pages.append({"ns": 6, "title": "File:Gone.jpg", "missing": True, "index": 9})
    answer: dict[str, Any] = {"batchcomplete": True, "query": {"pages": pages}}
    if first == 0:
        answer["continue"] = {"gsroffset": 2, "continue": "gsroffset||"}
    return answer


def flickr(query: dict[str, str]) -> dict[str, Any]:
    if query["api_key"] != "secret-key":
        return {
            "stat": "fail",
            "code": 100,
            "message": "Invalid API Key (Key has invalid format)",
        }
    page = int(query["page"])
    photo = {
        "id": f"5{page}",
        "owner": "1@N01",
        "secret": "x",
        "server": "1",
        "farm": 1,
        "title": "Sign",
        "ispublic": 1,
        "isfriend": 0,
        "isfamily": 0,
        "license": "4",
        "ownername": "Ada",
        "url_m": f"https://live.staticflickr.com/m{page}.jpg",
        "url_l": f"https://live.staticflickr.com/l{page}.jpg",
        "height_l": 768,
        "width_l": 1024,
    }
    return {
        "photos": {"page": page, "pages": 2, "perpage": 250, "total": 2, "photo": [photo]},
        "stat": "ok",
    }


ANSWERS = {"/v1/images/": openverse, "/w/api.php": commons, "/services/rest/": flickr}


def service(request: Request) -> Reply:
    if request.path == "/robots.txt":  # is for those who wander, not for calls of an interface
        return Reply(b"User-agent: *\nDisallow: /\n")
    parts = urlsplit(request.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    answer = ANSWERS[parts.path](query)
    return Reply(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})


def search(source: str, web: LocalWeb, **settings: Any) -> Found:
    endpoints = tuple(f"{name}={web.url('')}" for name in SERVICES)
    return find([source], web, endpoints=endpoints, **settings)


def test_openverse_gives_pictures_page_after_page_with_their_licence() -> None:
    with LocalWeb(service) as web:
        found = search("openverse:stop sign", web)
        asked = [request.path for request in web.asked()]
    assert [link.url.rpartition("/")[2] for link in found.links] == [
        "10_b.jpg",
        "11_b.jpg",
        "20_b.jpg",
    ]
    assert found.links[0] == Link(
        "https://live.staticflickr.com/1/10_b.jpg",
        source="openverse:stop sign",
        page="https://www.flickr.com/photos/ada/10",
        licence="CC BY-SA 2.0",
        licence_url="https://creativecommons.org/licenses/by-sa/2.0/",
        creator="Ada",
        attribution='"Sign" by Ada is licensed under CC BY-SA 2.0.',
        title="Sign 10",
    )
    assert asked == [f"/v1/images/?q=stop+sign&page={page}&page_size=20" for page in (1, 2)]


def test_commons_gives_pictures_in_the_order_of_the_search() -> None:
    with LocalWeb(service) as web:
        found = search("commons:stop sign", web)
        assert "gsrsearch=filetype%3Abitmap%20stop%20sign" in web.asked()[0].path.replace(
            "+", "%20"
        )
        assert "maxlag=5" in web.asked()[0].path
    assert [link.title for link in found.links] == [f"Sign {n}.jpg" for n in range(4)]
    first = found.links[0]
    assert (first.licence, first.creator) == ("CC BY-SA 4.0", "Ada & Co")
    assert first.attribution == "Ada & Co, CC BY-SA 4.0"
    assert first.page == "https://commons.wikimedia.org/wiki/File:Sign.jpg"


def test_flickr_takes_the_largest_size_and_the_key_stays_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", "secret-key")
    with LocalWeb(service) as web:
        found = search("flickr:stop sign", web)
    assert [link.url for link in found.links] == [
        f"https://live.staticflickr.com/l{page}.jpg" for page in (1, 2)
    ]
    assert found.links[0].licence == "CC BY 2.0"
    assert found.links[0].page == "https://www.flickr.com/photos/1@N01/51"
    assert "secret-key" not in repr(found)


def test_a_search_stops_at_the_limit() -> None:
    with LocalWeb(service) as web:
        found = search("commons:sign", web, limit=2)
        assert len(found.links) == 2
        assert found.skipped == {"beyond the limit": 1}


def test_what_a_service_complains_of_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", "wrong-key")
    complaint = {"error": {"code": "ratelimited", "info": "too many"}}
    with LocalWeb(service) as web:
        with pytest.raises(InputError, match=r"flickr refused.*100: Invalid API Key") as caught:
            search("flickr:sign", web)
        assert "wrong-key" not in str(caught.value)
        monkeypatch.setitem(ANSWERS, "/w/api.php", lambda query: complaint)
        with pytest.raises(InputError, match=r"commons refused.*ratelimited: too many"):
            search("commons:sign", web)
    replies = {
        "something else than JSON": Reply(b"<html>busy"),
        "does not answer": Reply(b"", 401),
        "gives no picture": Reply(b'{"results": 5, "page_count": "x"}'),
    }
    for said, reply in replies.items():
        with (
            LocalWeb(lambda request, reply=reply: reply) as web,
            pytest.raises(InputError, match=said),
        ):
            search("openverse:sign", web)


def test_a_quota_that_is_spent_is_waited_for() -> None:
    calls: list[Request] = []

    def busy(request: Request) -> Reply:
        calls.append(request)
        if len(calls) == 1:
            return Reply(b"{}", 429, {"Retry-After": "1"})
        return service(request)

    with LocalWeb(busy) as web:
        assert len(search("openverse:sign", web, limit=2).links) == 2
    assert calls[1].begun - calls[0].begun >= 1


def test_endpoints_are_checked() -> None:
    with pytest.raises(ValueError, match="SERVICE=ADDRESS"):
        SourceSettings(endpoints=("bing=http://x",))
    assert SourceSettings(endpoints=("openverse=http://x/",)).endpoint("openverse") == "http://x"
    assert SourceSettings().endpoint("commons") == "https://commons.wikimedia.org"


def test_a_service_on_a_private_address_is_not_asked() -> None:
    with LocalWeb(service) as web:
        settings = SourceSettings(endpoints=(f"openverse=http://127.0.0.1:{web.port}",))

        async def run() -> Found:
            safety = SafetySettings(ports=(web.port,))
            async with Fetcher(WebSettings("me@example.org", safety)) as fetcher:
                return await sources.find(["openverse:sign"], settings, fetcher)

        with pytest.raises(InputError, match="private_address"):
            asyncio.run(run())
        assert web.trapped == []
