"""Addresses: one spelling each, and none that leads inside."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnst.errors import FetchError
from nnst.web.addresses import EVERYWHERE, MAX_URL, SafetySettings, canonical, is_public


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("HTTP://Example.ORG/A.jpg", "http://example.org/A.jpg"),  # scheme and host alone
        ("http://example.org", "http://example.org/"),
        ("http://example.org:80/a", "http://example.org/a"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("http://example.org:443/a", "http://example.org:443/a"),  # not http's own port
        ("http://example.org./a", "http://example.org/a"),
        ("http://example.org/a/../b/./c", "http://example.org/b/c"),
        ("http://example.org/../../b", "http://example.org/b"),
        ("http://example.org/a/%2e%2e/b", "http://example.org/b"),
        ("http://example.org/a/..", "http://example.org/"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a?b=c&d=%20#e", "http://example.org/a?b=c&d=%20"),
        ("http://example.org/a?b=http://c/../d", "http://example.org/a?b=http://c/../d"),
        ("  http://example.org/a b.jpg \n", "http://example.org/a%20b.jpg"),
        ("http://bücher.example/ä.jpg", "http://xn--bcher-kva.example/%C3%A4.jpg"),
        ("http://[2606:4700:0:0::1111]/a", "http://[2606:4700::1111]/a"),
        ("http://8.8.8.8/a", "http://8.8.8.8/a"),
    ],
)
def test_an_address_has_one_spelling(written: str, expected: str) -> None:
    assert canonical(written) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "written",
    [
        "",
        "example.org/a.jpg",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "gopher://example.org/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "//example.org/a",
        "http:///a",
        "http://user:pass@example.org/",
        "http://user@example.org/",
        "http://example.org:22/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org:abc/",
        "http://good.example\\@127.0.0.1/",  # a browser reads another host than Python
        "http://example.org/a\r\nX-Injected: 1",
        "http://exam\tple.org/",
        "http://example.org/\0",
        "http://127.1/",  # all that a C library takes for 127.0.0.1
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.0x1/",
        "http://1.2.3.4.5/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://[127.0.0.1]/",
        "http://exa mple.org/",
        "http://example.org%2f@127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://a..b/",
        f"http://example.org/{'a' * 10_000}",
        f"http://{'a' * 64}.example/",
        "http://xn--\ud800.example/",
        "http://example.org/\udcff",  # a byte that is no text, as headers may hold
    ],
)
def test_what_is_no_address_to_fetch_from_is_refused(written: str) -> None:
    with pytest.raises(FetchError) as caught:
        canonical(written)
    assert caught.value.reason == "bad_address"


def test_ports_can_be_allowed() -> None:
    assert canonical("http://example.org:8080/a", (80, 8080)) == "http://example.org:8080/a"
    with pytest.raises(ValueError, match="ports"):
        SafetySettings(ports=(0,))


def test_the_longest_address_is_taken_and_no_longer_one() -> None:
    longest = "http://example.org/".ljust(MAX_URL, "a")
    assert canonical(longest) == longest
    with pytest.raises(FetchError):
        canonical(longest + "a")


INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # a provider's own network
    "169.254.1.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",  # mapped
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",  # translated
    "::127.0.0.1",  # compatible
    "2002:7f00:1::",  # 6to4
    "2002:a00:1::1",
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b:1::7f00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
]
METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254"]


@pytest.mark.parametrize("host", [*INSIDE, *METADATA])
def test_a_number_that_leads_inside_is_not_dialled(host: str) -> None:
    with pytest.raises(FetchError) as caught:
        SafetySettings().check_dialled(host)
    assert caught.value.reason == "private_address"


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::"])
def test_a_public_number_is_dialled(host: str) -> None:
    SafetySettings().check_dialled(host)


def test_private_networks_can_be_allowed_one_by_one_or_all_but_a_clouds_secrets() -> None:
    one, every = SafetySettings(networks=("10.1.0.0/16",)), SafetySettings(networks=EVERYWHERE)
    one.check_dialled("10.1.2.3")
    for host in ("10.2.0.1", "127.0.0.1"):
        with pytest.raises(FetchError):
            one.check_dialled(host)
    for host in ("10.2.0.1", "127.0.0.1", "::1"):
        every.check_dialled(host)
    for host in METADATA:
        with pytest.raises(FetchError, match="metadata"):
            every.check_dialled(host)
    for name in ("metadata.google.internal", "METADATA.google.internal."):
        with pytest.raises(FetchError, match="metadata"):
            canonical(f"http://{name}/computeMetadata/v1/")
    with pytest.raises(ValueError, match="nonsense"):
        SafetySettings(networks=("nonsense",))


@given(st.ip_addresses(v=4))
def test_no_wrapping_makes_an_address_public(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    wrapped = [
        ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number << shift)
        for prefix, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80))
    ]
    assert {is_public(each) for each in wrapped} == {is_public(inner)}


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused_with_a_reason(text: str) -> None:
    for written in (text, f"http://{text}/", f"http://example.org/{text}"):
        found = spelling_or_reason(written)
        if found not in ("bad_address", "private_address"):
            assert found.isascii()
            assert canonical(found) == found


def spelling_or_reason(written: str) -> str:
    try:
        return canonical(written)
    except FetchError as error:
        return error.reason
