"""Decoding in a child: what kills or holds up the decoder is one reason, and all else as ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from nnst import images
from nnst.errors import ImageError
from nnst.images import decoding
from nnst.images.decoding import Limits
from nnst.images.guarding import Guard, GuardSettings
from tests import fatal_decoder

SHORT = GuardSettings(seconds=2.0, module="tests.fatal_decoder")
DOES = {
    (200, 10): "crash",
    (200, 20): "hang",
    (200, 30): "spin",
    (200, 40): "eat",
    (200, 50): "talk",
}


def picture(width: int, height: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    return images.encode_jpeg(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    guard = Guard(SHORT)
    yield guard
    guard.close()


@pytest.mark.parametrize("hw", [(1, 1), (37, 53), (900, 1400)])
@pytest.mark.parametrize("reduction", images.REDUCTIONS)
def test_a_good_picture_is_what_it_is_without_a_guard(
    guard: Guard, hw: tuple[int, int], reduction: int
) -> None:
    data = picture(hw[1], hw[0])
    plain, found = (
        decoding.decode(data, reduction=reduction),
        guard.decode(data, Limits(), reduction),
    )
    assert found.header == plain.header
    assert np.array_equal(found.pixels, plain.pixels)
    assert not found.pixels.flags.writeable


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "empty"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"not a picture at all", "not_an_image"),
    ],
)
def test_a_bad_picture_has_the_reason_that_it_has_without_a_guard(
    guard: Guard, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    data = spoil(picture(60, 40))
    for decode in (decoding.decode, guard.decode):
        with pytest.raises(ImageError) as found:
            decode(data)
        assert found.value.reason == reason


def test_the_limits_hold(guard: Guard) -> None:
    with pytest.raises(ImageError) as found:
        guard.decode(picture(60, 40), Limits(max_pixels=2399))
    assert found.value.reason == "too_many_pixels"


@pytest.mark.parametrize(
    ("height", "reason"),
    [
        (fatal_decoder.CRASHES, "decoder_crash"),
        (fatal_decoder.HANGS, "decoder_timeout"),
        (fatal_decoder.EATS, "decoder_crash"),
    ],
)
def test_what_kills_or_holds_up_the_decoder_costs_itself_alone(
    guard: Guard, height: int, reason: str
) -> None:
    began = time.monotonic()
    with pytest.raises(ImageError) as found:
        guard.decode(picture(200, height))
    assert found.value.reason == reason
    assert time.monotonic() - began < 20
    assert guard.decode(picture(60, 40)).pixels.shape == (40, 60, 3)


def test_a_decoder_that_computes_for_too_long_is_ended_by_the_processors_clock() -> None:
    guard = Guard(GuardSettings(seconds=60, cpu_seconds=1, module=SHORT.module))
    with pytest.raises(ImageError) as found:
        guard.decode(picture(200, fatal_decoder.SPINS))
    assert found.value.reason == "decoder_timeout"
    guard.close()


def test_what_a_library_prints_is_no_pixel(guard: Guard) -> None:
    data = picture(200, fatal_decoder.TALKS)
    assert np.array_equal(guard.decode(data).pixels, decoding.decode(data).pixels)


def test_a_guard_ends_its_child(guard: Guard) -> None:
    own = Guard(SHORT)
    own.decode(picture(60, 40))
    child = own._child
    assert child is not None
    assert child.poll() is None
    own.close()
    assert child.poll() is not None


def test_inside_guarded_every_picture_is_decoded_in_a_child_and_outside_none() -> None:
    data = picture(200, fatal_decoder.CRASHES)
    with images.guarded(SHORT), pytest.raises(ImageError, match="decoder_crash"):
        images.decode(data)
    assert images.decode(data).pixels.shape == (fatal_decoder.CRASHES, 200, 3)


def test_a_decoder_that_cannot_be_started_is_no_fault_of_a_picture() -> None:
    with pytest.raises(OSError, match="no decoder could be started"):
        Guard(GuardSettings(module="nowhere")).decode(picture(60, 40))
