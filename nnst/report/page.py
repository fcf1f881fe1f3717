"""A page in one file: markup, styles, scripts and data together, asking for nothing outside itself.

Its content security policy names the styles and scripts by their hashes, so that nothing else can
run, whatever the names and texts in the data hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any


def assemble(
    markup: str, styles: Sequence[str], scripts: Sequence[str], data: Mapping[str, Any]
) -> bytes:
    """The page made of files of `nnst/pages`; `data["title"]` is its title.

    Scripts find the data as JSON in the element `data`. The same input gives the same bytes.
    """
    style = "".join(_static(name) for name in styles)
    sources = [_static(name) for name in scripts]
    values = {
        "title": html.escape(str(data["title"])),
        "style": style,
        "style_digest": _digest(style),
        "script_digests": " ".join(_digest(source) for source in sources),
        "scripts": "\n".join(f"<script>{source}</script>" for source in sources),
        "data": inline_json(data),
    }
    # One pass: what is filled in is never searched for places to fill.
    filled = re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], _static(markup))
    return filled.encode()


def inline_json(document: Mapping[str, Any]) -> str:
    """JSON that an HTML parser cannot leave: a name may hold `</script>` or `<!--`."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _static(name: str) -> str:
    return resources.files("nnst.pages").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The text's hash as a content security policy names what may be used."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
