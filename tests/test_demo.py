"""`nnst demo`: what it draws, and the commands that it shows. The whole of it takes minutes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nnst import config, imglab
from nnst.errors import ConfigError, InputError
from workflows import __main__ as main
from workflows import demo
from workflows.commands import COMMANDS, Options
from workflows.demo import DemoConfig

FEW = {"scenes": 8, "background": 8, "archive": 8}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures of a small demo."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    demo.draw(DemoConfig(out=str(out), **FEW))
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_draws_pictures_to_learn_from_and_to_search(drawn: Path) -> None:
    for folder, count in FEW.items():
        assert len(list((drawn / folder).glob("*.jpg"))) == count
    learnt = imglab.read(drawn / "scenes" / "truth.xml")
    searched = imglab.read(drawn / "truth.xml")
    assert {box.label for image in learnt.images for box in image.boxes} == {"nnst", "other"}
    assert {box.label for image in searched.images for box in image.boxes} == {"nnst"}
    assert any(not image.boxes for image in searched.images)


def test_dlib_reads_the_truth(drawn: Path) -> None:
    """And finds the same boxes in pictures of the same size."""
    dlib = pytest.importorskip("_dlib_pybind11", reason="dlib-bin is in the test extra")
    for path in (drawn / "scenes" / "truth.xml", drawn / "truth.xml"):
        theirs = dlib.image_dataset_metadata.load_image_dataset_metadata(str(path))
        ours = imglab.read(path)
        assert [image.filename for image in theirs.images] == [image.file for image in ours.images]
        for other, image in zip(theirs.images, ours.images, strict=True):
            found = [
                (box.rect.left(), box.rect.top(), box.rect.width(), box.rect.height(), box.label)
                for box in other.boxes
            ]
            assert found == [
                (box.left, box.top, box.width, box.height, box.label) for box in image.boxes
            ]


def test_no_photograph_is_both_learnt_from_and_searched(drawn: Path) -> None:
    """A picture's name ends in its photograph's."""
    shots = {
        folder: {path.stem.partition("-")[2] for path in (drawn / folder).glob("*.jpg")}
        for folder in FEW
    }
    assert shots["archive"]
    assert shots["archive"] & (shots["scenes"] | shots["background"]) == set()


def test_the_same_seed_draws_the_same_files_and_another_others(drawn: Path, tmp_path: Path) -> None:
    demo.draw(DemoConfig(out=str(tmp_path / "again"), **FEW))
    demo.draw(DemoConfig(out=str(tmp_path / "other"), seed=1, **FEW))
    first, again, other = files(drawn), files(tmp_path / "again"), files(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first if name.endswith(".jpg"))


def dry_run(**values: Any) -> Any:
    return demo.run(DemoConfig(**values), Options(dry_run=True))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    outcome = dry_run(out=str(tmp_path / "demo"), **FEW)
    assert list(tmp_path.iterdir()) == []
    assert outcome.document["pictures"] == FEW
    assert "would draw 24 pictures" in outcome.text
    json.dumps(outcome.document)


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The verb of a command line and its settings, as the command line itself reads them."""
    program, verb, *rest = shlex.split(line)
    assert program == "nnst"
    given = vars(main._parser(verb, COMMANDS[verb]).parse_intermixed_args(rest))
    for name in ("json", "dry_run", "fresh"):
        del given[name]
    return verb, main._values(given)


def test_the_commands_that_it_shows_are_those_that_it_runs(tmp_path: Path) -> None:
    """Typed at a prompt, each gives its verb the very settings that the demo does."""
    settings = DemoConfig(out=str(tmp_path / "a demo"), seed=3, epochs=2, steps=7)
    steps = demo.steps(settings, "demo/5")
    lines = [demo.command_line(verb, values) for verb, values in steps.items()]
    assert [parsed(line)[0] for line in lines] == ["crop", "train", "scan", "evaluate", "report"]
    for line in lines:
        verb, values = parsed(line)
        cls = main.config_class(verb)
        assert config.build(cls, values) == config.build(cls, steps[verb])


def test_settings_reach_the_verbs_that_they_are_of() -> None:
    found = demo.steps(DemoConfig(seed=3, epochs=2, steps=7, min_width=61), "demo/5")
    assert found["train"] | {"epochs": 2, "seed": 3, "training": {"steps": 7}} == found["train"]
    assert found["scan"] | {"model": "demo/5", "min_width": 61} == found["scan"]


def test_the_next_commands_that_a_person_may_try_are_commands() -> None:
    text = demo.next_commands()
    assert [parsed(line)[0] for line in text] == ["crop", "train", "scan", "report", "ui"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """With --fresh too, and nothing in it is touched."""
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.jpg").write_bytes(b"holiday")
    before = files(tmp_path)
    for options in (Options(), Options(fresh=True)):
        with pytest.raises(InputError, match="is not empty"):
            demo.run(DemoConfig(out=str(tmp_path), **FEW), options)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "values",
    [{"scenes": 3}, {"archive": 0}, {"seed": -1}, {"out": "s3://bucket/demo"}],
    ids=lambda values: next(iter(values)),
)
def test_settings_that_make_no_demo_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config.build(DemoConfig, values)
