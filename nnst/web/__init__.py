"""Pictures from the web: where they are, whether they may be fetched, and their bytes or a reason.

    SOURCE -sources-> Link -fetch-> Fetched, or FetchError with a word of records.REASONS

`addresses` says which addresses are fetched from at all, `links` finds them in pages and sitemaps,
`lists` in files, `services` by search; `robots` and `reservations` read what a host asks for,
`politeness` keeps to its pace, `client` makes one request, `answers` says what came of it, `fetch`
brings all of it together. `keeping`, `blobs`, `journal` and `stored` keep what was fetched.
"""

from __future__ import annotations

from nnst.web.addresses import SafetySettings, canonical, host_of
from nnst.web.answers import Fetched, Known
from nnst.web.client import LimitSettings
from nnst.web.fetch import RETRYABLE, Fetcher, WebSettings
from nnst.web.links import Link
from nnst.web.politeness import PaceSettings
from nnst.web.reservations import RespectSettings
from nnst.web.sources import Found, SourceSettings, find

__all__ = [
    "RETRYABLE",
    "Fetched",
    "Fetcher",
    "Found",
    "Known",
    "LimitSettings",
    "Link",
    "PaceSettings",
    "RespectSettings",
    "SafetySettings",
    "SourceSettings",
    "WebSettings",
    "canonical",
    "find",
    "host_of",
]
