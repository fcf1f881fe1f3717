"""Addresses of pictures in a page or a sitemap, and what the page says of them.

Pages are hostile until proved otherwise: nothing outside the bytes is read, and nesting, text and
counts have limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

from lxml import etree

from nnst.errors import InputError
from nnst.imglab import markup

MAX_LINKS = 10_000  # from one page
_MAX_DEPTH = 40  # of JSON-LD
_IMAGE_PROPERTIES = frozenset(
    {"og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src"}
)
_LAZY = ("data-src", "data-original", "data-lazy-src")
_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)[wx]")
_MAX_SRCSET = 100_000  # characters


@dataclass(frozen=True, slots=True)
class Link:
    """One address to fetch, and what its source says of the picture."""

    url: str
    source: str = ""  # as it was given to nnst collect
    page: str | None = None
    licence: str | None = None
    licence_url: str | None = None
    creator: str | None = None
    attribution: str | None = None
    title: str | None = None
    carried: str | None = None  # other columns of a list, as JSON
    reason: str | None = None  # known to be out of bounds before it is fetched, and why


FACTS = ("source", "page", "licence", "licence_url", "creator", "attribution", "title", "carried")
"""The fields of a Link that its row carries on."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds: addresses as they are written there, made absolute."""

    images: tuple[Link, ...] = ()
    pages: tuple[str, ...] = ()  # that it links to
    directives: tuple[str, ...] = ()  # of meta robots, for each agent as `agent: directives`
    reserved: bool = False  # by a meta tag of TDMRep


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What a sitemap holds: pages, pictures of these, and further sitemaps."""

    images: tuple[Link, ...] = ()
    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


@dataclass(slots=True)
class _Gathering:
    """Links of one page, each address once."""

    base: str
    page: str
    found: dict[str, Link] = field(default_factory=dict)

    def add(self, address: Any, **facts: str | None) -> None:
        if not isinstance(address, str) or not address.strip() or len(self.found) >= MAX_LINKS:
            return
        if address.strip()[:5].lower() == "data:":
            return  # the picture itself, seldom more than a placeholder
        url = _joined(self.base, address)
        known = self.found.get(url, Link(url, page=self.page))
        said = {name: value for name, value in facts.items() if value and not getattr(known, name)}
        self.found[url] = replace(known, **said)


def read_page(data: bytes, url: str, encoding: str | None = None) -> Page:
    """The pictures and pages that an HTML page links to. Bytes that are no HTML give nothing."""
    root = _parse_html(data, encoding)
    if root is None:
        return Page()
    base = next((text for text in root.xpath("//base/@href")[:1]), "")
    gathering = _Gathering(_joined(url, base), url)
    for element in root.iter("img", "source", "meta", "link"):
        _add_element(gathering, element)
    for script in root.iter("script"):
        if "ld+json" in (script.get("type") or "").lower():
            _add_json_ld(gathering, script.text or "")
    licence = next((text for text in root.xpath("//*[@rel='license']/@href")[:1]), None)
    for link in gathering.found.values() if licence else ():
        gathering.add(link.url, licence_url=_joined(gathering.base, licence or ""))
    anchors = (_joined(gathering.base, text) for text in root.xpath("//a/@href")[:MAX_LINKS])
    return Page(
        tuple(gathering.found.values()),
        tuple(dict.fromkeys(anchor.partition("#")[0] for anchor in anchors)),
        tuple(_meta_robots(root)),
        any(_meta(each, "tdm-reservation") == "1" for each in root.iter("meta")),
    )


def _parse_html(data: bytes, encoding: str | None) -> Any:
    try:
        parser = etree.HTMLParser(
            encoding=encoding,
            no_network=True,
            huge_tree=False,
            recover=True,
            remove_comments=True,
            remove_pis=True,
        )
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, LookupError, ValueError):
        return _parse_html(data, None) if encoding else None


def _joined(base: str, address: str) -> str:
    """The address made absolute; as it is where it is beyond that."""
    try:
        return urljoin(base, address.strip())
    except ValueError:
        return address.strip()


def _add_element(gathering: _Gathering, element: Any) -> None:
    if element.tag == "meta":
        name = (element.get("property") or element.get("name") or "").lower()
        if name in _IMAGE_PROPERTIES:
            gathering.add(element.get("content"))
    elif element.tag == "link":
        if (element.get("rel") or "").lower() == "image_src":
            gathering.add(element.get("href"))
    elif element.tag == "img" or element.getparent().tag == "picture":
        sources = (element.get("srcset"), element.get("data-srcset"))
        largest = next(filter(None, map(largest_of, sources)), None)
        plain = (element.get(name) for name in ("src", *_LAZY))
        alt = (element.get("alt") or "").strip()[:500] or None
        gathering.add(largest or next(filter(None, plain), None), title=alt)


def largest_of(srcset: str | None) -> str | None:
    """The largest candidate of a `srcset`: the others are the same picture in fewer pixels."""
    best, largest = None, -1.0
    for address, size in _candidates((srcset or "")[:_MAX_SRCSET].split()):
        if size > largest:
            best, largest = address, size
    return best


def _candidates(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    """(address, size) of a `srcset` in words: `a.jpg 1x, b.jpg 2x`, `a.jpg 400w,b.jpg 800w`."""
    address = ""
    for word in words:
        if address:  # a size, and maybe the next address behind a comma
            size, comma, word = word.partition(",")
            yield address, _size(size)
            address = ""
            if not comma:
                continue
        word = word.lstrip(",")
        if word.endswith(","):
            yield word.rstrip(","), 1.0
        else:
            address = word
    if address:
        yield address, 1.0


def _size(text: str) -> float:
    match = _SIZE.fullmatch(text)
    return float(match[1]) if match else 0.0


def _add_json_ld(gathering: _Gathering, text: str) -> None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    for thing in _things(document):
        facts = {
            "licence_url": _text(thing.get("license")),
            "creator": _text(thing.get("creator") or thing.get("author")),
            "attribution": _text(thing.get("creditText") or thing.get("copyrightNotice")),
            "title": _text(thing.get("caption") or thing.get("name")),
        }
        if "ImageObject" in _types(thing):
            gathering.add(thing.get("contentUrl") or thing.get("url"), **facts)
        for image in _as_list(thing.get("image")):
            if isinstance(image, str):  # an ImageObject comes by itself
                gathering.add(image)
            elif isinstance(image, dict) and "ImageObject" not in _types(image):
                gathering.add(image.get("url"))


def _things(document: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(document, dict):
        yield document
    inner = document.values() if isinstance(document, dict) else _as_list(document)
    for item in inner:
        if isinstance(item, dict | list):
            yield from _things(item, depth + 1)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _types(thing: dict[str, Any]) -> list[Any]:
    return _as_list(thing.get("@type"))


def _text(value: Any) -> str | None:
    """The words of a value that may be a string, an object with a name or address, or several."""
    for item in _as_list(value):
        found = item.get("name") or item.get("url") if isinstance(item, dict) else item
        if isinstance(found, str) and found.strip():
            return found.strip()[:500]
    return None


def _meta(element: Any, name: str) -> str | None:
    if (element.get("name") or "").strip().lower() == name:
        return (element.get("content") or "").strip()
    return None


def _meta_robots(root: Any) -> Iterator[str]:
    """The content of every meta tag for robots, with the agent in front if it is for one alone."""
    for element in root.iter("meta"):
        for agent in ("robots", "nnst"):
            content = _meta(element, agent)
            if content:
                yield content if agent == "robots" else f"{agent}: {content}"


def read_sitemap(data: bytes, url: str) -> Sitemap:
    """What a sitemap or an index of sitemaps lists. Raises InputError where it is no XML."""
    root = markup.parse(data, url)
    pages: list[str] = []
    sitemaps: list[str] = []
    images: list[Link] = []
    for element in root:
        kind = _local(element)
        page = next((_content(each) for each in element if _local(each) == "loc"), "")
        if kind == "sitemap":
            sitemaps.append(page)
        elif kind == "url":
            pages.append(page)
            images += _sitemap_images(element, page)
    if not {_local(element) for element in [root]} & {"urlset", "sitemapindex"}:
        raise InputError(f"{url} is XML, and no sitemap", "give a page, or a sitemap's address")
    return Sitemap(tuple(images), tuple(filter(None, pages)), tuple(filter(None, sitemaps)))


def _sitemap_images(element: Any, page: str) -> Iterable[Link]:
    """The pictures that the image extension lists for one page."""
    for image in element:
        if _local(image) == "image":
            said = {_local(each): _content(each) for each in image}
            if said.get("loc"):
                yield Link(
                    said["loc"],
                    page=page or None,
                    licence_url=said.get("license"),
                    title=said.get("title") or said.get("caption"),
                )


def _local(element: Any) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _content(element: Any) -> str:
    return (element.text or "").strip()
