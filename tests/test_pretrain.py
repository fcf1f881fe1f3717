"""nnst pretrain, and what judges begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from nnst.models import layout, pretrained
from nnst.models.norms import learner

Command = Callable[..., Any]

LABELS = ("background", "mark")
SHAPES = ("M2 2h6v10h20v6H2z", "M2 2h28v4H16v12h-4V6H2z", "M2 18L16 2l14 16z")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three marks, and two photographs of noise."""
    marks, photographs = tmp_path / "marks", tmp_path / "photographs"
    marks.mkdir()
    photographs.mkdir()
    for index, shape in enumerate(SHAPES):
        text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 20"><path d="{shape}"/>'
        (marks / f"mark{index}.svg").write_text(f"{text}</svg>", encoding="utf-8")
    rng = np.random.default_rng(0)
    for index in range(2):
        pixels = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        cv2.imwrite(str(photographs / f"{index}.png"), pixels)
    return marks, photographs


def test_a_file_is_written_that_a_judge_can_begin_with(
    nnst: Command, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resvg_py", reason="draws SVG files; pip install '.[pretrain]'")
    marks, photographs = folders
    out = tmp_path / "own.safetensors"
    few = ("--set", "epochs=1", "--set", "each=2", "--set", "crops=2")
    words = ("pretrain", marks, "--background", photographs, "--out", out, *few)
    done = nnst(*words, "--dry-run")
    assert (done.code, out.exists()) == (0, False)
    assert done.out == "would learn 6 marks from 12 drawings\n"
    done = nnst(*words, "--json")
    assert done.code == 0
    assert done.document["marks"] == 6
    assert done.document["bytes"] == out.stat().st_size
    monkeypatch.setattr(pretrained, "FILE", str(out))
    assert pretrained.begin(a_judge(1.0))


def test_marks_that_are_not_there_are_refused(
    nnst: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("--background", folders[1], "--out", tmp_path / "own.safetensors")
    done = nnst("pretrain", tmp_path / "nowhere", *words)
    assert (done.code, done.out) == (2, "")
    assert "holds fewer than two drawable SVG files" in done.err


def a_judge(aspect: float, **wanted: Any) -> Any:
    spec = layout.cascade_spec(LABELS, aspect, layout.CascadeLayout(**wanted)).stages[1]
    return learner(spec, seed=0)


@pytest.mark.parametrize("aspect", [0.4, 1.0, 2.0, 6.2])
def test_every_judge_begins_with_the_convolutions_that_are_shipped(aspect: float) -> None:
    judge = a_judge(aspect)
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    assert pretrained.begin(judge)
    after = judge.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1].removesuffix("_norm") for name in changed} == {
        f"conv{number}" for number in range(1, 6)
    }
    assert all(torch.isfinite(value).all() for value in after.values())


def test_a_judge_of_other_widths_begins_with_nothing() -> None:
    spec = layout.network_spec("judge", LABELS, (64, 64), context=1.35, widths=(4, 4, 4, 4, 4, 4))
    judge = learner(spec, seed=0)
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    assert not pretrained.begin(judge)
    assert all(torch.equal(before[name], value) for name, value in judge.state_dict().items())
