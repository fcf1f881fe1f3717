"""Settings as frozen dataclasses, filled from a TOML file and `key=value` overrides.

A setting is a dataclass field; its type says what it takes, `setting(default, help)` what it is
for. A field that is itself a dataclass is a group: `[augment]` in TOML, `augment.rotate=5` as an
override.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from nnst.errors import ConfigError

T = TypeVar("T")


def setting(default: Any = dataclasses.MISSING, help: str = "") -> Any:
    """A dataclass field with a default (none: it must be given) and a line of help."""
    return dataclasses.field(default=default, metadata={"help": help})


def group(cls: type, help: str = "") -> Any:
    """A dataclass field that is a group of settings, by default all of the group's defaults."""
    return dataclasses.field(default_factory=cls, metadata={"help": help})


def build(cls: type[T], values: Mapping[str, Any], source: str = "") -> T:
    """An instance of the dataclass from nested values; strings are turned into the field's type.

    Raises ConfigError for an unknown key (with the nearest name), a value of the wrong type, and
    whatever the dataclass itself refuses by ValueError.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    where = f" in {source}" if source else ""
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"no setting {key!r}{where}", _nearest(key, fields))
        given[key] = _convert(value, hints[key], f"{key}{where}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise ConfigError(f"no value for {name!r}{where}", f"give it with --set {name}=VALUE")
    try:
        return cls(**given)
    except ValueError as error:
        raise ConfigError(f"{error}{where}") from None


def read(path: str | Path) -> dict[str, Any]:
    """The nested values of a TOML file. Raises ConfigError when it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"no file {path}", "give --config the path of a TOML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", "quote text, write key = value") from None


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """The values with each `key=value` or `group.key=value` laid over them, in order."""
    result = _copy(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"cannot use --set {assignment!r}", "write --set key=value")
        *groups, name = key.strip().split(".")
        target = result
        for part in groups:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{part!r} in --set {assignment!r} is not a group of settings")
        target[name] = text.strip()
    return result


def to_dict(config: Any) -> dict[str, Any]:
    """The settings as plain nested values that JSON can hold."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting as ("group.key", value)."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of `{"group.key": value}`."""
    result: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, key = name.split(".")
        target = result
        for part in groups:
            target = target.setdefault(part, {})
        target[key] = value
    return result


def to_toml(values: Mapping[str, Any]) -> str:
    """Nested values as TOML that `read` reads; None, which TOML does not know, is left out."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"  # of these values JSON and TOML agree
        for key, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    groups = [(key, value) for key, value in values.items() if isinstance(value, Mapping)]
    return "\n".join([*lines, *_toml_groups(groups, "")]) + "\n"


def _toml_groups(groups: Sequence[tuple[str, Mapping[str, Any]]], above: str) -> Iterator[str]:
    for key, values in groups:
        name = f"{above}{key}"
        yield f"\n[{name}]"
        inner = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
        if inner:
            yield to_toml(inner).rstrip("\n")
        below = [(k, v) for k, v in values.items() if isinstance(v, Mapping)]
        yield from _toml_groups(below, f"{name}.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed, a line each: `key: old -> new`; two values are one when their JSON is."""
    before, after = dict(flatten(old)), dict(flatten(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if (key in before) != (key in after) or _as_json(before[key]) != _as_json(after[key])
    ]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def parse_window(text: str) -> tuple[int, int]:
    """(height, width) of a window written as people write it, `WIDTHxHEIGHT`."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(re.fullmatch(r"\s*\d{1,9}\s*", part) for part in parts):
        raise ConfigError(f"cannot use {text!r} as a window", "write WIDTHxHEIGHT, as in 75x22")
    width, height = (int(part) for part in parts)
    if not (8 <= width <= 512 and 8 <= height <= 512):
        raise ConfigError(f"a window of {text} is out of range", "each side takes 8 to 512 pixels")
    return height, width


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _convert(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint wants it."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_optional(value, hint, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a group of settings", "set its keys one by one")
        return build(typing.cast("type", hint), value, where)
    if origin is Literal:
        return _convert_literal(value, get_args(hint), where)
    if origin is tuple:
        return _convert_tuple(value, get_args(hint), where)
    return _convert_scalar(value, hint, where)


def _convert_optional(value: Any, hint: Any, where: str) -> Any:
    if value is None or value == "none":
        return None
    (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
    return _convert(value, inner, where)


def _convert_literal(value: Any, allowed: tuple[Any, ...], where: str) -> Any:
    for choice in allowed:
        if isinstance(value, str | type(choice)) and str(value) == str(choice):
            return choice
    raise ConfigError(f"{where} cannot be {value!r}", f"one of {', '.join(map(str, allowed))}")


def _convert_tuple(value: Any, inner: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, str | list | tuple):
        raise ConfigError(f"{where} cannot be {value!r}", "it takes a list")
    items = [part for part in value.split(",") if part] if isinstance(value, str) else value
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_convert(item, inner[0], where) for item in items)
    if len(items) != len(inner):
        raise ConfigError(f"{where} takes {len(inner)} values, got {len(items)}")
    return tuple(_convert(item, hint, where) for item, hint in zip(items, inner, strict=True))


def _convert_scalar(value: Any, hint: Any, where: str) -> Any:
    words = {"true": True, "false": False, "1": True, "0": False}
    try:
        if hint is bool:
            return value if isinstance(value, bool) else words[str(value).lower()]
        if hint is str and isinstance(value, str):
            return value
        if hint is int and isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)
        if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):  # JSON has no other
                return number
    except (KeyError, ValueError, OverflowError):
        pass
    kind = {"bool": "true or false", "int": "a whole number", "float": "a finite number"}
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{where} cannot be {value!r}", f"it takes {kind.get(name, name)}")
