"""Ports of this machine for servers that tests start."""

from __future__ import annotations

import random
import socket

# Below those that a system gives to whoever asks for any: nobody takes one in the meantime.
FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    """A port at which nobody listens."""
    chosen = random.SystemRandom()
    while True:
        port = chosen.randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
