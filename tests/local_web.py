"""A small web on loopback addresses for the tests of nnst collect, which writes down who asks what.

`LocalWeb` serves many hosts (127.0.1.1, 127.0.1.2, ...) on one port, from a thread. 127.0.0.1 is a
trap on the same port: nothing may ever connect to it. A site is a function from a request to a
reply, or to a script that writes to the connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

TRAP = "127.0.0.1"
SETTLE_S = 0.2
_ESTABLISHED = 1  # of the states of TCP_INFO: no end has closed it
REASONS = {200: "OK", 301: "Moved", 302: "Found", 304: "Not Modified", 404: "Not Found"}


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    host: str  # the address that was dialled
    path: str
    headers: Mapping[str, str]  # names in small letters
    begun: float
    connections: int  # of this host that are open, this one included
    port: int = 0  # from which it came


@dataclass(frozen=True)
class Reply:
    """What a site says."""

    body: bytes = b""
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # before it says so


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
Site = Callable[[Request], Reply | Script]

NOT_FOUND = Reply(b"no such thing", 404)


class LocalWeb:
    """The servers; a context manager."""

    def __init__(
        self, site: Site, hosts: int = 1, certificate: ssl.SSLContext | None = None
    ) -> None:
        self.site = site
        self.certificate = certificate
        self.hosts = [f"127.0.1.{number}" for number in range(1, hosts + 1)]
        self.log: list[Request] = []
        self.trapped: list[str] = []
        self.port = 0
        self._open: dict[str, set[asyncio.StreamWriter]] = {host: set() for host in self.hosts}
        self._most: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> LocalWeb:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def url(self, path: str, host: int = 1) -> str:
        """The address of a path on a host."""
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.1.{host}:{self.port}{path}"

    def asked(self, path: str | None = None) -> list[Request]:
        """What was asked for, of a path alone or of all but the rules of hosts."""
        rules = ("/robots.txt", "/.well-known/tdmrep.json")
        found = list(self.log)
        if path is not None:
            return [request for request in found if request.path == path]
        return [request for request in found if request.path not in rules]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _listen(self) -> None:
        trap = await asyncio.start_server(self._trap, TRAP, 0)
        self.port = trap.sockets[0].getsockname()[1]
        self._servers = [trap]
        for host in self.hosts:
            server = await asyncio.start_server(self._talk, host, self.port, ssl=self.certificate)
            self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    async def _trap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.trapped.append(str(writer.get_extra_info("peername")))
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        mine = self._open[host]
        mine.add(writer)
        try:
            while request := await self._read(host, reader):
                request = replace(request, port=writer.get_extra_info("peername")[1])
                self.log.append(request)
                if not await self._answer(request, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            mine.discard(writer)
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _read(self, host: str, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        begun = time.monotonic()
        return Request(host, first.split(" ")[1], headers, begun, await self._connections(host))

    async def _connections(self, host: str) -> int:
        """How many are open. One more than there ever were have to be so a moment later too: on a
        busy machine the end of one may arrive behind the beginning of the next."""
        found = [writer for writer in self._open[host] if not _is_closed(writer)]
        if len(found) > max(1, self._most[host]):
            await asyncio.sleep(SETTLE_S)
            found = [writer for writer in found if not _is_closed(writer)]
            self._most[host] = max(self._most[host], len(found))
        return len(found)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Say what the site says; whether the connection stays open."""
        reply = self.site(request)
        if not isinstance(reply, Reply):
            await reply(writer)
            return False
        if reply.seconds:
            await asyncio.sleep(reply.seconds)
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {reply.code} {REASONS.get(reply.code, 'Other')}\r\n{lines}\r\n"
        writer.write(head.encode("utf-8", "surrogateescape") + reply.body)
        await writer.drain()
        return True


def _is_closed(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end has closed the connection, even if this loop has not noticed yet, or
    not even read what was sent before."""
    if writer.is_closing():
        return True
    connection = writer.get_extra_info("socket")
    return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED)
