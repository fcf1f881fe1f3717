"""One address -> its bytes, or FetchError: asked for politely, and only where that is welcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urljoin

from aiohttp.abc import AbstractResolver

from nnst import __version__
from nnst.config import group, setting
from nnst.errors import FetchError
from nnst.web.addresses import SafetySettings, canonical, host_of, origin_of
from nnst.web.answers import Fetched, Known, check_served, refusal
from nnst.web.client import Answer, Client, LimitSettings
from nnst.web.politeness import Host, PaceSettings
from nnst.web.reservations import (
    TDMREP_PATH,
    Reservations,
    RespectSettings,
    reservations_of,
)
from nnst.web.robots import MAX_BYTES as ROBOTS_BYTES
from nnst.web.robots import Rules, rules_of

RETRYABLE = frozenset(
    {
        "connection_failed",
        "host_down",
        "rate_limited",
        "robots_unreadable",
        "server_error",
        "timeout",
    }
)
"""Reasons of which another day may think otherwise."""

_TRIED_AGAIN = frozenset({"connection_failed", "rate_limited", "server_error", "timeout"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST_RULES_SECONDS = 24 * 3600.0  # robots.txt is read again after a day; RFC 9309, 2.4
_WANTS_PICTURE = "image/*;q=1, */*;q=0.1"
_WANTS_PAGE = "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.1"


@dataclass(frozen=True, slots=True)
class WebSettings:
    """All that decides how addresses are fetched."""

    contact: str = setting("", "a mail address or web page of yours, told to every server")
    safety: SafetySettings = group(SafetySettings)
    pace: PaceSettings = group(PaceSettings)
    limits: LimitSettings = group(LimitSettings)
    respect: RespectSettings = group(RespectSettings)

    @property
    def agent(self) -> str:
        """The User-Agent: who asks, and how to reach them."""
        return f"nnst/{__version__} (+{self.contact})" if self.contact else f"nnst/{__version__}"


@dataclass(frozen=True, slots=True)
class _Request:
    """How an address is asked for."""

    headers: Mapping[str, str]
    max_bytes: int
    welcome: bool = True  # whether the site is asked first if it lets us
    cut: bool = False  # whether a larger answer is cut short, not refused


@dataclass(frozen=True, slots=True)
class _HostRules:
    robots: Rules
    reservations: Reservations
    read: float


class Fetcher:
    """Fetches addresses; an asynchronous context manager for one event loop."""

    def __init__(self, settings: WebSettings, resolver: AbstractResolver | None = None) -> None:
        self.settings = settings
        self._client = Client(settings.agent, settings.safety, settings.limits, resolver)
        self._in_flight = asyncio.Semaphore(settings.pace.in_flight)
        self._hosts: dict[str, Host] = {}
        self._rules: dict[str, asyncio.Task[_HostRules]] = {}  # by origin

    async def __aenter__(self) -> Fetcher:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._rules.values():
            task.cancel()
        await asyncio.gather(*self._rules.values(), return_exceptions=True)
        await self._client.__aexit__(kind, error, trace)

    async def fetch(self, url: str, known: Known | None = None) -> Fetched:
        """The picture at a canonical address, to be released. Raises FetchError."""
        headers = {"Accept": _WANTS_PICTURE, **(known.headers() if known else {})}
        return await self._patiently(url, _Request(headers, self.settings.limits.max_bytes))

    async def fetch_page(self, url: str) -> Fetched:
        """A page or sitemap. Raises FetchError."""
        request = _Request({"Accept": _WANTS_PAGE}, self.settings.limits.page_bytes)
        return _released(await self._patiently(url, request))

    async def fetch_api(self, url: str) -> Fetched:
        """The answer of a service's published interface, which is there for programs to call: no
        robots.txt is asked. Raises FetchError."""
        limit = self.settings.limits.page_bytes
        request = _Request({"Accept": "application/json"}, limit, welcome=False)
        return _released(await self._patiently(url, request))

    async def _patiently(self, url: str, request: _Request) -> Fetched:
        """What `_follow` gives, tried again where the server fails."""
        for attempt in range(1, self.settings.pace.tries):
            try:
                return await self._follow(url, request)
            except FetchError as error:
                if error.reason not in _TRIED_AGAIN:
                    raise
                if error.wait is None:  # else the host's own pace knows of it
                    await asyncio.sleep(self._host(url).pause_before(attempt))
        return await self._follow(url, request)

    async def _follow(self, url: str, request: _Request) -> Fetched:
        """The answer behind all redirects, each of them checked like an address of its own."""
        for _ in range(self.settings.limits.redirects + 1):
            if request.welcome:
                await self._check_welcome(url)
            answer = await self._ask(url, request)
            if answer.code not in _REDIRECTS:
                return self._fetched(url, answer, request)
            url = self._redirected(url, answer)
        what = f"more than {self.settings.limits.redirects} redirects"
        raise FetchError("bad_redirect", what, answer.code)

    async def _ask(self, url: str, request: _Request) -> Answer:
        """One request in the host's own pace. A server that fails raises FetchError."""
        host = self._host(url)
        async with host.turn():
            try:
                answer = await self._client.get(
                    url, request.headers, request.max_bytes, cut=request.cut
                )
                check_served(answer)
            except FetchError as error:
                if error.reason in _TRIED_AGAIN:
                    host.failed(error)
                raise
        host.answered()
        return answer

    def _host(self, url: str) -> Host:
        name = host_of(url)
        if name not in self._hosts:
            self._hosts[name] = Host(self.settings.pace, self._in_flight)
        return self._hosts[name]

    def _redirected(self, url: str, answer: Answer) -> str:
        """Where a redirect leads. Raises FetchError."""
        location = answer.headers.get("Location", "").strip()
        if not location:
            raise FetchError("bad_redirect", "a redirect to nowhere", answer.code)
        try:
            target = canonical(urljoin(url, location), self.settings.safety.ports)
        except (FetchError, ValueError) as error:
            what = f"a redirect to {location[:200]!r}: {error}"
            raise FetchError("bad_redirect", what, answer.code) from None
        if url.startswith("https:") and not target.startswith("https:"):
            raise FetchError("bad_redirect", "a redirect from https to http", answer.code)
        return target

    def _fetched(self, url: str, answer: Answer, request: _Request) -> Fetched:
        """The answer as a result. Raises FetchError unless it is one that may be used."""
        headers = answer.headers
        if answer.code not in (200, 304):
            raise FetchError(*refusal(answer.code), code=answer.code)
        try:
            if request.welcome:
                self.settings.respect.check_tags(headers.getall("X-Robots-Tag", []))
                self.settings.respect.check_reserved(headers.getall("tdm-reservation", []))
        except FetchError:
            answer.release()
            raise
        return Fetched(
            url=url,
            code=answer.code,
            data=answer.body,
            content_type=headers.get("Content-Type"),
            etag=headers.get("ETag"),
            last_modified=headers.get("Last-Modified"),
            release=answer.release,
        )

    async def _check_welcome(self, url: str) -> None:
        """Raise FetchError unless the site lets nnst fetch the address."""
        respect = self.settings.respect
        if not (respect.robots or respect.tdmrep):
            return
        rules = await self._rules_of(origin_of(url))
        if respect.robots:
            rules.robots.check(url)
            self._host(url).slow_down(rules.robots.delay)
        if respect.tdmrep:
            rules.reservations.check(url)

    async def _rules_of(self, origin: str) -> _HostRules:
        """The rules of a site, read once for all that wait for them."""
        task = self._rules.get(origin)
        if task is None or _is_stale(task):
            task = self._rules[origin] = asyncio.create_task(self._read_rules(origin))
        return task.result() if task.done() else await asyncio.shield(task)

    async def _read_rules(self, origin: str) -> _HostRules:
        respect = self.settings.respect
        robots, reservations = Rules(), Reservations()
        if respect.robots:
            robots = await self._read_robots(origin)
        if respect.tdmrep and robots.readable:
            reservations = await self._read_reservations(origin)
        return _HostRules(robots, reservations, time.monotonic())

    async def _read_robots(self, origin: str) -> Rules:
        """Raises FetchError where the host cannot be reached at all."""
        try:
            request = _Request({}, ROBOTS_BYTES, welcome=False, cut=True)
            found = _released(await self._patiently(f"{origin}/robots.txt", request))
        except FetchError as error:
            if error.code is None and error.reason != "bad_redirect":
                raise
            return rules_of(error.code, b"")
        return rules_of(found.code, found.data)

    async def _read_reservations(self, origin: str) -> Reservations:
        try:
            request = _Request({}, self.settings.limits.page_bytes, welcome=False)
            found = _released(await self._patiently(origin + TDMREP_PATH, request))
        except FetchError:
            return Reservations()
        if (found.content_type or "").lower().startswith("text/html"):
            return Reservations()  # sites that answer every address with their own page
        return reservations_of(found.data)


def _released(found: Fetched) -> Fetched:
    """The same, when there is no crowd of its kind to be held back."""
    found.release()
    return found


def _is_stale(task: asyncio.Task[_HostRules]) -> bool:
    """Whether these rules have to be read again. A host that gave none is not asked twice."""
    known = task.done() and not task.cancelled() and task.exception() is None
    return known and time.monotonic() - task.result().read > _HOST_RULES_SECONDS
