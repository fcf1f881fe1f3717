"""Decoding ahead of what is wanted gives what decoding one by one gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from nnst import images
from nnst.errors import ImageError


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_items_come_in_their_order_and_no_more_are_taken_than_was_said(count: int) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    for wanted, item in enumerate(images.ahead(numbers(), count)):
        assert item == wanted
        assert len(taken) <= wanted + 1 + (count if count > 1 else 0)
    assert taken == list(range(10))


@pytest.mark.parametrize("count", [1, 3])
def test_threads_give_the_pixels_or_the_reason_that_decoding_in_place_gives(
    count: int, draw: Callable[..., np.ndarray]
) -> None:
    whole = [images.encode_jpeg(draw([], seed=seed)) for seed in range(5)]
    with images.decoders(count, reduction=2) as decoding:
        begun = [decoding(data) for data in [*whole, b"no picture"]]
        for data, decoded in zip(whole, begun[:-1], strict=True):
            plain = images.decode(data, reduction=2)
            np.testing.assert_array_equal(decoded().pixels, plain.pixels)
        with pytest.raises(ImageError):
            begun[-1]()


def test_with_several_threads_decoding_begins_before_it_is_wanted(
    draw: Callable[..., np.ndarray],
) -> None:
    data = images.encode_jpeg(draw([]))
    before = threading.active_count()
    with images.decoders(2, reduction=1) as decoding:
        decoding(data)
        assert threading.active_count() > before
    with images.decoders(1, reduction=1) as decoding:
        decoding(b"no picture")  # nobody wants it, so nobody finds out
        assert threading.active_count() == before
