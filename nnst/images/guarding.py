"""Decoding in a child process with limits: a picture that kills the decoder costs one row.

A fault in a decoder written in C ends the process, and whatever else it had in hand. Where that has
happened, the work is done once more behind a guard: the child decodes, and dies alone.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from nnst.errors import ImageError
from nnst.images import decoding
from nnst.images.decoding import Limits, Picture

_SIZES = struct.Struct("<QQ")  # bytes of the JSON that follows, and of the data after it
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What a child may use."""

    seconds: float = 30.0  # from a picture's bytes to its pixels, on the clock
    cpu_seconds: int = 30  # of the processor, for one picture
    memory: int = 4 * 2**30  # bytes of its address space
    start_seconds: float = 60.0  # until a child is ready
    module: str = __name__  # that the child runs; it calls `serve`


class Guard:
    """A child that decodes, replaced by another whenever it dies. Not for several threads."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self.settings = settings or GuardSettings()
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, limits: Limits = Limits(), reduction: int = 1) -> Picture:
        """As `decoding.decode`; raises ImageError `decoder_crash` or `decoder_timeout` beside."""
        header = decoding.check(data, limits)  # reads a few bytes, in Python: no child is needed
        child = self._child or self._start()
        request = {"limits": asdict(limits), "reduction": reduction}
        try:
            _send(child.stdin, request, data)
            reply, pixels = _receive(child, self.settings.seconds)
        except TimeoutError:
            self.close()
            detail = f"more than {self.settings.seconds:g} s"
            raise ImageError("decoder_timeout", detail) from None
        except (EOFError, OSError):
            ended = self.close()
            # SIGXCPU: the child was at it for too long, by the processor's clock.
            reason = "decoder_timeout" if ended == -24 else "decoder_crash"
            raise ImageError(reason, f"the child ended with {ended}") from None
        if "reason" in reply:
            raise ImageError(reply["reason"], reply["detail"])
        found = np.frombuffer(pixels, np.uint8).reshape(reply["shape"])
        found.setflags(write=False)
        return Picture(found, header)

    def close(self) -> int | None:
        """End the child; its exit status, negative where a signal ended it."""
        child, self._child = self._child, None
        if child is None:
            return None
        with suppress(subprocess.TimeoutExpired):  # one that died by itself says how
            child.wait(0.2)
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent yet
                    pipe.close()
        return child.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        """A child that has said that it is ready. Raises OSError where none gets that far."""
        words = [sys.executable, "-m", self.settings.module, json.dumps(asdict(self.settings))]
        paths = [path for path in sys.path if path]
        self._child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            _receive(self._child, self.settings.start_seconds)
        except (EOFError, TimeoutError):
            raise OSError(f"no decoder could be started (status {self.close()})") from None
        return self._child


_guard: Guard | None = None
_alarm: _Alarm | None = None


class _Alarm:
    """Ends this process where no picture was begun for too long, whatever holds it up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._set = 0.0
        self.put_off()

    def put_off(self) -> None:
        """Begin the time anew; a call costs nothing but now and then."""
        now = time.monotonic()
        if now - self._set > self._seconds / 8:
            # Its thread needs no lock of the interpreter, so it fires where a decoder keeps that.
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=_errors())
            self._set = now


def _errors() -> IO[str]:
    return sys.__stderr__ or open(os.devnull, "w")


@contextmanager
def guarded(settings: GuardSettings | None = None) -> Iterator[None]:
    """Inside, this process decodes every picture in a child."""
    global _guard
    before, _guard = _guard, Guard(settings)
    try:
        yield
    finally:
        _guard.close()
        _guard = before


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Inside, this process ends, with status 1, if no picture is begun for so many seconds."""
    global _alarm
    _alarm = _Alarm(seconds)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        _alarm = None


def still_at_work() -> None:
    """Put off the end of `ended_after`: for work that waits for long on purpose."""
    if _alarm is not None:
        _alarm.put_off()


def decode(data: bytes, limits: Limits = Limits(), reduction: int = 1) -> Picture:
    """As `decoding.decode`, in a child where this process is `guarded`."""
    if _alarm is not None:
        _alarm.put_off()
    if _guard is not None:
        return _guard.decode(data, limits, reduction)
    return decoding.decode(data, limits, reduction)


def _send(pipe: IO[bytes] | None, message: dict[str, Any], data: bytes = b"") -> None:
    assert pipe is not None
    text = json.dumps(message).encode()
    pipe.write(_SIZES.pack(len(text), len(data)))
    pipe.write(text)
    pipe.write(data)
    pipe.flush()


def _receive(child: subprocess.Popen[bytes], seconds: float) -> tuple[dict[str, Any], bytearray]:
    """A message and its data. Raises TimeoutError, and EOFError where the child ends before."""
    assert child.stdout is not None
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)

        def read(count: int) -> bytearray:
            found = bytearray()
            while len(found) < count:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                part = os.read(child.stdout.fileno(), min(_CHUNK, count - len(found)))  # type: ignore[union-attr]
                if not part:
                    raise EOFError
                found += part
            return found

        sizes = _SIZES.unpack(read(_SIZES.size))
        return json.loads(read(sizes[0])), read(sizes[1])


def serve(decode: Callable[[bytes, Limits, int], Picture] = decoding.decode) -> None:
    """In the child, with its settings as first argument: decode what comes until nothing comes."""
    settings = GuardSettings(**json.loads(sys.argv[1]))
    # Whatever a library prints is not for the one who waits for pixels.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (settings.memory, settings.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _send(out, {"ready": True})
    while head := sys.stdin.buffer.read(_SIZES.size):
        text, size = _SIZES.unpack(head)
        request = json.loads(sys.stdin.buffer.read(text))
        data = sys.stdin.buffer.read(size)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        most = int(used) + settings.cpu_seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        try:
            picture = decode(data, Limits(**request["limits"]), request["reduction"])
        except ImageError as error:
            _send(out, {"reason": error.reason, "detail": error.detail})
        except MemoryError:
            _send(out, {"reason": "decoder_crash", "detail": "it ran out of memory"})
        else:
            pixels = np.ascontiguousarray(picture.pixels)
            _send(out, {"shape": pixels.shape}, pixels.tobytes())


if __name__ == "__main__":
    serve()
