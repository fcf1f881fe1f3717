"""Fetching: nowhere inside, never too much, never too fast, and only where it is welcome."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import ipaddress
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nnst import __version__
from nnst.errors import FetchError
from nnst.web import (
    Fetched,
    Fetcher,
    Known,
    LimitSettings,
    PaceSettings,
    RespectSettings,
    SafetySettings,
    WebSettings,
    canonical,
)
from nnst.web.client import LARGE_AT_ONCE
from tests.local_web import NOT_FOUND, TRAP, LocalWeb, Reply, Request, Script, Site

SERVERS = ("127.0.1.0/24",)
QUICK = PaceSettings(rate=0, tries=2, backoff=0.01)
SHORT = LimitSettings(max_bytes=1 << 20, connect=2, idle=0.5, total=5)
CONTACT = "https://example.org/me"

Result = Fetched | FetchError


class Names(AbstractResolver):
    """A resolver of made-up names."""

    def __init__(self, names: dict[str, Sequence[str]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.names:
            raise OSError(f"no such name: {host}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.names[host]
        ]

    async def close(self) -> None:
        pass


class Turning(list[ResolveResult]):
    """Numbers that are others when they are looked at a second time."""

    def __init__(self, first: ResolveResult, then: ResolveResult) -> None:
        super().__init__([then])
        self.turns = [[first]]

    def __iter__(self) -> Iterator[ResolveResult]:
        return iter(self.turns.pop()) if self.turns else super().__iter__()


def settings(web: LocalWeb | None = None, **given: Any) -> WebSettings:
    ports = (80, 443, web.port) if web else (80, 443)
    safety = SafetySettings(networks=SERVERS, ports=ports)
    return WebSettings(
        **({"contact": CONTACT, "safety": safety, "pace": QUICK, "limits": SHORT} | given)
    )


def fetch_all(
    urls: Sequence[str], given: WebSettings, resolver: AbstractResolver | None = None
) -> list[Result]:
    """What becomes of the addresses, asked for all at once."""

    async def run() -> list[Result]:
        async with Fetcher(given, resolver) as fetcher:
            return list(await asyncio.gather(*(one(fetcher, url) for url in urls)))

    async def one(fetcher: Fetcher, url: str) -> Result:
        try:
            return await fetcher.fetch(canonical(url, given.safety.ports))
        except FetchError as error:
            return error

    return asyncio.run(run())


def fetch(url: str, given: WebSettings, resolver: AbstractResolver | None = None) -> Result:
    return fetch_all([url], given, resolver)[0]


def reason(result: Result) -> str:
    return result.reason if isinstance(result, FetchError) else "ok"


def serving(pages: dict[str, Reply | Script]) -> Site:
    return lambda request: pages.get(request.path, NOT_FOUND)


# --- Nowhere inside

NAMES: dict[str, Sequence[str]] = {
    "localhost": [TRAP, "::1"],
    "inside.example": ["10.0.0.5"],
    "trap.example": [TRAP],
    "mixed.example": ["127.0.1.1", TRAP],
    "metadata.example": ["169.254.169.254"],
    "six.example": ["::1"],
    "mapped.example": [f"::ffff:{TRAP}"],
}


def hostile(port: int) -> list[str]:
    """Every way to write an address inside that we know, and what else does no good."""
    written = [
        f"http://127.0.0.1:{port}/",
        f"http://127.1:{port}/",
        f"http://2130706433:{port}/",
        f"http://0x7f000001:{port}/",
        f"http://0177.0.0.1:{port}/",
        f"http://0x7f.1:{port}/",
        f"http://017700000001:{port}/",
        f"http://127.0.0.1.:{port}/",
        f"http://[::1]:{port}/",
        f"http://[0:0:0:0:0:0:0:1]:{port}/",
        f"http://[::ffff:127.0.0.1]:{port}/",
        f"http://[::ffff:7f00:1]:{port}/",
        f"http://[::127.0.0.1]:{port}/",
        f"http://[::ffff:0:127.0.0.1]:{port}/",
        f"http://[2002:7f00:1::]:{port}/",
        f"http://[64:ff9b::7f00:1]:{port}/",
        f"http://[64:ff9b:1::7f00:1]:{port}/",
        f"http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{port}/",
        f"http://[fe80::1%25lo]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
        "http://100.64.0.1/",
        "http://100.100.100.200/",
        f"http://0.0.0.0:{port}/",
        f"http://0:{port}/",
        f"http://localhost:{port}/",
        f"http://localhost.:{port}/",
        f"http://LOCALHOST:{port}/",
        f"http://inside.example:{port}/",
        f"http://trap.example:{port}/",
        f"http://mixed.example:{port}/",
        f"http://six.example:{port}/",
        f"http://mapped.example:{port}/",
        "http://metadata.example/",
        "file:///etc/passwd",
        f"ftp://127.0.0.1:{port}/",
        f"gopher://127.0.0.1:{port}/",
        "data:image/png;base64,AAAA",
        f"http://user:pass@127.0.0.1:{port}/",
        f"http://127.0.1.1:{port}@127.0.0.1:{port}/",
        "http://127.0.1.1:22/",
        f"http://127.0.1.1:{port}\\@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@127.0.1.1:{port}/",
        f"http://127.0.0.1:{port}?@127.0.1.1:{port}/",
        f"http://127.0.\t0.1:{port}/",
        f"http://127.0.0.1\n:{port}/",
        f"http://①②⑦.0.0.1:{port}/",  # letters that IDNA turns into 127
        f"http://127。0。0。1:{port}/",
        f"http://%31%32%37.0.0.1:{port}/",
        f"http:127.0.0.1:{port}/",
        f"http:///127.0.0.1:{port}/",
    ]
    return written


def test_no_way_of_writing_it_leads_to_an_address_inside() -> None:
    with LocalWeb(serving({})) as web:
        urls = hostile(web.port)
        assert len(urls) >= 40
        found = fetch_all(urls, settings(web), Names(NAMES))
        assert {reason(each) for each in found} <= {"bad_address", "private_address"}
        assert web.trapped == []
        assert web.log == []


def test_the_trap_would_have_caught_it() -> None:
    """Else the test above, and those below, would prove nothing."""
    with LocalWeb(serving({})) as web:
        safety = SafetySettings(networks=("127.0.0.0/8",), ports=(web.port,))
        fetch_all(hostile(web.port), settings(web, safety=safety), Names(NAMES))
        assert len(web.trapped) >= 3


def test_no_redirect_leads_to_an_address_inside() -> None:
    pages: dict[str, Reply | Script] = {}
    with LocalWeb(serving(pages)) as web:
        targets = [url for url in hostile(web.port) if "\n" not in url and "\t" not in url]
        targets += ["//127.0.0.1/", "http:\\\\127.0.0.1\\", "javascript:alert(1)"]
        for number, target in enumerate(targets):
            pages[f"/{number}"] = Reply(code=302, headers={"Location": target})
            pages[f"/far/{number}"] = Reply(code=301, headers={"Location": f"/{number}"})
        urls = [web.url(path) for path in pages]
        found = fetch_all(urls, settings(web), Names(NAMES))
        assert {reason(each) for each in found} <= {"bad_redirect", "private_address", "not_found"}
        relative = [
            url for url, each in zip(urls, found, strict=True) if reason(each) == "not_found"
        ]
        # `http:127...` and `http:///127...`, each twice: paths of the same host to urljoin
        assert len(relative) <= 4
        assert web.trapped == []


def test_the_address_that_is_dialled_is_the_one_that_counts() -> None:
    """A name that leads elsewhere the moment after it was checked."""

    class Rebinding(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            good = await super().resolve(host, port, family)
            return Turning(good[0], ResolveResult(**{**good[0], "host": TRAP}))  # type: ignore[typeddict-item]

    with LocalWeb(serving({})) as web:
        names = Rebinding({"turns.example": ["127.0.1.1"]})
        found = fetch(f"http://turns.example:{web.port}/", settings(web), names)
        assert names.asked
        assert reason(found) == "private_address"
        assert web.trapped == []
        safety = SafetySettings(networks=("127.0.0.0/8",), ports=(web.port,))
        fetch(f"http://turns.example:{web.port}/", settings(web, safety=safety), names)
        assert web.trapped  # it was dialled where that is allowed


def test_a_name_may_lead_to_a_server_that_is_allowed() -> None:
    with LocalWeb(serving({"/a": Reply(b"bytes")})) as web:
        found = fetch(
            f"http://Good.Example:{web.port}/a",
            settings(web),
            Names({"good.example": ["127.0.1.1"]}),
        )
        assert isinstance(found, Fetched)
        assert found.data == b"bytes"
        assert web.asked()[0].headers["host"] == f"good.example:{web.port}"


def test_nothing_of_this_machine_travels_along(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalWeb(serving({"/a": Reply(b"x", headers={"Set-Cookie": "id=1; Path=/"})})) as web:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{TRAP}:{web.port}")
        given = settings(web)

        async def run() -> None:
            async with Fetcher(given) as fetcher:
                for _ in range(2):
                    await fetcher.fetch(web.url("/a"))

        asyncio.run(run())
        assert web.trapped == []
        for request in web.asked():
            assert not {"cookie", "authorization", "referer"} & set(request.headers)
            assert request.headers["user-agent"] == f"nnst/{__version__} (+{CONTACT})"
            assert request.headers["accept-encoding"] == "identity"


# --- Redirects


def test_redirects_are_followed_and_counted() -> None:
    pages: dict[str, Reply | Script] = {
        f"/{n}": Reply(code=302, headers={"Location": f"/{n - 1}"}) for n in range(1, 8)
    }
    pages |= {
        "/0": Reply(b"there"),
        "/loop": Reply(code=307, headers={"Location": "/loop"}),
        "/nowhere": Reply(code=300),
        "/empty": Reply(code=301),
        "/spaces": Reply(code=301, headers={"Location": "  /a b  "}),
        "/a%20b": Reply(b"spaced"),
        "/5xx": Reply(code=301, headers={"Location": "/broken"}),
        "/broken": Reply(code=500),
    }
    with LocalWeb(serving(pages)) as web:
        given = settings(web)
        found = fetch(web.url("/5"), given)
        assert isinstance(found, Fetched)
        assert (found.data, found.url) == (b"there", web.url("/0"))
        spaced = fetch(web.url("/spaces"), given)
        assert isinstance(spaced, Fetched)
        assert spaced.data == b"spaced"
        for path, expected in {
            "/6": "bad_redirect",
            "/loop": "bad_redirect",
            "/nowhere": "bad_redirect",
            "/empty": "bad_redirect",
            "/5xx": "server_error",
        }.items():
            assert reason(fetch(web.url(path), given)) == expected
        assert len(web.asked("/loop")) == 6


# --- Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """That of a server for 127.0.1.1 and 127.0.1.2, signed by itself."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    hosts = [x509.IPAddress(ipaddress.ip_address(f"127.0.1.{number}")) for number in (1, 2)]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    path.write_bytes(private + signed.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_that_is_set(
    certificate: ssl.SSLContext,
) -> None:
    with LocalWeb(serving({"/a": Reply(b"x")}), certificate=certificate) as web:
        found = fetch(web.url("/a"), settings(web))
        assert isinstance(found, FetchError)
        assert found.reason == "connection_failed"
        assert "certificate" in found.detail.lower()
        assert web.log == []
        safety = SafetySettings(networks=SERVERS, ports=(web.port,), insecure=True)
        assert reason(fetch(web.url("/a"), settings(web, safety=safety))) == "ok"


def test_a_redirect_from_https_to_http_is_refused(certificate: ssl.SSLContext) -> None:
    pages: dict[str, Reply | Script] = {"/b": Reply(b"x")}
    with LocalWeb(serving(pages), hosts=2, certificate=certificate) as web:
        plain = web.url("/b").replace("https:", "http:")
        pages["/down"] = Reply(code=301, headers={"Location": plain})
        pages["/along"] = Reply(code=301, headers={"Location": web.url("/b", 2)})
        safety = SafetySettings(networks=SERVERS, ports=(web.port,), insecure=True)
        given = settings(web, safety=safety)
        found = fetch_all([web.url("/down"), web.url("/along")], given)
        assert [reason(each) for each in found] == ["bad_redirect", "ok"]
        assert "from https to http" in str(found[0])


# --- Never too much


async def endless(writer: Any) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()


def dripping(seconds: float) -> Script:
    async def drip(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(seconds)

    return drip


def saying(data: bytes) -> Script:
    async def say(writer: Any) -> None:
        writer.write(data)
        await writer.drain()

    return say


async def silent(writer: Any) -> None:
    await asyncio.sleep(30)


ODD: dict[str, tuple[Reply | Script, str]] = {
    "endless": (endless, "too_many_bytes"),
    "one byte now and then": (dripping(0.2), "timeout"),
    "silent": (silent, "timeout"),
    "claims too much": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"),
        "too_many_bytes",
    ),
    "sends less than it claims": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nx"),
        "connection_failed",
    ),
    "hangs up": (saying(b""), "connection_failed"),
    "no HTTP": (saying(b"220 ftp.example.org ready\r\n\r\n"), "server_error"),
    "2,000 headers": (
        saying(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 2000 + b"Content-Length: 1\r\n\r\nx"),
        "",
    ),
    "a header of 1 MB": (
        saying(b"HTTP/1.1 200 OK\r\na: " + b"b" * (1 << 20) + b"\r\n\r\n"),
        "server_error",
    ),
    "an endless header": (saying(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500_000), ""),
    "chunks of nonsense": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"),
        "server_error",
    ),
    "two lengths": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
        "",
    ),
    "a negative length": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nxy"),
        "server_error",
    ),
    "a header that is no text": (
        saying(b"HTTP/1.1 200 OK\r\nETag: \xff\xfe\r\nContent-Length: 1\r\n\r\nx"),
        "",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_server_costs_little_time_and_memory(kind: str) -> None:
    reply, expected = ODD[kind]
    robots = {"/robots.txt": NOT_FOUND, "/.well-known/tdmrep.json": NOT_FOUND}
    with LocalWeb(serving({**robots, "/a": reply})) as web:
        tracemalloc.start()
        begun = time.monotonic()
        found = fetch(web.url("/a"), settings(web))
        seconds, peak = time.monotonic() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < 12
    assert peak < 16 << 20
    assert not expected or reason(found) == expected, found


def test_a_slow_server_is_left_when_the_time_for_a_request_is_over() -> None:
    """Fast enough for the least rate, and still without an end."""

    async def trickle(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(1000))
            await writer.drain()
            await asyncio.sleep(0.1)

    limits = LimitSettings(idle=0.5, total=1.5)
    pace = PaceSettings(rate=0, tries=1)
    with LocalWeb(serving({"/a": trickle})) as web:
        begun = time.monotonic()
        assert reason(fetch(web.url("/a"), settings(web, limits=limits, pace=pace))) == "timeout"
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("sized", [True, False])
def test_of_large_bodies_only_a_few_are_held_at_a_time(sized: bool) -> None:
    body = bytes(3 << 20)

    async def unsized(writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        await writer.drain()

    count = LARGE_AT_ONCE + 5
    limits = LimitSettings(max_bytes=4 << 20)
    with LocalWeb(serving({"/a": Reply(body) if sized else unsized}), hosts=count) as web:

        async def run() -> None:
            async with Fetcher(settings(web, limits=limits)) as fetcher:
                urls = [web.url("/a", 1 + number) for number in range(count)]
                tasks = {asyncio.create_task(fetcher.fetch(url)) for url in urls}
                while sum(task.done() for task in tasks) < LARGE_AT_ONCE:
                    await asyncio.sleep(0.02)
                done = {task for task in tasks if task.done()}
                tasks -= done
                await asyncio.sleep(0.5)
                assert not any(task.done() for task in tasks)
                for task in done:
                    task.result().release()
                rest = await asyncio.gather(*tasks)
                assert [len(found.data) for found in rest] == [len(body)] * 5

        asyncio.run(run())


def test_a_large_body_that_may_not_be_used_gives_its_place_back() -> None:
    count = 2 * LARGE_AT_ONCE
    pages: dict[str, Reply | Script] = {
        "/no": Reply(bytes(3 << 20), headers={"X-Robots-Tag": "noai"}),
        "/more": Reply(bytes(5 << 20)),
        "/a": Reply(bytes(3 << 20)),
    }
    limits = LimitSettings(max_bytes=4 << 20)
    with LocalWeb(serving(pages)) as web:
        urls = [web.url(path) for path in (*["/no", "/more"] * count, "/a")]
        found = [reason(each) for each in fetch_all(urls, settings(web, limits=limits))]
        assert found == [*["opted_out", "too_many_bytes"] * count, "ok"]


def test_a_body_without_end_is_held_to_its_limit_in_memory_too() -> None:
    """With the limits as they are, not those of the tests."""
    with LocalWeb(serving({"/a": endless})) as web:
        tracemalloc.start()
        found = fetch(web.url("/a"), settings(web, limits=LimitSettings()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert reason(found) == "too_many_bytes"
    assert peak < 40 << 20


def test_what_comes_packed_stays_packed() -> None:
    bomb = gzip.compress(bytes(50 << 20))
    headers = {"Content-Encoding": "gzip"}
    with LocalWeb(serving({"/a": Reply(bomb, headers=headers)})) as web:
        found = fetch(web.url("/a"), settings(web))
        assert isinstance(found, Fetched)
        assert found.data == bomb


def test_codes_are_told_apart() -> None:
    pages: dict[str, Reply | Script] = {f"/{code}": Reply(b"", code) for code in range(201, 600)}
    codes = {404: "not_found", 410: "not_found", 401: "refused", 403: "refused", 451: "refused"}
    codes |= {
        204: "refused",
        206: "refused",
        429: "rate_limited",
        500: "server_error",
        503: "server_error",
    }
    pace = PaceSettings(rate=0, tries=1, failures=100)
    with LocalWeb(serving(pages)) as web:
        given = settings(web, pace=pace, limits=LimitSettings())
        found = fetch_all([web.url(f"/{code}") for code in codes], given)
        assert [reason(each) for each in found] == list(codes.values())
        assert [each.code for each in found if isinstance(each, FetchError)] == list(codes)


# --- Never too fast


def test_a_host_never_has_more_connections_than_it_is_allowed() -> None:
    pages: dict[str, Reply | Script] = {f"/{n}": Reply(b"x", seconds=0.02) for n in range(30)}
    for allowed in (1, 2):
        with LocalWeb(serving(pages), hosts=2) as web:
            urls = [web.url(path, host) for path in pages for host in (1, 2)]
            pace = PaceSettings(rate=0, connections=allowed)
            assert {reason(each) for each in fetch_all(urls, settings(web, pace=pace))} == {"ok"}
            assert max(request.connections for request in web.log) == allowed


def test_a_host_is_asked_so_many_times_a_second_and_others_meanwhile() -> None:
    pages: dict[str, Reply | Script] = {f"/{n}": Reply(b"x") for n in range(5)}
    with LocalWeb(serving(pages), hosts=3) as web:
        urls = [web.url(path, host) for path in pages for host in (1, 2, 3)]
        fetch_all(urls, settings(web, pace=PaceSettings(rate=10, in_flight=1)))
        times = {
            host: [request.begun for request in web.log if request.host == host]
            for host in web.hosts
        }
        for each in times.values():
            assert len(each) == 7  # with the two files of rules
            assert each[-1] - each[0] > 0.5
        # Not one after the other, although only one request is in flight at a time.
        firsts, lasts = ([each[at] for each in times.values()] for at in (0, -1))
        assert max(firsts) < min(lasts)


def test_a_crawl_delay_slows_a_host_down() -> None:
    pages: dict[str, Reply | Script] = {f"/{n}": Reply(b"x") for n in range(3)}
    pages["/robots.txt"] = Reply(b"User-agent: *\nCrawl-delay: 0.6\n")
    with LocalWeb(serving(pages)) as web:
        fetch_all([web.url(f"/{n}") for n in range(3)], settings(web))
        times = [request.begun for request in web.asked()]
        assert times[-1] - times[0] > 1.0  # the first may be noticed late


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_a_retry_after_is_waited_for(code: int, as_date: bool) -> None:
    def site(request: Request) -> Reply:
        if request.path != "/a" or len(web.asked("/a")) > 1:
            return Reply(b"x") if request.path in ("/a", "/b") else NOT_FOUND
        wait = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
        return Reply(b"", code, {"Retry-After": wait})

    with LocalWeb(site) as web:
        assert {
            reason(each) for each in fetch_all([web.url("/a"), web.url("/b")], settings(web))
        } == {"ok"}
        first, second = web.asked("/a")
        assert second.begun - first.begun > 0.9


def test_a_host_that_asks_for_too_long_a_wait_is_given_up() -> None:
    pages: dict[str, Reply | Script] = {"/a": Reply(b"", 429, {"Retry-After": "86400"})}
    with LocalWeb(serving(pages)) as web:
        begun = time.monotonic()

        async def run() -> list[str]:
            reasons = []
            pace = PaceSettings(rate=0, max_wait=900)
            async with Fetcher(settings(web, pace=pace)) as fetcher:
                for path in ("/a", "/b"):
                    try:
                        await asyncio.wait_for(fetcher.fetch(web.url(path)), 30)
                    except FetchError as error:
                        reasons.append(error.reason)
            return reasons

        assert asyncio.run(run()) == ["host_down", "host_down"]
        assert time.monotonic() - begun < 25
        assert len(web.asked()) == 1


def test_a_server_that_fails_is_asked_again_and_no_more_often_than_that() -> None:
    def site(request: Request) -> Reply:
        count = len(web.asked(request.path))
        if request.path == "/twice":
            return Reply(b"x") if count > 2 else Reply(b"", 503)
        return Reply(b"", 500) if request.path == "/never" else NOT_FOUND

    with LocalWeb(site) as web:
        given = settings(web, pace=PaceSettings(rate=0, tries=3, backoff=0.05))
        assert reason(fetch(web.url("/twice"), given)) == "ok"
        assert reason(fetch(web.url("/never"), given)) == "server_error"
        assert reason(fetch(web.url("/gone"), given)) == "not_found"
        counts = {path: len(web.asked(path)) for path in ("/twice", "/never", "/gone")}
        assert counts == {"/twice": 3, "/never": 3, "/gone": 1}
        first, second, third = (request.begun for request in web.asked("/never"))
        assert second - first > 0.025
        assert third - second > 0.05


def test_a_host_is_given_up_after_so_many_failures_in_a_row() -> None:
    def site(request: Request) -> Reply:
        return NOT_FOUND if "robots" in request.path or "tdm" in request.path else Reply(b"", 500)

    with LocalWeb(site, hosts=2) as web:
        pace = PaceSettings(rate=0, tries=1, failures=10)
        urls = [web.url(f"/{n}") for n in range(40)]
        given = settings(web, pace=pace, limits=LimitSettings())
        found = [reason(each) for each in fetch_all(urls, given)]
        assert found.count("server_error") + found.count("host_down") == 40
        assert 10 <= len(web.asked()) <= 10 + pace.connections
        assert found.count("host_down") >= 28


def test_one_answer_in_between_and_a_host_is_not_given_up() -> None:
    def site(request: Request) -> Reply:
        if not request.path[1:].isdecimal():
            return NOT_FOUND
        return Reply(b"x") if int(request.path[1:]) % 5 == 0 else Reply(b"", 500)

    with LocalWeb(site) as web:
        pace = PaceSettings(rate=0, tries=1, failures=10, connections=1)
        fetch_all([web.url(f"/{n}") for n in range(40)], settings(web, pace=pace))
        assert len(web.asked()) == 40


def test_a_host_that_is_not_there_is_asked_little() -> None:
    names = Names({})
    urls = [f"http://gone.example/{n}" for n in range(20)]
    found = fetch_all(urls, settings(), names)
    assert {reason(each) for each in found} <= {"connection_failed", "host_down"}
    assert len(names.asked) <= 2


# --- Only where it is welcome


def test_robots_txt_is_asked_once_a_host_and_followed_behind_redirects() -> None:
    pages: dict[str, Reply | Script] = {
        "/robots.txt": Reply(b"User-agent: nnst\nDisallow: /private\n"),
        "/a": Reply(b"x"),
        "/private": Reply(b"secret"),
        "/open": Reply(code=302, headers={"Location": "/private"}),
    }
    with LocalWeb(serving(pages)) as web:
        urls = [web.url(path) for path in ("/a", "/private", "/open")]
        found = [reason(each) for each in fetch_all(urls, settings(web))]
        assert found == ["ok", "robots_disallowed", "robots_disallowed"]
        assert len(web.asked("/robots.txt")) == 1
        assert not web.asked("/private")
        respect = RespectSettings(robots=False)
        assert reason(fetch(web.url("/private"), settings(web, respect=respect))) == "ok"


@pytest.mark.parametrize(
    ("robots", "expected"),
    [
        (NOT_FOUND, "ok"),
        (Reply(b"", 403), "ok"),
        (Reply(b"", 500), "robots_unreadable"),
        (Reply(b"", 429), "robots_unreadable"),
        (Reply(b"#" * 600_000 + b"\nUser-agent: *\nDisallow: /\n"), "ok"),  # beyond what is read
        (Reply(b"User-agent: *\nDisallow: /\n" + b"#" * 600_000), "robots_disallowed"),
        (Reply(code=301, headers={"Location": "/rules"}), "robots_disallowed"),
        (Reply(code=301, headers={"Location": "ftp://x/"}), "robots_unreadable"),
        (saying(b""), "connection_failed"),
    ],
)
def test_what_robots_txt_answers_decides(robots: Reply | Script, expected: str) -> None:
    pages = {
        "/robots.txt": robots,
        "/a": Reply(b"x"),
        "/rules": Reply(b"User-agent: *\nDisallow: /a\n"),
    }
    with LocalWeb(serving(pages)) as web:
        assert reason(fetch(web.url("/a"), settings(web))) == expected
        assert bool(web.asked("/a")) is (expected == "ok")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Robots-Tag": "noai"}, "opted_out"),
        ({"X-Robots-Tag": "otherbot: noai"}, "ok"),
        ({"X-Robots-Tag": "nnst: noimageindex"}, "opted_out"),
        ({"tdm-reservation": "1"}, "opted_out"),
        ({"tdm-reservation": "0"}, "ok"),
    ],
)
def test_headers_that_say_no_are_followed(headers: dict[str, str], expected: str) -> None:
    with LocalWeb(serving({"/a": Reply(b"x", headers=headers)})) as web:
        assert reason(fetch(web.url("/a"), settings(web))) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Reply(b'[{"location": "/a", "tdm-reservation": 1}]'), "opted_out"),
        (Reply(b'[{"location": "/b", "tdm-reservation": 1}]'), "ok"),
        (Reply(b"{nonsense"), "opted_out"),
        (Reply(b"<html>home", headers={"Content-Type": "text/html"}), "ok"),
        (Reply(b"", 500), "ok"),
    ],
)
def test_a_tdmrep_file_is_followed(rules: Reply, expected: str) -> None:
    pages: dict[str, Reply | Script] = {"/.well-known/tdmrep.json": rules, "/a": Reply(b"x")}
    with LocalWeb(serving(pages)) as web:
        assert reason(fetch(web.url("/a"), settings(web))) == expected
        assert bool(web.asked("/a")) is (expected == "ok")
        respect = RespectSettings(tdmrep=False)
        assert reason(fetch(web.url("/a"), settings(web, respect=respect))) == "ok"


def test_what_is_known_is_asked_for_only_if_it_has_changed() -> None:
    def site(request: Request) -> Reply:
        if request.path != "/a":
            return NOT_FOUND
        if request.headers.get("if-none-match") == '"1"':
            return Reply(b"", 304)
        return Reply(b"x", headers={"ETag": '"1"', "Last-Modified": "yesterday"})

    with LocalWeb(site) as web:

        async def run() -> tuple[Fetched, Fetched]:
            async with Fetcher(settings(web)) as fetcher:
                first = await fetcher.fetch(web.url("/a"))
                known = Known(first.etag, first.last_modified)
                return first, await fetcher.fetch(web.url("/a"), known)

        first, second = asyncio.run(run())
        assert (first.data, first.unchanged) == (b"x", False)
        assert (second.data, second.unchanged) == (b"", True)
        assert web.asked()[1].headers["if-modified-since"] == "yesterday"


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaceSettings(connections=0),
        lambda: PaceSettings(rate=-1),
        lambda: LimitSettings(max_bytes=0),
        lambda: LimitSettings(total=0),
        lambda: LimitSettings(redirects=-1),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
