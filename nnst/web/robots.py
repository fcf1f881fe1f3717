"""robots.txt of a host: what it lets nnst fetch, and how fast (RFC 9309)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protego import Protego

from nnst.errors import FetchError

AGENT = "nnst"  # the name that robots.txt, X-Robots-Tag and meta tags know us by
MAX_BYTES = 500 * 1024  # what is read of a longer one; RFC 9309, 2.5
MAX_DELAY = 60.0  # seconds between requests, at most, that a Crawl-delay can ask for


@dataclass(frozen=True, slots=True)
class Rules:
    """What a robots.txt says. Without a parsed file, `readable` decides for every address."""

    readable: bool = True
    parsed: Any = None  # Protego

    def check(self, url: str) -> None:
        """Raise FetchError unless the address may be fetched."""
        if not self.readable:
            raise FetchError("robots_unreadable", "the server fails to give its robots.txt")
        if self.parsed is not None and not self.parsed.can_fetch(url, AGENT):
            raise FetchError("robots_disallowed", "robots.txt disallows it")

    @property
    def delay(self) -> float:
        """Seconds between requests that it asks for; 0 if it does not."""
        asked = self.parsed.crawl_delay(AGENT) if self.parsed is not None else None
        return min(float(asked or 0), MAX_DELAY)


def rules_of(code: int | None, body: bytes) -> Rules:
    """The rules in an answer; `code` is None where none came.

    No such file, or none for us (4xx), allows everything; a server that fails allows nothing.
    """
    if code is not None and 200 <= code < 300:
        text = body[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
        return Rules(parsed=Protego.parse(text))
    return Rules(readable=code is not None and 400 <= code < 500 and code != 429)
