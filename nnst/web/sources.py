"""SOURCE as people write it -> links: a URL list, a page or sitemap, or a search."""

from __future__ import annotations

import difflib
import heapq
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from nnst import storage
from nnst.config import setting
from nnst.errors import FetchError, InputError
from nnst.web import lists
from nnst.web.addresses import canonical, host_of
from nnst.web.fetch import Fetcher
from nnst.web.links import Link
from nnst.web.services import SERVICES
from nnst.web.sites import Reach, Site

FREE_LINKS = 100  # that may be fetched without saying who asks

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=:)", re.IGNORECASE)
_MAX_SHOWN = 500  # characters of an address that is none


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What is taken from each source."""

    limit: int = setting(1000, "addresses from one search or site; lists are read whole")
    depth: int = setting(0, "links that are followed from a page, on its host; 0 is the page alone")
    pages: int = setting(100, "pages that are read of one site")
    url: str = setting("url", "column of a list that holds the addresses")
    carry: tuple[str, ...] = setting((), "columns of a list to keep; none keeps all")
    endpoints: tuple[str, ...] = setting(
        (), "other endpoints of services, as openverse=https://..."
    )

    def __post_init__(self) -> None:
        if min(self.limit, self.pages) < 1 or self.depth < 0:
            raise ValueError("limit and pages must be 1 or more, depth 0 or more")
        for text in self.endpoints:
            if text.partition("=")[0] not in SERVICES or "=" not in text:
                raise ValueError(f"{text!r} is not SERVICE=ADDRESS; services: {_services()}")

    def endpoint(self, service: str) -> str:
        """Where a service is asked."""
        given = dict(text.split("=", 1) for text in self.endpoints)
        return given.get(service, SERVICES[service].endpoint).rstrip("/")


@dataclass(frozen=True, slots=True)
class Found:
    """The links of all sources, each address once, and what was left out of them."""

    links: tuple[Link, ...]
    skipped: Mapping[str, int]


def check(sources: Sequence[str], contact: str) -> None:
    """Raise InputError for a source that cannot be one, before anything is asked of anybody."""
    if not sources:
        raise InputError("no source", "give a URL list, a page, or a search as openverse:QUERY")
    for source in sources:
        name = kind_of(source)
        variable = SERVICES[name].key_variable if name in SERVICES else ""
        if variable and not os.environ.get(variable):
            what = f"{name} wants a key, and {variable} is not set"
            raise InputError(what, f"get one from {name} and export {variable}=...")
        if name in SERVICES and not contact:
            what = f"a search at {name} without a contact"
            raise InputError(what, "give --contact a mail address or web page of yours")


def digests(sources: Sequence[str]) -> dict[str, str]:
    """What decides a source beside its name: for a file its content."""
    return {
        source: storage.sha256(storage.read(source)) if kind_of(source) == "list" else ""
        for source in sources
    }


def kind_of(source: str) -> str:
    """`list`, `site` or the name of a service. Raises InputError for anything else."""
    scheme = _SCHEME.match(source)
    name = scheme[0].lower() if scheme else ""
    if name in SERVICES and not source.startswith(f"{name}://"):
        if not source.partition(":")[2].strip():
            raise InputError(f"{source} has no query", f"write {name}:QUERY")
        return name
    if name in ("http", "https"):
        return "site"
    if source.lower().endswith(lists.SUFFIXES) and name not in ("ftp", "ftps", "file"):
        if not storage.is_remote(source) and not os.path.isfile(source):
            raise InputError(f"there is no file {source}", "check the path")
        return "list"
    raise _unknown(source, name)


def _unknown(source: str, name: str) -> InputError:
    if "://" in source:
        return InputError(f"cannot collect from {source}", "only http and https are fetched")
    if os.path.exists(source):
        kinds = ", ".join(lists.SUFFIXES)
        return InputError(f"{source} is no URL list", f"give a file that ends in {kinds}")
    if name:
        close = difflib.get_close_matches(name, SERVICES, n=1)
        hint = f"did you mean {close[0]}:...? " if close else ""
        return InputError(f"no service {name!r} for {source}", f"{hint}services: {_services()}")
    return InputError(
        f"{source} is no URL list, address or search",
        "give a file, an address with http:// or https://, or a search as openverse:QUERY",
    )


def _services() -> str:
    return ", ".join(SERVICES)


async def find(sources: Sequence[str], settings: SourceSettings, fetcher: Fetcher) -> Found:
    """The links of all sources, in order. Raises InputError where one of them gives none."""
    found: dict[str, Link] = {}
    skipped: Counter[str] = Counter()
    for source in sources:
        before = len(found)
        async for link in _links(source, settings, fetcher, skipped):
            _add(found, replace(link, source=source), skipped, fetcher)
        if len(found) == before and not skipped["listed again"]:
            raise InputError(f"{source} gives no picture's address", "check it")
    return Found(tuple(found.values()), dict(sorted(skipped.items())))


def _add(found: dict[str, Link], link: Link, skipped: Counter[str], fetcher: Fetcher) -> None:
    """Keep the link under its one spelling; the second of an address is counted and left out."""
    said = {
        field.name: value.encode("utf-8", "replace").decode()
        for field in fields(link)
        if isinstance(value := getattr(link, field.name), str)  # JSON can hold what is no text
    }
    link = replace(link, **said)
    try:
        link = replace(link, url=canonical(link.url, fetcher.settings.safety.ports))
    except FetchError as error:
        link = replace(link, url=link.url[:_MAX_SHOWN], reason=error.reason)
    if not link.url:
        skipped["without an address"] += 1
    elif link.url in found:
        skipped["listed again"] += 1
    else:
        found[link.url] = link


async def _links(
    source: str, settings: SourceSettings, fetcher: Fetcher, skipped: Counter[str]
) -> AsyncIterator[Link]:
    kind = kind_of(source)
    if kind == "list":
        for link in lists.read(source, settings.url, settings.carry):
            yield link
        return
    links = _of_site if kind == "site" else _of_service
    count = 0
    async for link in links(source, settings, fetcher, skipped):
        if count == settings.limit:
            skipped["beyond the limit"] += 1
            return
        count += 1
        yield link


async def _of_site(
    source: str, settings: SourceSettings, fetcher: Fetcher, skipped: Counter[str]
) -> AsyncIterator[Link]:
    reach = Reach(settings.depth, settings.pages)
    try:
        site = Site(canonical(source, fetcher.settings.safety.ports), fetcher, reach)
        async for link in site.links():
            yield link
    except FetchError as error:
        raise InputError(f"cannot read {source}: {error}", "check the address") from None
    skipped.update(site.skipped)


async def _of_service(
    source: str, settings: SourceSettings, fetcher: Fetcher, skipped: Counter[str]
) -> AsyncIterator[Link]:
    name, _, query = source.partition(":")
    service = SERVICES[name.lower()]

    async def ask(address: str) -> bytes:
        return (await fetcher.fetch_api(canonical(address, fetcher.settings.safety.ports))).data

    key = os.environ.get(service.key_variable, "") if service.key_variable else ""
    try:
        endpoint = settings.endpoint(service.name)
        async for link in service.links(query.strip(), ask, endpoint, key):
            yield link
    except FetchError as error:
        raise InputError(f"{name} does not answer: {error}", "try again later") from None


def shards(links: Sequence[Link], size: int) -> list[list[Link]]:
    """The links in shards of about `size`, each host in one of them: so its pace holds wherever
    the shard is done. Hosts are dealt out largest first, to the shard with the fewest links."""
    by_host: dict[str, list[Link]] = {}
    for link in links:
        by_host.setdefault(host(link), []).append(link)
    count = max(1, min(-(-len(links) // size), len(by_host)))
    dealt: list[list[Link]] = [[] for _ in range(count)]
    lightest = [(0, number) for number in range(count)]
    for name in sorted(by_host, key=lambda name: (-len(by_host[name]), name)):
        load, number = heapq.heappop(lightest)
        dealt[number] += by_host[name]
        heapq.heappush(lightest, (load + len(by_host[name]), number))
    return dealt


def host(link: Link) -> str:
    """The host of a link; "" for what is no address."""
    try:
        return host_of(link.url)
    except ValueError:
        return ""
