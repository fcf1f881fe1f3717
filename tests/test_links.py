"""Addresses in pages and sitemaps, hostile ones among them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnst.errors import InputError
from nnst.web.links import MAX_LINKS, Link, largest_of, read_page, read_sitemap

URL = "http://example.org/shop/page.html"


def images_of(html: str) -> list[str]:
    return [link.url for link in read_page(html.encode(), URL).images]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<img src=a.jpg>", ["http://example.org/shop/a.jpg"]),
        ("<img src=' /a.jpg\n'>", ["http://example.org/a.jpg"]),
        ("<img src=//cdn.example/a.jpg>", ["http://cdn.example/a.jpg"]),
        ("<base href=/other/><img src=a.jpg>", ["http://example.org/other/a.jpg"]),
        ("<img src=a.jpg><img src=a.jpg>", ["http://example.org/shop/a.jpg"]),
        ("<img data-src=a.jpg>", ["http://example.org/shop/a.jpg"]),
        ("<img src=data:image/gif;base64,AA data-src=a.jpg>", []),  # src is what the page shows
        ("<img src=s.jpg srcset='m.jpg 2x, l.jpg 3x'>", ["http://example.org/shop/l.jpg"]),
        (
            "<picture><source srcset='a.webp 100w, b.webp 900w'><img src=c.jpg></picture>",
            ["http://example.org/shop/b.webp", "http://example.org/shop/c.jpg"],
        ),
        ("<video><source src=film.mp4></video>", []),
        ("<meta property=og:image content=/og.jpg>", ["http://example.org/og.jpg"]),
        ("<meta name=twitter:image content=/t.jpg>", ["http://example.org/t.jpg"]),
        ("<link rel=image_src href=/l.jpg>", ["http://example.org/l.jpg"]),
        ("<a href=a.jpg>big</a>", []),
        ("<img>", []),
        ("<img src=''>", []),
        ("<!-- <img src=a.jpg> -->", []),
        ("<IMG SRC=A.JPG", []),  # cut short
        ("no markup at all", []),
        ("", []),
    ],
)
def test_pictures_of_a_page(html: str, expected: list[str]) -> None:
    assert images_of(html) == expected


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg 1x, b.jpg 2x", "b.jpg"),
        ("b.jpg 800w,a.jpg 400w", "b.jpg"),
        ("a.jpg 1.5x, b.jpg", "a.jpg"),
        ("https://x/a,b.jpg 2x, c.jpg 1x", "https://x/a,b.jpg"),  # commas inside an address
        ("", None),
        (None, None),
        ("a.jpg ..x, b.jpg 0.5x", "b.jpg"),
        ("a.jpg, b.jpg", "a.jpg"),
        (" , ,", None),
    ],
)
def test_of_a_srcset_the_largest_is_taken(srcset: str | None, expected: str | None) -> None:
    assert largest_of(srcset) == expected


def test_json_ld_gives_pictures_with_licence_and_credit() -> None:
    document = {
        "@graph": [
            {
                "@type": "ImageObject",
                "contentUrl": "/a.jpg",
                "license": "https://creativecommons.org/licenses/by/4.0/",
                "creator": {"@type": "Person", "name": "Ada"},
                "creditText": "Ada, CC BY 4.0",
                "caption": "A sign",
            },
            {"@type": "Product", "image": ["/b.jpg", {"url": "/c.jpg"}]},
            {"@type": ["Thing", "ImageObject"], "url": "/d.jpg"},
        ]
    }
    page = read_page(
        f"<script type=application/ld+json>{json.dumps(document)}</script>"
        "<img src=/a.jpg alt=other>".encode(),
        URL,
    )
    assert [link.url for link in page.images] == [
        "http://example.org/a.jpg",
        "http://example.org/b.jpg",
        "http://example.org/c.jpg",
        "http://example.org/d.jpg",
    ]
    (found,) = [link for link in page.images if link.url.endswith("a.jpg")]
    assert found.licence_url == "https://creativecommons.org/licenses/by/4.0/"
    assert (found.creator, found.attribution) == ("Ada", "Ada, CC BY 4.0")
    assert found.page == URL


def test_the_licence_of_a_page_is_that_of_its_pictures_unless_they_have_their_own() -> None:
    document = {"@type": "ImageObject", "contentUrl": "/a.jpg", "license": "http://own/"}
    page = read_page(
        f"<link rel=license href=/terms><img src=/a.jpg><img src=/b.jpg>"
        f"<script type=application/ld+json>{json.dumps(document)}</script>".encode(),
        URL,
    )
    assert {link.url[-5:]: link.licence_url for link in page.images} == {
        "a.jpg": "http://own/",
        "b.jpg": "http://example.org/terms",
    }


def test_what_a_page_says_to_robots_and_where_it_leads() -> None:
    page = read_page(
        b"<meta name=ROBOTS content='noai, nofollow'><meta name=nnst content=noindex>"
        b"<meta name=otherbot content=noimageai><meta name=tdm-reservation content=1>"
        b"<a href=/next#top>1</a><a href=/next>2</a><a href='mailto:a@b'>3</a>",
        URL,
    )
    assert page.directives == ("noai, nofollow", "nnst: noindex")
    assert page.reserved
    assert page.pages == ("http://example.org/next", "mailto:a@b")
    assert not read_page(b"<meta name=tdm-reservation content=0>", URL).reserved


def test_the_charset_of_the_answer_is_used_and_an_unknown_one_is_not() -> None:
    data = "<img src=/ä.jpg>".encode("latin-1")
    assert read_page(data, URL, "iso-8859-1").images[0].url == "http://example.org/ä.jpg"
    assert len(read_page(b"<img src=/a.jpg>", URL, "no-such-charset").images) == 1


HOSTILE: dict[str, Callable[[], bytes]] = {
    "deep nesting": lambda: b"<div>" * 300_000 + b"<img src=a.jpg>",
    "many pictures": lambda: b"".join(b"<img src=/%d.jpg>" % n for n in range(50_000)),
    "one long attribute": lambda: b"<img srcset='" + b"a.jpg 1x," * 400_000 + b"'>",
    "a srcset of blanks": lambda: b"<img srcset='" + b" " * 2_000_000 + b"'>",
    "deep JSON": lambda: (
        b"<script type=application/ld+json>" + b"[" * 200_000 + b"]" * 200_000 + b"</script>"
    ),
    "JSON to its depth": lambda: (
        b"<script type=application/ld+json>" + b'{"a":' * 900 + b"1" + b"}" * 900 + b"</script>"
    ),
    "entities": lambda: b"<!DOCTYPE html [<!ENTITY a 'b'>]>" + b"&a;" * 100_000,
    "an external entity": lambda: (
        b"<!DOCTYPE html SYSTEM 'file:///etc/passwd' [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
        b"<p>&x;</p><img src=a.jpg>"
    ),
    "many bases": lambda: b"<base href=http://x/>" * 50_000 + b"<img src=a.jpg>",
    "bad addresses": lambda: b"<img src='http://[::1'><img src='http://[x]/'><a href='http://['>",
    "zero bytes": lambda: b"\0" * 100_000,
    "noise": lambda: bytes(range(256)) * 4000,
    "UTF-16": lambda: "<img src=a.jpg>".encode("utf-16"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_page_is_read_in_little_time(kind: str) -> None:
    data = HOSTILE[kind]()
    begun = time.process_time()
    page = read_page(data, URL)
    assert time.process_time() - begun < 10
    assert len(page.images) <= MAX_LINKS
    assert not any("passwd" in link.url or "root:" in (link.title or "") for link in page.images)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_page(data: bytes) -> None:
    for page in (data, b"<img srcset='" + data + b"'>", b"<img src='" + data + b"'>"):
        read_page(page, URL)


SITEMAP = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
        xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
 <url><loc>http://example.org/one</loc>
  <image:image><image:loc>http://example.org/a.jpg</image:loc>
   <image:license>http://example.org/licence</image:license><image:title>A</image:title></image:image>
  <image:image><image:loc>http://example.org/b.jpg</image:loc></image:image></url>
 <url><loc> http://example.org/two </loc></url>
</urlset>"""


def test_a_sitemap_lists_pictures_and_pages() -> None:
    found = read_sitemap(SITEMAP, URL)
    assert found.pages == ("http://example.org/one", "http://example.org/two")
    assert found.images == (
        Link(
            "http://example.org/a.jpg",
            page="http://example.org/one",
            licence_url="http://example.org/licence",
            title="A",
        ),
        Link("http://example.org/b.jpg", page="http://example.org/one"),
    )


def test_an_index_lists_sitemaps() -> None:
    found = read_sitemap(
        b"<sitemapindex><sitemap><loc>http://x/1.xml</loc></sitemap><sitemap/></sitemapindex>", URL
    )
    assert found.sitemaps == ("http://x/1.xml",)


@pytest.mark.parametrize(
    "data",
    [
        b"<rss><channel/></rss>",
        b"<urlset><url>",
        b"",
        b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><urlset><url>&x;</url></urlset>",
        b"<?xml version='1.0'?>" + b"<a>" * 5000,
    ],
)
def test_what_is_no_sitemap_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_sitemap(data, URL)
    assert "\n" not in str(caught.value)
