"""Settings: from TOML and key=value to frozen dataclasses, with an error that a person can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnst import config
from nnst.config import group, setting
from nnst.errors import ConfigError

FEW = settings(max_examples=80, deadline=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Blur:
    sigma: float = setting(1.0, "pixels")


@dataclasses.dataclass(frozen=True, slots=True)
class Augment:
    rotate: float = setting(5.0, "degrees")
    flip: bool = setting(False, "left and right")
    blur: Blur = group(Blur, "soft pictures")


@dataclasses.dataclass(frozen=True, slots=True)
class Train:
    name: str = setting(help="the model's name")
    epochs: int = setting(20, "passes over the crops")
    model: Literal["mlp", "lenet"] = setting("lenet", "the network")
    workers: Literal[1, 2, 4] = setting(1, "processes")
    window_hw: tuple[int, int] | None = setting(None, "pixels")
    scales: tuple[float, ...] = setting((0.5, 1.0), "sizes")
    labels: tuple[str, ...] = setting((), "which logos")
    limit: int | None = setting(None, "at most so many pictures")
    augment: Augment = group(Augment, "random changes")

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    augment: Augment


def built(*assignments: str) -> Train:
    return config.build(Train, config.override({"name": "pare"}, assignments))


# --- build


def test_what_is_not_given_has_its_default() -> None:
    assert built() == Train(name="pare")
    assert built().augment.blur.sigma == 1.0


def test_toml_and_overrides_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text(
        'name = "pare"\nepochs = 3\nmodel = "mlp"\nworkers = 2\nwindow_hw = [22, 75]\n'
        'scales = [1, 2.5]\nlabels = ["a", "b"]\nlimit = 7\n'
        "[augment]\nrotate = 9\nflip = true\n[augment.blur]\nsigma = 0.5\n"
    )
    expected = Train(
        name="pare",
        epochs=3,
        model="mlp",
        workers=2,
        window_hw=(22, 75),
        scales=(1.0, 2.5),
        labels=("a", "b"),
        limit=7,
        augment=Augment(9.0, True, Blur(0.5)),
    )
    assert config.build(Train, config.read(file), str(file)) == expected
    assert expected == built(
        "epochs=3",
        "model=mlp",
        "workers=2",
        "window_hw=22,75",
        "scales=1,2.5",
        "labels=a,b",
        "limit=7",
        "augment.rotate=9",
        "augment.flip=true",
        "augment.blur.sigma=0.5",
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)],
)
def test_a_switch_takes_the_words_for_true_and_false(word: str, expected: bool) -> None:
    assert built(f"augment.flip={word}").augment.flip is expected


def test_none_takes_a_setting_back_to_no_value() -> None:
    given_values = {"name": "pare", "limit": 7, "window_hw": [22, 75]}
    found = config.build(Train, config.override(given_values, ["limit=none", "window_hw=none"]))
    assert (found.limit, found.window_hw) == (None, None)


def test_an_empty_list_is_a_value() -> None:
    assert built("scales=").scales == ()


def test_a_number_given_for_a_word_stays_text() -> None:
    assert built("name=3").name == "3"


@pytest.mark.parametrize(
    ("assignment", "what", "remedy"),
    [
        ("epoch=3", "no setting 'epoch'", "did you mean 'epochs'?"),
        ("augment.rotat=3", "no setting 'rotat' in augment", "did you mean 'rotate'?"),
        ("augment.blur.sgma=3", "no setting 'sgma' in blur in augment", "did you mean 'sigma'?"),
        ("zzz=3", "no setting 'zzz'", "known are augment, epochs, labels"),
        ("epochs=many", "epochs cannot be 'many'", "a whole number"),
        ("epochs=2.5", "epochs cannot be '2.5'", "a whole number"),
        ("epochs=", "epochs cannot be ''", "a whole number"),
        ("epochs=0", "epochs must be at least 1, got 0", ""),  # the dataclass's own word
        ("limit=few", "limit cannot be 'few'", "a whole number"),
        ("augment.rotate=far", "rotate in augment cannot be 'far'", "a finite number"),
        ("augment.rotate=nan", "rotate in augment cannot be 'nan'", "a finite number"),
        ("augment.rotate=inf", "rotate in augment cannot be 'inf'", "a finite number"),
        ("augment.flip=maybe", "flip in augment cannot be 'maybe'", "true or false"),
        ("augment=3", "augment is a group of settings", "one by one"),
        ("model=resnet", "model cannot be 'resnet'", "one of mlp, lenet"),
        ("workers=3", "workers cannot be '3'", "one of 1, 2, 4"),
        ("window_hw=22", "window_hw takes 2 values, got 1", ""),
        ("window_hw=22,75,3", "window_hw takes 2 values, got 3", ""),
        ("window_hw=22,wide", "window_hw cannot be 'wide'", "a whole number"),
        ("scales=1,b", "scales cannot be 'b'", "a finite number"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(
    assignment: str, what: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        built(assignment)
    assert what in caught.value.what
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("name", None),
        ("epochs", True),  # Python would take it for 1
        ("epochs", 3.0),
        ("epochs", [3]),
        ("workers", True),
        ("workers", 2.0),
        ("window_hw", 22),
        ("window_hw", {"height": 22}),
        ("scales", 1.0),
        ("scales", [[1.0]]),
        ("labels", [1]),
        ("augment", None),
        ("augment", {"rotate": True}),
        ("augment", {"rotate": float("inf")}),
        ("augment", {"rotate": 10**400}),
        ("augment", {"flip": 2}),
        ("augment", {"flip": "yes please"}),
        ("model", ["lenet"]),
    ],
)
def test_a_toml_value_of_the_wrong_type_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        config.build(Train, {"name": "pare", key: value})


def test_a_refusal_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'epoch' in a\.toml; did you mean 'epochs'"):
        config.build(Train, {"name": "pare", "epoch": 3}, "a.toml")


def test_a_setting_without_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match="no value for 'name'; give it with --set name=VALUE"):
        config.build(Train, {})


def test_a_group_without_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match="no value for 'augment'"):
        config.build(Scan, {})
    assert config.build(Scan, {"augment": {}}) == Scan(Augment())


# --- override


def test_overrides_are_laid_in_order_and_leave_the_values_alone() -> None:
    values = {"epochs": 1, "augment": {"rotate": 2.0}}
    found = config.override(values, ["epochs=3", "augment.flip=1", "epochs = 4 "])
    assert found == {"epochs": "4", "augment": {"rotate": 2.0, "flip": "1"}}
    assert values == {"epochs": 1, "augment": {"rotate": 2.0}}


def test_an_override_may_hold_an_equals_sign() -> None:
    assert config.override({}, ["name=a=b"]) == {"name": "a=b"}


@pytest.mark.parametrize("assignment", ["epochs", "=3", "", " = "])
def test_an_override_without_key_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="write --set key=value"):
        config.override({}, [assignment])


def test_a_setting_is_no_group() -> None:
    with pytest.raises(ConfigError, match=r"'epochs' in --set 'epochs\.x=1' is not a group"):
        config.override({"epochs": 1}, ["epochs.x=1"])


# --- read


@pytest.mark.parametrize(
    "text",
    [
        b"epochs = many",  # a word without quotes
        b"epochs: 3",  # YAML
        b"[augment\n",
        b"epochs = 1\nepochs = 2",
        b"name = \xff",  # not UTF-8
        b"\x00\x01",
    ],
)
def test_a_file_that_is_no_toml_is_one_line_with_its_name(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=r"bad\.toml") as caught:
        config.read(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*none\.toml; give --config"):
        config.read(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        config.read(tmp_path)


# --- to_dict, flatten, differences


@st.composite
def trains(draw: st.DrawFn) -> Train:
    number = st.floats(-1e6, 1e6)
    text = st.text(max_size=8)
    return Train(
        name=draw(text),
        epochs=draw(st.integers(1, 10**9)),
        model=draw(st.sampled_from(["mlp", "lenet"])),
        workers=draw(st.sampled_from([1, 2, 4])),
        window_hw=draw(st.none() | st.tuples(st.integers(8, 512), st.integers(8, 512))),
        scales=tuple(draw(st.lists(number, max_size=3))),
        labels=tuple(draw(st.lists(text, max_size=3))),
        limit=draw(st.none() | st.integers()),
        augment=Augment(draw(number), draw(st.booleans()), Blur(draw(number))),
    )


@FEW
@given(trains())
def test_settings_come_back_from_their_plain_values(train: Train) -> None:
    values = config.to_dict(train)
    assert config.build(Train, values) == train
    assert config.differences(values, config.to_dict(config.build(Train, values))) == []


@FEW
@given(trains())
def test_numbers_come_back_from_their_text(train: Train) -> None:
    """A person may repeat on the command line what a run's record shows."""
    kept = {"epochs", "model", "workers", "limit", "augment.rotate", "augment.blur.sigma"}
    flat = dict(config.flatten(config.to_dict(train)))
    found = built(*(f"{key}={str(flat[key]).lower()}" for key in sorted(kept)))
    assert {key: dict(config.flatten(config.to_dict(found)))[key] for key in kept} == {
        key: flat[key] for key in kept
    }


def test_flatten_names_a_setting_with_its_groups() -> None:
    values = {"a": 1, "b": {"c": [2, 3], "d": {"e": None}}}
    assert list(config.flatten(values)) == [("a", 1), ("b.c", [2, 3]), ("b.d.e", None)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"b": {"c": 1}, "a": 0}, {"b": {"c": 2}, "a": 9}, ["a: 0 -> 9", "b.c: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> absent"]),
        ({}, {"a": None}, ["a: absent -> None"]),  # a fingerprint tells these apart too
        ({"a": 5}, {"a": 5.0}, ["a: 5 -> 5.0"]),
        ({"a": 1}, {"a": True}, ["a: 1 -> True"]),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),  # one before and one after its trip through JSON
    ],
)
def test_differences_are_a_line_each(
    old: Mapping[str, Any], new: Mapping[str, Any], expected: list[str]
) -> None:
    assert config.differences(old, new) == expected


# --- parse_window


@pytest.mark.parametrize("text", ["75x22", "75X22", " 75 x 22 "])
def test_a_window_is_written_width_first_and_comes_back_height_first(text: str) -> None:
    assert config.parse_window(text) == (22, 75)


@FEW
@given(st.integers(8, 512), st.integers(8, 512))
def test_every_window_in_range_comes_back(width: int, height: int) -> None:
    assert config.parse_window(f"{width}x{height}") == (height, width)


NO_WINDOWS = ["", "x", "75", "75x", "x22", "75x22x3", "75*22", "-75x22", "7.5x22", "axb"]
OUT_OF_RANGE = ["7x22", "75x7", "513x22", "75x513", "0x0", "9" * 5_000 + "x22"]


@pytest.mark.parametrize("text", NO_WINDOWS + OUT_OF_RANGE, ids=lambda text: text[:12])
def test_what_is_no_window_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write WIDTHxHEIGHT|8 to 512 pixels"):
        config.parse_window(text)


@FEW
@given(st.text(alphabet="0123456789xX ²٣-.", max_size=10))
def test_any_text_is_a_window_or_a_refusal(text: str) -> None:
    try:
        height, width = config.parse_window(text)
    except ConfigError:
        return
    assert 8 <= height <= 512
    assert 8 <= width <= 512


# --- Settings as TOML


def test_what_is_written_as_toml_is_read_again(tmp_path: Path) -> None:
    values = {
        "name": 'a "quoted" näme\\ with\ttab',
        "seed": 3,
        "share": 1e-05,
        "widths": [8, 16],
        "names": ["a", "b"],
        "fresh": True,
        "training": {"steps": 60, "augment": {"rotate": 7.5}},
        "cascade": {"deep": {"deeper": {"mined": 4}}},
    }
    path = tmp_path / "settings.toml"
    path.write_text(config.to_toml(values | {"gpus": None}), encoding="utf-8")
    assert config.read(path) == values


def test_dotted_names_become_groups() -> None:
    flat = {"a": 1, "b.c": 2, "b.d.e": 3}
    assert config.nested(flat) == {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert dict(config.flatten(config.nested(flat))) == flat
