"""Search services with a published interface: a query -> links, with licence and attribution.

A further service is one more class here: a name, an endpoint, and `links`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

from nnst.errors import InputError
from nnst.web.links import Link

Ask = Callable[[str], Awaitable[bytes]]
"""Gives a service's answer to an address; raises FetchError."""

_TAG = re.compile(r"<[^>]{0,2000}>")


class Service(Protocol):
    """A search service."""

    name: str
    endpoint: str
    key_variable: str  # of the environment; "" where the service wants no key

    def links(self, query: str, ask: Ask, endpoint: str, key: str) -> AsyncIterator[Link]:
        """The pictures that are found, best first, page after page until there are no more."""


class Openverse:
    """https://api.openverse.org: openly licensed pictures of many collections.

    Without an account it gives 20 pictures a page and 20 pages.
    """

    name = "openverse"
    endpoint = "https://api.openverse.org"
    key_variable = ""
    page_size = 20
    most_pages = 20

    async def links(self, query: str, ask: Ask, endpoint: str, key: str) -> AsyncIterator[Link]:
        """The pictures found for a query."""
        for page in range(1, self.most_pages + 1):
            wanted = {"q": query, "page": page, "page_size": self.page_size}
            answer = await _json(ask, f"{endpoint}/v1/images/?{urlencode(wanted)}", self.name)
            for item in _dicts(answer.get("results")):
                yield Link(
                    _string(item.get("url")) or "",
                    page=_string(item.get("foreign_landing_url")),
                    licence=_licence(item),
                    licence_url=_string(item.get("license_url")),
                    creator=_string(item.get("creator")),
                    attribution=_string(item.get("attribution")),
                    title=_string(item.get("title")),
                )
            if page >= _number(answer.get("page_count")):
                return


def _licence(item: Mapping[str, Any]) -> str | None:
    """The licence as people write it: `CC BY-SA 4.0`."""
    code = _string(item.get("license"))
    if code is None:
        return None
    version = _string(item.get("license_version")) or ""
    shown = {"cc0": "CC0", "pdm": "PDM"}.get(code.lower(), f"CC {code.upper()}")
    return f"{shown} {version}".strip()


class Commons:
    """https://commons.wikimedia.org: MediaWiki's search in the File namespace."""

    name = "commons"
    endpoint = "https://commons.wikimedia.org"
    key_variable = ""
    page_size = 50

    async def links(self, query: str, ask: Ask, endpoint: str, key: str) -> AsyncIterator[Link]:
        """The pictures found for a query."""
        wanted = {
            "action": "query",
            "format": "json",
            "formatversion": 2,
            "generator": "search",
            "gsrsearch": f"filetype:bitmap {query}",
            "gsrnamespace": 6,
            "gsrlimit": self.page_size,
            "prop": "imageinfo",
            "iiprop": "url|size|sha1|mime|extmetadata",
            "maxlag": 5,
        }
        further: dict[str, Any] = {}
        while True:
            address = f"{endpoint}/w/api.php?{urlencode(wanted | further)}"
            answer = await _json(ask, address, self.name)
            _check_error(answer.get("error"), self.name, "code", "info")
            found = _dicts((answer.get("query") or {}).get("pages"))
            for item in sorted(found, key=lambda each: _number(each.get("index"))):
                for info in _dicts(item.get("imageinfo")):
                    yield self._link(item, info)
            further = answer.get("continue") or {}
            if not isinstance(further, dict) or not further:
                return

    def _link(self, item: Mapping[str, Any], info: Mapping[str, Any]) -> Link:
        said = info.get("extmetadata") or {}

        def value(name: str) -> str | None:
            entry = said.get(name) if isinstance(said, dict) else None
            return _plain(entry.get("value")) if isinstance(entry, dict) else None

        title = _string(item.get("title"))
        creator, licence = value("Artist"), value("LicenseShortName")
        credit = value("Attribution") or ", ".join(filter(None, (creator, licence))) or None
        return Link(
            _string(info.get("url")) or "",
            page=_string(info.get("descriptionurl")),
            licence=licence,
            licence_url=value("LicenseUrl"),
            creator=creator,
            attribution=credit,
            title=title.removeprefix("File:") if title else None,
        )


class Flickr:
    """https://www.flickr.com/services/api: flickr.photos.search, with a key of your own.

    3,600 queries an hour and key. Pictures with all rights reserved are not asked for.
    """

    name = "flickr"
    endpoint = "https://api.flickr.com"
    key_variable = "FLICKR_API_KEY"
    page_size = 250
    most_pages = 16  # beyond 4,000 pictures the same ones come again
    licences: Mapping[str, str] = {
        "1": "CC BY-NC-SA 2.0",
        "2": "CC BY-NC 2.0",
        "3": "CC BY-NC-ND 2.0",
        "4": "CC BY 2.0",
        "5": "CC BY-SA 2.0",
        "6": "CC BY-ND 2.0",
        "7": "No known copyright restrictions",
        "8": "United States Government Work",
        "9": "CC0 1.0",
        "10": "PDM 1.0",
        "11": "CC BY 4.0",
        "12": "CC BY-SA 4.0",
        "13": "CC BY-ND 4.0",
        "14": "CC BY-NC 4.0",
        "15": "CC BY-NC-SA 4.0",
        "16": "CC BY-NC-ND 4.0",
    }
    sizes = ("url_o", "url_k", "url_h", "url_l", "url_c", "url_z", "url_m")  # largest first

    async def links(self, query: str, ask: Ask, endpoint: str, key: str) -> AsyncIterator[Link]:
        """The pictures found for a query."""
        for page in range(1, self.most_pages + 1):
            wanted = {
                "method": "flickr.photos.search",
                "api_key": key,
                "text": query,
                "license": ",".join(self.licences),
                "extras": ",".join(("license", "owner_name", *self.sizes)),
                "content_types": "0",
                "sort": "relevance",
                "per_page": self.page_size,
                "page": page,
                "format": "json",
                "nojsoncallback": 1,
            }
            answer = await _json(ask, f"{endpoint}/services/rest/?{urlencode(wanted)}", self.name)
            if answer.get("stat") != "ok":
                _check_error(answer, self.name, "code", "message")
            photos = answer.get("photos") or {}
            for item in _dicts(photos.get("photo")):
                yield self._link(item)
            if page >= _number(photos.get("pages")):
                return

    def _link(self, item: Mapping[str, Any]) -> Link:
        owner, licence = _string(item.get("ownername")), self.licences.get(str(item.get("license")))
        return Link(
            next(filter(None, (_string(item.get(size)) for size in self.sizes)), ""),
            page=f"https://www.flickr.com/photos/{item.get('owner')}/{item.get('id')}",
            licence=licence,
            creator=owner,
            attribution=", ".join(filter(None, (owner, licence))) or None,
            title=_string(item.get("title")),
        )


SERVICES: Mapping[str, Service] = {
    service.name: service for service in (Openverse(), Commons(), Flickr())
}


async def _json(ask: Ask, address: str, name: str) -> dict[str, Any]:
    """The JSON object that a service answers with. Raises InputError for anything else."""
    try:
        answer = json.loads(await ask(address))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise InputError(f"{name} answered with something else than JSON", "try again later")
    return answer


def _check_error(error: Any, name: str, code: str, text: str) -> None:
    """Raise InputError for what a service complains of."""
    if isinstance(error, dict):
        what = f"{error.get(code)}: {str(error.get(text))[:200]}"
        raise InputError(f"{name} refused the search ({what})", "correct it, or try again later")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(value: Any) -> str | None:
    return value.strip()[:2000] or None if isinstance(value, str) else None


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _plain(value: Any) -> str | None:
    """Text without the markup that MediaWiki keeps in it."""
    text = _string(value)
    return " ".join(html.unescape(_TAG.sub("", text)).split()) or None if text else None
