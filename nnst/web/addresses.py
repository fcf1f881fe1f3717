"""Which addresses may be fetched from: how they are written, and which machine they lead to.

An address is brought to one spelling first, so that two spellings are one request and no later
reader of it can take its host for another. Where it leads is decided by the number that is dialled,
at the moment it is dialled (`SafetySettings.check_dialled`), never by a name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

import idna

from nnst.config import setting
from nnst.errors import FetchError

MAX_URL = 4096  # characters; longer ones are data, not addresses
DEFAULT_PORTS = {"http": 80, "https": 443}

_ALWAYS_REFUSED = frozenset(  # where clouds tell a machine its own secrets
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200"))
)
_REFUSED_NAMES = frozenset({"metadata.google.internal", "metadata.goog"})
_IPV4_IN_IPV6 = tuple(  # the last 32 bits are an IPv4 address
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\\\\\ud800-\udfff]")
_PATH_CHARACTERS = "/%:@!$&'()*+,;=-._~"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class SafetySettings:
    """Where requests may go."""

    networks: tuple[str, ...] = setting((), "private networks to fetch from, as 10.1.0.0/16")
    ports: tuple[int, ...] = setting((80, 443), "ports to fetch from")
    insecure: bool = setting(False, "whether to fetch from servers with a bad certificate")

    def __post_init__(self) -> None:
        for network in self.networks:
            ipaddress.ip_network(network)  # raises ValueError that names it
        if not all(0 < port < 65536 for port in self.ports):
            raise ValueError(f"ports must be from 1 to 65535, got {self.ports}")

    def check_dialled(self, host: str) -> None:
        """Raise FetchError unless a connection to this number may be made."""
        address = ipaddress.ip_address(host.partition("%")[0])
        found = unwrapped(address)
        if found in _ALWAYS_REFUSED or address in _ALWAYS_REFUSED:
            raise FetchError("private_address", f"{host} is a cloud's metadata service")
        if not is_public(address) and not self._is_allowed(address):
            raise FetchError("private_address", f"{host} is not a public address")

    def _is_allowed(self, address: Address) -> bool:
        networks = map(ipaddress.ip_network, self.networks)
        return any(
            network.version == address.version and address in network for network in networks
        )


EVERYWHERE = ("0.0.0.0/0", "::/0")
"""The networks of --allow-private."""


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to by mapping, translation or a tunnel."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _IPV4_IN_IPV6) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether the number is one of the open internet, whatever it is wrapped in."""
    found = unwrapped(address)
    if getattr(found, "is_site_local", False):
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved)


def canonical(url: str, ports: Sequence[int] = (80, 443)) -> str:
    """The one spelling of an http or https address; raises FetchError, `bad_address`.

    Scheme and host in small letters, IDNA, no default port, no dot segments, no fragment; the
    query stays as it is.
    """
    text = url.strip(" \t\r\n\f")
    if len(text) > MAX_URL:
        raise _bad(f"an address of {len(text):,} characters, the limit is {MAX_URL:,}")
    if _CONTROL.search(text):
        raise _bad("a control character, a backslash or no text in the address")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _bad(str(error)) from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise _bad(f"{scheme or 'no scheme'}: only http and https are fetched")
    if "@" in parts.netloc:
        raise _bad("the address holds a user name or password")
    host = _host(parts.hostname or "")
    port = DEFAULT_PORTS[scheme] if port is None else port
    if port not in ports:
        raise _bad(f"port {port} is not one of {', '.join(map(str, ports))}")
    netloc = f"[{host}]" if ":" in host else host
    if port != DEFAULT_PORTS[scheme]:
        netloc += f":{port}"
    path = quote(_without_dots(parts.path), safe=_PATH_CHARACTERS)
    query = quote(parts.query, safe=_PATH_CHARACTERS + "?")
    return urlunsplit((scheme, netloc, path, query, ""))


def host_of(url: str) -> str:
    """The host of a canonical address."""
    return urlsplit(url).hostname or ""


def origin_of(url: str) -> str:
    """Scheme, host and port of a canonical address: what robots.txt and TDMRep hold for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _bad(detail: str) -> FetchError:
    return FetchError("bad_address", detail)


def _host(host: str) -> str:
    """The host in one spelling: a name in ASCII, or an address as its own standard writes it."""
    if ":" in host and "%" not in host:  # a zone is this machine's own
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise _bad(f"{host!r} is no IPv6 address") from None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as error:
            raise _bad(f"{host!r} is no host name: {error}") from None
    host = host.removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise _bad(f"{host[:80]!r} is no host name")
    if host in _REFUSED_NAMES:
        raise FetchError("private_address", f"{host} is a cloud's metadata service")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):  # 127.1, 0x7f.1, 2130706433: tricks, all of them
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _bad(f"{host!r} is no IPv4 address in its usual spelling") from None
    return host


def _without_dots(path: str) -> str:
    """The path without `.` and `..` (RFC 3986, 5.2.4); `/` for none."""
    kept: list[str] = []
    parts = path.split("/")[1:] if path else [""]
    for part in parts:
        if part in ("..", "%2e%2e", "%2E%2E"):
            kept = kept[:-1]
        elif part not in (".", "%2e", "%2E"):
            kept.append(part)
    if parts[-1] in (".", "..") and (not kept or kept[-1]):
        kept.append("")
    return "/" + "/".join(kept)
