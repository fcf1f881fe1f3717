"""Marks: SVG files to drawings to crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnst.errors import InputError
from nnst.scenes import marks

pytest.importorskip("resvg_py", reason="draws SVG files; pip install '.[pretrain]'")

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20">'
LEFT = '<rect x="4" y="2" width="6" height="16" fill="#f00"/>'
ARM = '<rect x="10" y="2" width="20" height="5" fill="#00f"/>'
BAR = '<rect x="4" y="2" width="32" height="16" fill="#000"/>'


def svg(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.svg").write_text(f"{HEAD}{body}</svg>", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    svg(tmp_path, "hook", LEFT + ARM)
    svg(tmp_path, "bar", BAR)
    return tmp_path


def photographs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(90, 110, (200, 260, 3), dtype=np.uint8)]


def test_a_mark_and_its_mirror_image_are_two(folder: Path) -> None:
    found = [mark.name for mark in marks.read_marks(folder)]
    assert found == ["bar", "bar-mirrored", "hook", "hook-mirrored"]


def test_a_mark_is_cut_to_what_it_shows_and_has_its_colours(folder: Path) -> None:
    hook = marks.read_marks(folder)[2]
    height, width = hook.alpha.shape[:2]
    assert width / height == pytest.approx(26 / 16, rel=0.1)
    assert hook.alpha[height // 2, 3, 0] == 1
    assert hook.alpha[-3, -3, 0] == 0
    np.testing.assert_allclose(hook.colours[height // 2, 3], (255, 0, 0), atol=2)
    np.testing.assert_allclose(hook.colours[3, -3], (0, 0, 255), atol=2)


def test_the_mirror_image_is_mirrored(folder: Path) -> None:
    _, _, hook, mirrored = marks.read_marks(folder)
    assert np.array_equal(hook.alpha[:, ::-1], mirrored.alpha)
    assert np.array_equal(hook.colours[:, ::-1], mirrored.colours)


def test_what_cannot_be_drawn_shows_nothing_or_is_very_long_is_left_out(folder: Path) -> None:
    (folder / "broken.svg").write_text("<svg", encoding="utf-8")
    svg(folder, "empty", "")
    svg(folder, "long", '<rect x="0" y="9" width="40" height="1"/>')
    assert {mark.name for mark in marks.read_marks(folder)} == {
        *("bar", "bar-mirrored", "hook", "hook-mirrored")
    }


def test_fewer_than_two_marks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fewer than two drawable SVG files; give word marks"):
        marks.read_marks(tmp_path)


def test_crops_hold_the_mark_where_their_box_says(folder: Path) -> None:
    found = marks.read_marks(folder)
    drawn = list(marks.drawn_crops(found, photographs(), each=12, seed=3))
    assert [crop.label for crop in drawn] == [mark.name for mark in found for _ in range(12)]
    for crop in drawn:
        x0, y0, x1, y1 = crop.box_in_crop.astype(int)
        height, width = crop.pixels.shape[:2]
        assert 0 < x0 < x1 < width
        assert 0 < y0 < y1 < height
        if crop.label == "bar":  # of one colour, which is black for none but a few
            inside = crop.pixels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].reshape(-1, 3)
            assert inside.std(axis=0).max() < 3


def test_the_same_seed_draws_the_same_crops(folder: Path) -> None:
    found = marks.read_marks(folder)
    one, same, other = (
        [crop.pixels for crop in marks.drawn_crops(found, photographs(), 3, seed)]
        for seed in (1, 1, 2)
    )
    assert all(map(np.array_equal, one, same))
    assert not all(map(np.array_equal, one, other))
