"""Hardened XML: what is refused, what is understood, and that nothing outside is ever opened."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst.errors import InputError
from nnst.imglab import markup

PLAIN = "<?xml version='1.0' encoding='{}'?>\n<dataset><name>caf\u00e9 \u65e5</name></dataset>"


@pytest.fixture
def visits() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server, and the list of what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def read(folder: Path, data: bytes) -> str:
    """The tree in `data`, written out again."""
    path = folder / "file.xml"
    path.write_bytes(data)
    return markup.etree.tostring(markup.read(path), encoding="unicode")


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("UTF-8", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        ("ISO-8859-1", "utf-8"),  # dlib, on a system that speaks UTF-8
        ("ISO-8859-1", "utf-8-sig"),  # the same, saved by an editor
        ("UTF-16", "utf-16"),
        ("ISO-8859-1", "utf-16"),  # saved as "Unicode" by Windows' Notepad
        ("UTF-16", "utf-16-le"),
        ("UTF-16", "utf-16-be"),
    ],
)
def test_text_comes_out_right_whatever_the_header_says(
    tmp_path: Path, declared: str, codec: str
) -> None:
    assert "<name>caf\u00e9 \u65e5</name>" in read(tmp_path, PLAIN.format(declared).encode(codec))


def test_true_latin_1_is_read_as_latin_1(tmp_path: Path) -> None:
    data = "<?xml version='1.0' encoding='ISO-8859-1'?>\n<a>caf\u00e9</a>".encode("latin-1")
    assert read(tmp_path, data) == "<a>caf\u00e9</a>"


def disguised(text: str, codec: str) -> bytes:
    """The text in an encoding; in UTF-7, with every `<!` spelt so that no search finds it."""
    data = text.encode(codec)
    return data.replace(b"<!", b"+ADwAIQ-") if codec == "utf-7" else data


DOCTYPES = [
    "<!DOCTYPE a SYSTEM '{url}'><a/>",
    "<!DOCTYPE a PUBLIC '-//x//y' '{url}'><a/>",
    "<!DOCTYPE a [<!ENTITY e SYSTEM '{url}'>]><a>&e;</a>",
    "<!DOCTYPE a [<!ENTITY % e SYSTEM '{url}'> %e;]><a/>",
    "<!DOCTYPE a [<!ENTITY e 'x'>]><a b='&e;'/>",
    "<!DOCTYPE a [<!ATTLIST a b CDATA 'c'>]><a/>",
    "<!DOCTYPE a><a/>",
]


@pytest.mark.parametrize("document", DOCTYPES)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-7"])
@pytest.mark.parametrize("padding", [0, 70_000])  # a search of the first 64 KiB would miss it
def test_a_doctype_is_refused_in_every_disguise(
    tmp_path: Path, document: str, codec: str, padding: int
) -> None:
    secret = tmp_path / "secret.dtd"
    secret.write_text("<!ELEMENT oops")  # libxml2 would complain of this, had it opened it
    text = document.format(url=secret.as_uri())
    header = f"<?xml version='1.0' encoding='{codec.removesuffix('-sig')}'?>"
    data = disguised(f"{header}<!--{'x' * padding}-->{text}", codec)
    with pytest.raises(InputError) as caught:
        read(tmp_path, data)
    told = str(caught.value)
    # Under UTF-7 it is the resolver that refuses, where there is something to open.
    assert "DOCTYPE" in told or "the file refers to" in told
    assert "oops" not in told
    assert "subset" not in told


def test_a_doctype_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file\.xml, line 3: a DOCTYPE.*; remove it"):
        read(tmp_path, b"<?xml version='1.0'?>\n\n<!DOCTYPE a><a/>")


@pytest.mark.parametrize(
    "document",
    [
        *DOCTYPES[:4],
        "<?xml-stylesheet type='text/xsl' href='{url}'?><a/>",
        "<a xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='{url}' parse='text'/></a>",
        "<a xmlns:x='http://www.w3.org/2001/XMLSchema-instance' x:schemaLocation='n {url}'/>",
    ],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-7"])
def test_the_network_is_never_reached(
    tmp_path: Path, visits: tuple[str, list[str]], document: str, codec: str
) -> None:
    address, asked = visits
    text = f"<?xml version='1.0' encoding='{codec}'?>" + document.format(url=f"{address}/evil")
    try:
        read(tmp_path, disguised(text, codec))
    except InputError:
        assert "DOCTYPE" in document
    assert asked == []


def test_an_inclusion_stays_an_element(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("SECRET")
    data = (
        b"<a xmlns:xi='http://www.w3.org/2001/XInclude'>"
        b"<xi:include href='secret.txt' parse='text'/></a>"
    )
    assert "SECRET" not in read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (gzip.compress(b"<a/>"), "gzip; decompress it"),
        (b"hello", "line 1, column 1"),
        (b"<a>\n<b>\n</a>", "line 3"),
        (b"<a>", "line 1"),
        (b"<a/>rest", "line 1, column 5"),
        (b"\xff\xfe<", "utf-16.*save it as UTF-8"),
        (b"<a>caf\xe9</a>", "save it as UTF-8, or declare"),
        (b"<?xml version='1.0' encoding='klingon'?><a/>", "save it as UTF-8, or declare"),
        (b"<a b='tom & jerry'/>", "line 1, column 12.*write & as &amp;"),
        (b"<a b='tom&jerry'/>", "write & as &amp;"),
        (b"<a b='tom&jerry;'/>", "write & as &amp;"),
        (b"<a>tom & jerry</a>", "write & as &amp;"),
        (b"<a b='x<y'/>", "< as &lt;"),
        (b"<a>\n<b c='jerry's.png'/></a>", "line 2, column .*' as &apos;"),
        (b"<a>x\0</a>", "line 1"),
        (b"<a>" * 300 + b"</a>" * 300, "depth"),
        (b"<a>" + b"x" * 10_100_000 + b"</a>", "too long"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_place_and_remedy(
    tmp_path: Path, data: bytes, told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read(tmp_path, data)
    assert "file.xml" in caught.value.what
    assert caught.value.remedy


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        markup.read(tmp_path / "none.xml")
    with pytest.raises(InputError, match="is not a file"):
        markup.read(tmp_path)


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "MAX_BYTES", 4)
    assert read(tmp_path, b"<a/>") == "<a/>"
    with pytest.raises(InputError, match="larger than 4 bytes"):
        read(tmp_path, b"<a/> ")


def test_an_old_lxml_is_refused_when_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markup.etree, "LXML_VERSION", (6, 1, 2, 0))
    with pytest.raises(InputError, match=r"lxml 6\.1\.2 .*; pip install 'lxml>=6\.1\.3'"):
        read(tmp_path, b"<a/>")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bytes_of_any_kind_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Nothing but InputError comes out of a damaged file."""
    whole = PLAIN.format("ISO-8859-1").encode()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=6)) + whole[stop:]
    refusal = None
    try:
        read(tmp_path_factory.getbasetemp(), damaged)
    except InputError as error:
        refusal = error
    assert refusal is None or refusal.remedy


@given(st.text())
@settings(max_examples=150, deadline=None)
def test_escaped_text_is_what_a_parser_reads_back(text: str) -> None:
    try:
        markup.characters(text)
    except ValueError:
        return
    root = markup.etree.fromstring(f"<a b={markup.quoted(text)}>{markup.escaped(text)}</a>")
    assert root.get("b") == text
    assert (root.text or "") == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("text", ["\0", "\x01", "\x1f", "\ud800", "\ufffe"])
def test_characters_that_xml_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        markup.characters(text)
