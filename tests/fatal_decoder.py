"""A decoder with faults, for tests of what guards against them: `python -m tests.fatal_decoder`.

What it does to a picture that is 200 pixels wide depends on its height.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from nnst.images import decoding, guarding
from nnst.images.decoding import Limits, Picture

WIDTH = 200
CRASHES, HANGS, SPINS, EATS, TALKS = 10, 20, 30, 40, 50

_decode = decoding.decode


def decode(data: bytes, limits: Limits = Limits(), reduction: int = 1) -> Picture:
    """The picture, unless its size is fatal."""
    header = decoding.check(data, limits)
    if header.width == WIDTH:
        _fail(header.height)
    return _decode(data, limits, reduction)


def _fail(height: int) -> None:
    if height == CRASHES:
        os.kill(os.getpid(), signal.SIGSEGV)
    elif height == HANGS:
        time.sleep(600)
    elif height == EATS:
        np.ones(2**40, np.uint8)
    elif height == TALKS:
        print("libjpeg: this is not for you", flush=True)
        os.write(1, b"nor is this")
    while height == SPINS:
        pass


if __name__ == "__main__":
    guarding.serve(decode)
