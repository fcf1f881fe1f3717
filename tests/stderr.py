"""What commands say on stderr."""

from __future__ import annotations

import re

_PROGRESS = re.compile(r"^.+: [\d,]+ of [\d,]+ \w+, [\d,.]+/s.*\n", re.MULTILINE)


def without_progress(text: str) -> str:
    """The text without how far the work was, which is told every half minute: on slow machines."""
    return _PROGRESS.sub("", text)
