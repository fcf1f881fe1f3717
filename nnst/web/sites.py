"""Pictures of a web page, a site or a sitemap: pages are read breadth first, on one host."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from nnst import images
from nnst.errors import FetchError, InputError
from nnst.web.addresses import canonical, host_of
from nnst.web.answers import Fetched, inflated
from nnst.web.fetch import Fetcher
from nnst.web.links import Link, Page, Sitemap, read_page, read_sitemap
from nnst.web.reservations import directives_for
from nnst.web.robots import AGENT

MAX_SITEMAPS = 1_000

_CHARSET = re.compile(r"charset=[\"']?([a-z0-9_.:-]{1,40})", re.IGNORECASE)
_SITEMAP = re.compile(rb"<(\w+:)?(urlset|sitemapindex)\b")
_HTML = re.compile(rb"<(!doctype html|html|head|body)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a site is followed."""

    depth: int  # links from the first page; 0 is that page alone
    pages: int  # that are read, at most


class Site:
    """The pictures below one address. What could not be read is counted in `skipped`."""

    def __init__(self, url: str, fetcher: Fetcher, reach: Reach) -> None:
        self._first = url
        self._fetcher = fetcher
        self._reach = reach
        self._queue: deque[tuple[str, int]] = deque([(url, 0)])
        self._seen = {url}
        self._sitemaps = 0
        self.pages = 0
        self.skipped: Counter[str] = Counter()

    async def links(self) -> AsyncIterator[Link]:
        """Every picture found. Raises FetchError where the first address cannot be read."""
        while self._queue:
            url, depth = self._queue.popleft()
            if self.pages >= self._reach.pages:
                self.skipped["pages beyond the limit"] += 1 + len(self._queue)
                return
            try:
                found = await self._fetcher.fetch_page(url)
                links = list(self._links(found, depth))
            except (FetchError, InputError) as error:
                if url == self._first:
                    raise
                reason = error.reason if isinstance(error, FetchError) else "no page"
                self.skipped[f"pages: {reason}"] += 1
                continue
            for link in links:
                yield link

    def _links(self, found: Fetched, depth: int) -> Iterator[Link]:
        data = inflated(found.data, self._fetcher.settings.limits.page_bytes)
        kind = images.sniff(data[:512])
        if kind in images.READABLE:
            yield Link(found.url)
        elif _is_sitemap(data, kind, found.content_type or ""):
            yield from self._of_sitemap(read_sitemap(data, found.url), depth)
        elif "html" not in (found.content_type or "") and not _HTML.search(data[:4096]):
            raise InputError(f"{found.url} is no page, sitemap or picture", "check the address")
        else:
            charset = _CHARSET.search(found.content_type or "")
            page = read_page(data, found.url, charset[1] if charset else None)
            yield from self._of_page(page, depth)

    def _of_sitemap(self, sitemap: Sitemap, depth: int) -> Iterator[Link]:
        self._sitemaps += 1
        if self._sitemaps <= MAX_SITEMAPS:
            self._follow(sitemap.sitemaps, depth)
        yield from sitemap.images
        # Pages whose pictures the sitemap lists need not be read.
        listed = {link.page for link in sitemap.images}
        self._follow((page for page in sitemap.pages if page not in listed), self._reach.depth)

    def _of_page(self, page: Page, depth: int) -> Iterator[Link]:
        self.pages += 1
        reason = self._reserved(page)
        for link in page.images:
            yield replace(link, reason=reason)
        if depth < self._reach.depth and _leads_on(page):
            self._follow(page.pages, depth + 1)

    def _reserved(self, page: Page) -> str | None:
        """Why the pictures of a page are not to be fetched, None if they may be."""
        respect = self._fetcher.settings.respect
        try:
            respect.check_tags(page.directives)
            respect.check_reserved(["1"] if page.reserved else [])
        except FetchError as error:
            return error.reason
        return None

    def _follow(self, addresses: Iterator[str] | tuple[str, ...], depth: int) -> None:
        """Read these pages later, as far as they lie on the same host."""
        for address in addresses:
            try:
                url = canonical(address, self._fetcher.settings.safety.ports)
            except FetchError:
                continue
            if url not in self._seen and host_of(url) == host_of(self._first):
                self._seen.add(url)
                self._queue.append((url, depth))


def _is_sitemap(data: bytes, kind: str | None, content_type: str) -> bool:
    """Whether it is one, or XML that might be: XHTML says in its header that it is a page."""
    named = _SITEMAP.search(data[:4096]) is not None
    return named or (kind == "xml" and "html" not in content_type)


def _leads_on(page: Page) -> bool:
    """Whether the page lets its links be followed."""
    said = {each for value in page.directives for each in directives_for(value, AGENT)}
    return not said & {"nofollow", "none"}
