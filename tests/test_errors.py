"""The exception tree: one line for a person, and whole after a trip to another process."""

from __future__ import annotations

import pickle

import pytest

from nnst import errors
from nnst.errors import (
    ConfigError,
    FetchError,
    ImageError,
    InputError,
    JobBusy,
    JobFailed,
    NnstError,
    PlanChanged,
    TooManyBad,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NnstError("no file a.toml"), "no file a.toml"),
        (NnstError("no file a.toml", "give --config"), "no file a.toml; give --config"),
        (ImageError("corrupt"), "corrupt"),
        (ImageError("corrupt", "bad marker"), "corrupt: bad marker"),
    ],
)
def test_an_error_is_what_happened_and_then_what_to_do(error: NnstError, expected: str) -> None:
    assert str(error) == expected


def test_an_error_is_one_line_even_when_a_file_name_is_not() -> None:
    text = str(InputError("no picture a\nb\r\n\tc.jpg", "remove\nit"))
    assert text == "no picture a b c.jpg; remove it"


@pytest.mark.parametrize(
    "kind", [InputError, ConfigError, PlanChanged, JobBusy, JobFailed, TooManyBad]
)
def test_an_error_survives_pickling(kind: type[NnstError]) -> None:
    """Ray brings the errors of workers to the driver in this way."""
    error = pickle.loads(pickle.dumps(kind("what", "remedy")))
    assert (type(error), error.what, error.remedy) == (kind, "what", "remedy")


def test_an_image_error_survives_pickling_with_its_reason() -> None:
    error = pickle.loads(pickle.dumps(ImageError("truncated", "at byte 9")))
    assert (error.reason, error.detail, str(error)) == (
        "truncated",
        "at byte 9",
        "truncated: at byte 9",
    )


def test_a_fetch_error_survives_pickling_with_what_the_server_said() -> None:
    error = pickle.loads(pickle.dumps(FetchError("rate_limited", "why", 429, 3.0)))
    assert (error.reason, error.detail, error.code, error.wait) == ("rate_limited", "why", 429, 3.0)


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (ConfigError, InputError),  # exit 2
        (PlanChanged, InputError),
        (JobBusy, InputError),
        (InputError, NnstError),
        (ImageError, NnstError),  # a row, not an exit code
        (FetchError, ImageError),
        (JobFailed, NnstError),  # exit 1
        (TooManyBad, NnstError),  # exit 3
    ],
)
def test_the_tree_is_the_one_that_exit_codes_are_read_from(
    kind: type[NnstError], parent: type[NnstError]
) -> None:
    assert kind.__base__ is parent


def test_every_error_stands_in_the_tree_that_the_module_draws() -> None:
    tree = errors.__doc__ or ""
    kinds = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, NnstError)
    ]
    assert len(kinds) >= 8
    assert [kind.__name__ for kind in kinds if kind.__name__ not in tree] == []
