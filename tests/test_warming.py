"""Maps of the score: bright where the object is, for a network by itself and for the cascade."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnst.detector import DetectorSettings, load_detector, warming
from nnst.report import warmth

BOX = (120, 40, 200, 88)


@pytest.mark.parametrize("model", ["mark_model", "mark_cascade"])
def test_the_map_is_brightest_where_the_mark_is(
    model: str, draw: Callable[..., np.ndarray], request: pytest.FixtureRequest
) -> None:
    from nnst import models

    folder = request.getfixturevalue(model)
    detector = load_detector(
        folder, models.load(folder).digest, DetectorSettings(min_score=0.0, min_width=24)
    )
    pixels = draw([BOX], seed=7)
    found = warming.score_picture(detector, pixels, side=110)
    assert found.shape == (80, 110)  # half of 160 x 220
    assert found.min() >= 0
    y, x = (2 * (place + 0.5) for place in np.unravel_index(found.argmax(), found.shape))
    assert BOX[0] <= x <= BOX[2]
    assert BOX[1] <= y <= BOX[3]
    aside = found[:, :40]
    assert found.max() > 4 * np.median(aside)
    empty = warming.score_picture(detector, draw([], seed=7), side=110)
    assert empty.max() < found.max()


def test_more_score_is_more_light() -> None:
    png = warmth.encode(np.linspace(0, 1, 20, dtype=np.float32)[None])
    pixels: Any = np.asarray(Image.open(io.BytesIO(png)).convert("L"), int)[0]
    assert pixels[0] == 0
    assert (np.diff(pixels) > 0).all()
