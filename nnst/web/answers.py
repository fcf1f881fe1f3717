"""What a server's answer comes to: bytes, or the reason why there are none."""

from __future__ import annotations

import email.utils
import time
import zlib
from dataclasses import dataclass

from nnst.errors import FetchError
from nnst.web.client import Answer, Release


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier answer said that lets a server answer with 'not modified'."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """The conditional headers."""
        said = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an address; none where they have not changed since they were last fetched."""

    url: str  # behind all redirects
    code: int
    data: bytes
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    release: Release = lambda: None  # to be called when the data is done with

    @property
    def unchanged(self) -> bool:
        """Whether the server said 'not modified'."""
        return self.code == 304


def check_served(answer: Answer) -> None:
    """Raise FetchError for an answer that says: not now."""
    if answer.code == 429:
        raise FetchError("rate_limited", "429 Too Many Requests", 429, _wait(answer))
    if answer.code >= 500:
        raise FetchError("server_error", f"HTTP {answer.code}", answer.code, _wait(answer))


def _wait(answer: Answer) -> float | None:
    """Seconds that a Retry-After asks for, as a number or a date; None if it does not."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def refusal(code: int) -> tuple[str, str]:
    """Reason and detail of an answer that holds no picture."""
    if code in (404, 410):
        return "not_found", f"HTTP {code}"
    return ("bad_redirect" if 300 <= code < 400 else "refused"), f"HTTP {code}"


def inflated(data: bytes, limit: int) -> bytes:
    """The bytes themselves or, if they are gzip, what they hold. Raises FetchError."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    inflater = zlib.decompressobj(wbits=31)
    try:
        found = inflater.decompress(data, limit)
    except zlib.error as error:
        raise FetchError("refused", f"damaged gzip: {error}") from None
    if inflater.unconsumed_tail:
        raise FetchError("too_many_bytes", f"inflates beyond {limit:,} bytes")
    return found
