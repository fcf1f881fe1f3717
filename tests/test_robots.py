"""What sites ask for: robots.txt, X-Robots-Tag, meta robots, TDMRep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from nnst.errors import FetchError
from nnst.web.reservations import RespectSettings, directives_for, reservations_of
from nnst.web.robots import MAX_BYTES, rules_of

URL = "http://example.org/pictures/a.jpg"


def refusal(check: Callable[[str], None], url: str) -> str | None:
    """Why an address may not be fetched; None if it may."""
    try:
        check(url)
    except FetchError as error:
        return error.reason
    return None


def allows(robots: str, url: str = URL) -> bool:
    found = refusal(rules_of(200, robots.encode()).check, url)
    assert found in (None, "robots_disallowed")
    return found is None


def test_the_group_for_nnst_counts_before_the_one_for_all() -> None:
    text = "User-agent: *\nDisallow: /\n\nUser-agent: nnst\nDisallow: /private/\n"
    assert allows(text)
    assert not allows(text, "http://example.org/private/a.jpg")
    assert not allows("User-agent: *\nDisallow: /\n")


def test_the_longest_rule_counts() -> None:
    text = "User-agent: *\nDisallow: /pictures/\nAllow: /pictures/a*.jpg$\n"
    assert allows(text)
    assert not allows(text, "http://example.org/pictures/b.jpg")


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_no_robots_txt_allows_everything(code: int) -> None:
    rules_of(code, b"").check(URL)


@pytest.mark.parametrize("code", [500, 503, 429, None])
def test_a_robots_txt_that_cannot_be_read_allows_nothing(code: int | None) -> None:
    with pytest.raises(FetchError) as caught:
        rules_of(code, b"").check(URL)
    assert caught.value.reason == "robots_unreadable"


def test_odd_files_are_read_as_far_as_they_go() -> None:
    assert allows("")
    assert allows("<html>not found</html>")
    assert not allows("\ufeffUSER-AGENT: NNST\r\nDISALLOW: /\r\n")
    rules_of(200, b"\xff\xfe\0\0").check(URL)


def test_a_hostile_file_takes_no_time() -> None:
    many = "".join(f"Disallow: /{n}*x{n}*y$\n" for n in range(40_000))
    stars = "Disallow: /" + "*a" * 2000 + "b\n"
    begun = time.process_time()
    rules = rules_of(200, f"User-agent: *\n{stars}{many}".encode()[: 2 * MAX_BYTES])
    rules.check("http://example.org/" + "a" * 3000)
    assert time.process_time() - begun < 10


def test_a_crawl_delay_is_heard_within_reason() -> None:
    assert rules_of(200, b"User-agent: nnst\nCrawl-delay: 5\n").delay == 5
    assert rules_of(200, b"User-agent: *\nCrawl-delay: 86400\n").delay == 60
    assert rules_of(404, b"").delay == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("noindex", ["noindex"]),
        ("noindex, NoAI", ["noindex", "noai"]),
        ("otherbot: noindex", []),
        ("nnst: noai", ["noai"]),
        ("otherbot: noindex, nofollow, nnst: noai", ["noai"]),
        ("max-snippet: 20, noai", ["max-snippet", "noai"]),  # a value, not an agent
        ("unavailable_after: 25 Jun 2030 15:00:00 PST, noai", ["unavailable_after", "noai"]),
        ("", []),
        (", ,", []),
        (": noai", [None]),
        ("n\udcffai", [None]),
    ],
)
def test_directives_are_for_all_or_for_one_agent(value: str, expected: list[str | None]) -> None:
    assert list(directives_for(value, "nnst")) == expected


@pytest.mark.parametrize(
    "value",
    ["noai", "noimageai", "noindex", "NOIMAGEINDEX", "none", "noml", "nnst: noai", ": all", "\x01"],
)
def test_a_tag_that_says_no_or_is_not_understood_is_a_no(value: str) -> None:
    with pytest.raises(FetchError) as caught:
        RespectSettings().check_tags(["all", value])
    assert caught.value.reason == "opted_out"


@pytest.mark.parametrize("value", ["all", "nofollow", "noarchive", "otherbot: noai", "index"])
def test_other_tags_do_not_matter(value: str) -> None:
    RespectSettings().check_tags([value])
    RespectSettings(headers=False).check_tags(["noai"])


def test_a_tdm_reservation_header_is_followed() -> None:
    RespectSettings().check_reserved([])
    RespectSettings().check_reserved(["0"])
    RespectSettings(tdmrep=False).check_reserved(["1"])
    for value in ("1", "yes", "0, 1"):
        with pytest.raises(FetchError):
            RespectSettings().check_reserved([value])


def reserved(rules: object, url: str = URL) -> bool:
    found = refusal(reservations_of(json.dumps(rules).encode()).check, url)
    assert found in (None, "opted_out")
    return found is not None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], False),
        ([{"location": "/", "tdm-reservation": 1}], True),
        ([{"location": "/", "tdm-reservation": 0}], False),
        ([{"location": "/pictures/", "tdm-reservation": 1, "tdm-policy": "http://x"}], True),
        ([{"location": "/other/", "tdm-reservation": 1}], False),
        ([{"location": "/*.jpg$", "tdm-reservation": "1"}], True),
        ([{"location": "/*.png$", "tdm-reservation": 1}], False),
        # of two that match, the one that reserves
        (
            [
                {"location": "/pictures/", "tdm-reservation": 0},
                {"location": "/", "tdm-reservation": 1},
            ],
            True,
        ),
        ({"location": "/"}, True),  # not understood: reserved
        ([{"location": 5, "tdm-reservation": 1}], True),
        ([{"location": "/" + "*a" * 60 + "b", "tdm-reservation": 1}], True),
        ("no", True),
    ],
)
def test_tdmrep_rules_reserve_paths(rules: object, expected: bool) -> None:
    assert reserved(rules) is expected


def test_a_tdmrep_file_that_is_no_json_reserves_everything() -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(FetchError):
            reservations_of(body).check(URL)
