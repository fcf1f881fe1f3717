"""One request: to a machine that was checked as it was dialled, read no further than is allowed.

Nothing of this machine travels along: no cookies, no credentials, no proxy of the environment.
Redirects are answers like others here; `fetch` follows them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from nnst.config import setting
from nnst.errors import FetchError
from nnst.web.addresses import SafetySettings

LARGE_AT_ONCE = 8
_LARGE_BYTES = 1 << 20
_CHUNK = 1 << 16
_MAX_HEADER = 8190  # bytes of one line
_refusals: ContextVar[list[FetchError]] = ContextVar("refusals")  # of the request that is made


Release = Callable[[], None]


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """How much is read, and for how long."""

    max_bytes: int = setting(32 * 2**20, "bytes of one picture")
    page_bytes: int = setting(8 * 2**20, "bytes of one page, sitemap or answer of a service")
    connect: float = setting(5.0, "seconds to connect")
    idle: float = setting(10.0, "seconds without a byte")
    total: float = setting(60.0, "seconds for one request")
    min_rate: float = setting(1000.0, "bytes a second, after the first `idle` seconds")
    redirects: int = setting(5, "redirects that are followed")

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.page_bytes) < 1:
            raise ValueError("max_bytes and page_bytes must be 1 or more")
        if min(self.connect, self.idle, self.total) <= 0:
            raise ValueError("connect, idle and total must be above 0 seconds")
        if min(self.min_rate, self.redirects) < 0:
            raise ValueError("min_rate and redirects must be 0 or more")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. The body is that of an answer with 200, and empty for all others."""

    code: int
    headers: CIMultiDictProxy[str]
    body: bytes
    release: Release = lambda: None  # to be called when the body is done with


class Client:
    """A session; an asynchronous context manager. `resolver` stands in for the system's.

    Of bodies beyond a mebibyte only a few are held at a time, whoever sends them: another one is
    not read on before an answer's `release` is called.
    """

    def __init__(
        self,
        agent: str,
        safety: SafetySettings,
        limits: LimitSettings,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._agent = agent
        self._safety = safety
        self._limits = limits
        self._resolver = resolver
        self._places = asyncio.Semaphore(LARGE_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        limits = self._limits
        connector = aiohttp.TCPConnector(
            limit=0,  # politeness has counted them
            resolver=_CheckedResolver(self._safety, self._resolver or aiohttp.ThreadedResolver()),
            socket_factory=self._socket,
            use_dns_cache=True,
            ttl_dns_cache=60,
            ssl=not self._safety.insecure,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=limits.total,
                connect=limits.connect,
                sock_connect=limits.connect,
                sock_read=limits.idle,
            ),
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            read_bufsize=4 * _CHUNK,
            response_class=_checked_response(self._safety),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def _socket(self, info: Any) -> socket.socket:
        """The socket for one number, just before it is dialled. Raises OSError for a forbidden one:
        whatever a name resolved to before, this is where the connection goes."""
        family, kind, protocol, _, where = info
        try:
            self._safety.check_dialled(where[0])
        except FetchError as error:
            _refusals.get([]).append(error)
            raise OSError(error.detail) from None
        return socket.socket(family, kind, protocol)

    async def get(
        self, url: str, headers: Mapping[str, str], max_bytes: int, cut: bool = False
    ) -> Answer:
        """The answer of a server. Raises FetchError: no connection, too slow, too large (`cut`
        gives the first `max_bytes` instead)."""
        assert self._session is not None
        refusals: list[FetchError] = []
        token = _refusals.set(refusals)
        try:
            request = self._session.get(
                URL(url, encoded=True), headers=headers, allow_redirects=False
            )
            async with request as response:
                if response.status != 200:
                    return Answer(response.status, response.headers, b"")
                body, release = await self._body(response, max_bytes, cut)
                return Answer(response.status, response.headers, body, release)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # OSError: timeouts too
            raise (refusals[0] if refusals else _as_fetch_error(error)) from None
        finally:
            _refusals.reset(token)

    async def _body(
        self, response: aiohttp.ClientResponse, max_bytes: int, cut: bool
    ) -> tuple[bytes, Release]:
        """The bytes as they are sent, counted while they come, and how to give back their place.
        What the header says of their number is a hint."""
        if (response.content_length or 0) > max_bytes and not cut:
            raise _too_many(response, max_bytes)
        begun = time.monotonic()
        data, holds = bytearray(), False
        try:
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > max_bytes:
                    if not cut:
                        raise _too_many(response, max_bytes)
                    break
                if len(data) > _LARGE_BYTES and not holds:
                    asked = time.monotonic()
                    await self._places.acquire()
                    holds = True
                    begun += time.monotonic() - asked  # the wait is not the server's
                self._check_rate(response, len(data), time.monotonic() - begun)
            release: Release = self._places.release if holds else _nothing
            holds = False
            return bytes(data[:max_bytes]), release
        finally:
            if holds:
                self._places.release()

    def _check_rate(self, response: aiohttp.ClientResponse, count: int, seconds: float) -> None:
        if seconds > self._limits.idle and count < self._limits.min_rate * seconds:
            raise FetchError("timeout", f"{count:,} bytes in {seconds:.0f} s", response.status)


def _too_many(response: aiohttp.ClientResponse, max_bytes: int) -> FetchError:
    return FetchError("too_many_bytes", f"the limit is {max_bytes:,}", response.status)


def _nothing() -> None:
    """What a small body has to give back."""


class _CheckedResolver(AbstractResolver):
    """Another resolver, whose answer is refused as a whole if any number in it is."""

    def __init__(self, safety: SafetySettings, inner: AbstractResolver) -> None:
        self._safety = safety
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Numbers of a name. Raises OSError, as resolvers do."""
        found = await self._inner.resolve(host, port, family)
        for each in found:
            try:
                self._safety.check_dialled(each["host"])
            except FetchError as error:
                _refusals.get([]).append(error)
                raise OSError(f"{host}: {error.detail}") from None
        return found

    async def close(self) -> None:
        """Release what the other resolver holds."""
        await self._inner.close()


def _checked_response(safety: SafetySettings) -> type[aiohttp.ClientResponse]:
    """Responses that look once more at whom they come from before a byte is read."""
    known: set[str] = set()

    class CheckedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            peer: Sequence[Any] | None = connection.transport.get_extra_info("peername")
            if peer is not None and peer[0] not in known:
                safety.check_dialled(peer[0])
                known.add(peer[0])
            return await super().start(connection)

    return CheckedResponse


def _as_fetch_error(error: Exception) -> FetchError:
    """The error with a word of records.REASONS."""
    if isinstance(error, asyncio.TimeoutError):
        return FetchError("timeout", "no answer, or no further byte, in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return FetchError("server_error", f"what it sent is not HTTP: {error.message[:200]}")
    is_address = isinstance(error, aiohttp.InvalidURL) or not isinstance(
        error, aiohttp.ClientError | OSError
    )
    word = "bad_address" if is_address else "connection_failed"  # a bad certificate among these
    return FetchError(word, f"{type(error).__name__}: {error}"[:300])
