"""XML from anywhere -> its root element, and text that XML can hold.

Nothing outside the file is read: no DTD, no entity, no inclusion, no stylesheet, no network.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import Any

from lxml import etree

from nnst import storage
from nnst.errors import InputError

MAX_BYTES = 256 * 2**20
LEAST_LXML = (6, 1, 3)  # older ones read external parameter entities, and files by iterparse

_DOCTYPE = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_LATIN_1 = re.compile(rb"<\?xml[^>]*encoding\s*=\s*['\"](iso-8859-1|latin-?1|us-ascii)['\"]", re.I)
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ENCODING_REMEDY = "save it as UTF-8, or declare the encoding it has in its first line"
_ESCAPE_REMEDY = (
    "imglab does not escape names: write & as &amp;, < as &lt; and ' as &apos; in that line, "
    "or rename the picture"
)
_REMEDIES = {
    etree.ErrorTypes.ERR_INVALID_ENCODING: _ENCODING_REMEDY,
    etree.ErrorTypes.ERR_UNSUPPORTED_ENCODING: _ENCODING_REMEDY,
    etree.ErrorTypes.ERR_NAME_REQUIRED: _ESCAPE_REMEDY,  # "a & b", "a <3"
    etree.ErrorTypes.ERR_ENTITYREF_SEMICOL_MISSING: _ESCAPE_REMEDY,  # "a&b"
    etree.ErrorTypes.ERR_UNDECLARED_ENTITY: _ESCAPE_REMEDY,  # "a&b;"
    etree.ErrorTypes.ERR_LT_IN_ATTRIBUTE: _ESCAPE_REMEDY,
    etree.ErrorTypes.ERR_SPACE_REQUIRED: _ESCAPE_REMEDY,  # file='jerry's.png'
}


class _NothingOutside(etree.Resolver):
    """Refuses whatever libxml2 would open beside the bytes it was given."""

    def resolve(self, system_url: str, public_id: str, *context: object) -> None:
        raise InputError(f"the file refers to {system_url!r}", "remove that reference")


def read(path: str | os.PathLike[str]) -> etree._Element:
    """The root element of an XML file. Raises InputError, with line and remedy where there is one.

    UTF-8 is recognised under a header that says ISO-8859-1: dlib writes that header over names
    in whatever encoding the system has.
    """
    return parse(_read_bytes(path), path)


def parse(data: bytes, path: str | os.PathLike[str]) -> etree._Element:
    """The root element of XML that was read from `path`, or fetched from there. Raises as `read`
    does."""
    if etree.LXML_VERSION < LEAST_LXML:
        found, least = (".".join(map(str, v)) for v in (etree.LXML_VERSION[:3], LEAST_LXML))
        raise InputError(f"lxml {found} is not safe for {path}", f"pip install 'lxml>={least}'")
    data, encoding = _decoded(path, data)
    if declaration := _DOCTYPE.search(data):
        raise _doctype(path, data.count(b"\n", 0, declaration.start()) + 1)
    try:
        root = etree.fromstring(data, _parser(encoding))
    except etree.XMLSyntaxError as error:
        raise _syntax(path, error) from None
    document: Any = root.getroottree().docinfo
    if document.doctype or document.internalDTD is not None:  # hidden by an encoding such as UTF-7
        raise _doctype(path, 1)
    return root


def characters(text: str) -> str:
    """The text itself. Raises ValueError when XML cannot hold it."""
    if found := _NOT_XML.search(text):
        raise ValueError(f"XML cannot hold the character {found.group()!r}")
    return text


def escaped(text: str) -> str:
    """The text as the content of an element."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quoted(text: str) -> str:
    """The text as an attribute's value with its quotes: those that spare an escape, if any do.

    dlib does not decode entities in attributes, so each one spared is a name it reads right.
    """
    value = escaped(text).replace("\t", "&#9;").replace("\n", "&#10;").replace("\r", "&#13;")
    return f"'{value}'" if "'" not in value else '"' + value.replace('"', "&quot;") + '"'


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    if not os.path.isfile(path):
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path} {what}", "give the name of an XML file")
    try:
        data = storage.read(path, MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check its permissions") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes", "split it into several files")
    if data.startswith(b"\x1f\x8b"):
        raise InputError(f"{path} is compressed with gzip", "decompress it first: gunzip")
    if not data.strip():
        raise InputError(f"{path} is empty", "write or copy it again")
    return data


def _decoded(path: str | os.PathLike[str], data: bytes) -> tuple[bytes, str | None]:
    """Bytes in an encoding that extends ASCII, and its name when the header is not to be asked."""
    for mark, codec in _MARKS.items():
        if data.startswith(mark):
            try:
                return data.decode(codec).encode(), "utf-8"
            except UnicodeDecodeError as error:
                what = f"{path} is not {codec}, as its first bytes say: {error.reason}"
                raise InputError(what, "save it as UTF-8") from None
    if not data.isascii() and _LATIN_1.match(data):
        try:
            data.decode()
        except UnicodeDecodeError:
            return data, None
        return data, "utf-8"  # text in Latin-1 that happens to be valid UTF-8 is next to impossible
    return data, None


def _parser(encoding: str | None) -> etree.XMLParser:
    # collect_ids=False is left out on purpose: it sets a bit of libxml2's `loadsubset`, and then
    # an external DTD is opened in spite of load_dtd=False (lxml 6.1.3 with libxml2 2.14.6).
    parser = etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    parser.resolvers.add(_NothingOutside())
    return parser


def _doctype(path: str | os.PathLike[str], line: int) -> InputError:
    what = f"{path}, line {line}: a DOCTYPE or ENTITY declaration, which no annotation needs"
    return InputError(what, "remove it, if you trust where the file comes from")


def _syntax(path: str | os.PathLike[str], error: Any) -> InputError:
    line, column = error.position
    what = error.msg.removesuffix(f", line {line}, column {column}").strip()
    remedy = _REMEDIES.get(error.code, "correct that line, or write or copy the file again")
    return InputError(f"{path}, line {line}, column {column}: {what}", remedy)
