"""A page of nnst's own on this machine: served on loopback, to the person who started it alone.

Its address holds a secret, so that neither another page of the browser nor another user of the
machine can ask for anything. The secret is the same each time for the same person and work: a page
that is still open finds its server again when that was started anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web

from nnst.errors import ImageError, InputError, NnstError

HOST = "127.0.0.1"
SHUTDOWN_S = 30.0  # for what is being saved when ctrl-C comes
MOST_BYTES = 8 << 20  # of a request: the boxes of one picture
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address is the key
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# What a request leads to that the page would not send.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Site:
    """A page: its markup, style sheets and modules in nnst/pages, and what answers its requests."""

    title: str  # of the line that tells the address
    markup: str
    files: Sequence[str]
    routes: Sequence[tuple[str, str, Handler]]  # method, path below the key, handler
    key: str


def check_port(port: int) -> None:
    """Raises InputError when the port is taken or not allowed."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            what = f"port {port} cannot be used: {error.strerror}"
            raise InputError(what, "choose another one with --port") from None


def key_of(work: str) -> str:
    """The secret part of a page's address, for this person and this work."""
    return hmac.new(_secret(), work.encode(), hashlib.sha256).hexdigest()[:32]


def _secret() -> bytes:
    """This person's secret, made when it is first needed; one for now where none can be kept."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = Path(state, "nnst", "page-key")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "wb") as stream:
                stream.write(secrets.token_bytes(32))
        found = path.read_bytes()
        if len(found) == 32:
            return found
    return secrets.token_bytes(32)


def serve(site: Site, port: int) -> None:
    """Serve until ctrl-C or SIGTERM; the address goes to stderr. What is being saved is saved."""
    check_port(port)
    asyncio.run(_serve(site, port))


async def _serve(site: Site, port: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    runner = web.AppRunner(
        _application(site, port), access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=5
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        address = f"http://{HOST}:{port}/{site.key}/"
        print(f"{site.title}: {address} (ctrl-C ends it)", file=sys.stderr, flush=True)
        await ended.wait()
    finally:
        await runner.cleanup()


def _application(site: Site, port: int) -> web.Application:
    app = web.Application(middlewares=[_guard(site.key, port)], client_max_size=MOST_BYTES)
    app.router.add_get(f"/{site.key}/", _static(site.markup))
    for name in site.files:
        app.router.add_get(f"/{site.key}/static/{name}", _static(name))
    for method, path, handler in site.routes:
        app.router.add_route(method, f"/{site.key}/{path}", handler)
    return app


def _static(name: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        text = resources.files("nnst.pages").joinpath(name).read_text(encoding="utf-8")
        return web.Response(
            text=text, content_type=KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"}
        )

    return answer


def _guard(key: str, port: int) -> Any:
    """What every request passes: from this page, to this host, with the key."""
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}
    origins = {f"http://{host}" for host in hosts}

    def is_ours(request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        given = request.path.split("/")[1].encode()
        return (
            request.host in hosts  # else a name that was rebound to 127.0.0.1
            and (origin is None or origin in origins)
            and site in ("same-origin", "none")
            and hmac.compare_digest(given, key.encode())
        )

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_ours(request):
            return web.Response(status=403, text="not for you", headers=HEADERS)
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=error.reason)
        except ImageError as error:
            answer = told({"error": str(error), "reason": error.reason}, 422)
        except NnstError as error:
            answer = told({"error": str(error)}, 503)
        except _MALFORMED as error:
            answer = told({"error": f"bad request: {error}"}, 400)
        except OSError as error:  # a full disk
            answer = told({"error": str(error)}, 503)
        answer.headers.update(HEADERS)
        return answer

    return guard


def told(document: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.json_response(document, status=status, headers={"Cache-Control": "no-store"})


def picture(jpeg: bytes) -> web.Response:
    """A picture, kept by the browser for as long as a person looks around."""
    return web.Response(
        body=jpeg, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"}
    )
