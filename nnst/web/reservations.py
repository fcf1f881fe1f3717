"""What the owner of a picture asks for beside robots.txt: X-Robots-Tag, meta robots, TDMRep.

What cannot be understood counts as a no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from nnst.config import setting
from nnst.errors import FetchError
from nnst.web.robots import AGENT

TDMREP_PATH = "/.well-known/tdmrep.json"  # W3C's TDM Reservation Protocol, 2024
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex", "noml")
MAX_RULES = 10_000

_WITH_VALUE = frozenset(  # directives, not agents, although a colon follows
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_WORD = re.compile(r"[a-z0-9_.*/ -]{1,100}")


@dataclass(frozen=True, slots=True)
class RespectSettings:
    """Which wishes are followed. To ignore one is for your own servers alone."""

    robots: bool = setting(True, "whether robots.txt is followed")
    headers: bool = setting(True, "whether X-Robots-Tag and meta robots are followed")
    tdmrep: bool = setting(True, "whether TDMRep reservations are followed")
    directives: tuple[str, ...] = setting(DIRECTIVES, "directives that mean: do not collect this")

    def check_tags(self, values: Iterable[str]) -> None:
        """Raise FetchError if a value of X-Robots-Tag, or of a meta tag, says no to nnst."""
        for value in values if self.headers else ():
            for directive in directives_for(value, AGENT):
                if directive is None:
                    raise FetchError("opted_out", f"not understood, so taken for a no: {value!r}")
                # `none` is short for noindex, nofollow
                if directive in self.directives or directive == "none":
                    raise FetchError("opted_out", f"X-Robots-Tag or meta robots says {directive}")

    def check_reserved(self, values: Sequence[str]) -> None:
        """Raise FetchError if a tdm-reservation header reserves the picture."""
        if self.tdmrep and any(value.strip() not in ("", "0") for value in values):
            raise FetchError("opted_out", "its tdm-reservation header reserves it")


def directives_for(value: str, agent: str) -> Iterator[str | None]:
    """The directives of one value that hold for the agent; None for what is not understood.

    `noindex, otherbot: noai, nofollow` has `noindex` for all; what follows an agent's name is for
    that agent.
    """
    ours = True
    for item in value.lower().split(","):
        name, colon, rest = (part.strip() for part in item.partition(":"))
        if not item.strip():
            continue
        if colon and name not in _WITH_VALUE:
            if not _WORD.fullmatch(name):
                yield None
            ours = name in (agent, "*") or name.startswith(f"{agent}/")
            name = rest
        if ours and not _WORD.fullmatch(name):
            yield None
        elif ours:
            yield name


@dataclass(frozen=True, slots=True)
class Reservations:
    """The rules of a tdmrep.json: patterns of paths, as in robots.txt, that are reserved."""

    patterns: tuple[re.Pattern[str], ...] = ()

    def check(self, url: str) -> None:
        """Raise FetchError if any rule reserves the address, whichever else does not."""
        parts = urlsplit(url)
        path = unquote(parts.path + (f"?{parts.query}" if parts.query else ""))
        if any(pattern.match(path) for pattern in self.patterns):
            raise FetchError("opted_out", "the site's tdmrep.json reserves it")


EVERYTHING = Reservations((re.compile(""),))


def reservations_of(body: bytes) -> Reservations:
    """The rules in a tdmrep.json. One that is not understood reserves everything."""
    try:
        rules = json.loads(body)
        patterns = [_pattern(rule["location"]) for rule in rules[:MAX_RULES] if _reserves(rule)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return EVERYTHING
    return Reservations(tuple(patterns))


def _reserves(rule: Any) -> bool:
    return str(rule["tdm-reservation"]).strip() != "0"


def _pattern(location: str) -> re.Pattern[str]:
    """A path with `*` for anything and `$` for the end; more stars than a few mean anything."""
    if not isinstance(location, str) or not location.startswith(("/", "*")):
        raise ValueError(location)
    text, end = location.removesuffix("$"), location.endswith("$")
    pieces = [re.escape(unquote(piece)) for piece in re.split(r"\*+", text)]
    if len(pieces) > 5:  # no site needs them, and each multiplies the time of a match
        return re.compile(pieces[0])
    return re.compile(".*".join(pieces) + ("$" if end else ""), re.DOTALL)
