"""The exception tree. Every error that nnst raises on purpose says what, where, and what to do.

NnstError
├── InputError         what was given cannot be used: a file, an argument, a model        exit 2
│   ├── ConfigError    a setting that does not exist or cannot hold this value
│   ├── PlanChanged    an output folder that belongs to another job
│   └── JobBusy        another driver is at work on this output folder
├── ImageError         one picture cannot be used; becomes a row with this reason, never a stop
│   └── FetchError     one address could not be fetched
├── JobFailed          the work was planned and could not be done                        exit 1
│   └── JobEnded       a job of a cluster ended otherwise than well             exit of the job
└── TooManyBad         the work is done, with more bad pictures than allowed             exit 3
"""

from __future__ import annotations

from typing import Any


class NnstError(Exception):
    """One line for a person: `what, with where` and, after a semicolon, what to do about it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.what}; {self.remedy}" if self.remedy else self.what
        return " ".join(text.split())  # a name taken from a hostile file may hold line breaks


class InputError(NnstError):
    """What the person gave cannot be used as it is."""


class ConfigError(InputError):
    """A setting does not exist, or cannot hold the value it was given."""


class PlanChanged(InputError):
    """The output folder holds another job, or the same job with other inputs, settings or model."""


class JobBusy(InputError):
    """Another driver is at work on the same output folder."""


class ImageError(NnstError):
    """One picture cannot be used; `reason` is a word of `records.REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ImageError], tuple[Any, ...]]:
        return ImageError, (self.reason, self.detail)


class FetchError(ImageError):
    """One address could not be fetched; `code` is the HTTP status, None where none came.

    `wait` is for how many seconds the server asked to be left alone, None if it did not.
    """

    def __init__(
        self, reason: str, detail: str = "", code: int | None = None, wait: float | None = None
    ) -> None:
        super().__init__(reason, detail)
        self.code = code
        self.wait = wait

    def __reduce__(self) -> tuple[type[ImageError], tuple[Any, ...]]:
        return FetchError, (self.reason, self.detail, self.code, self.wait)


class JobFailed(NnstError):
    """The work was planned and could not be done."""


class JobEnded(JobFailed):
    """A job of a cluster ended otherwise than well; `code` is what its own process ended with."""

    def __init__(self, what: str, remedy: str = "", code: int = 1) -> None:
        super().__init__(what, remedy)
        self.code = code

    def __reduce__(self) -> tuple[type[JobEnded], tuple[Any, ...]]:
        return JobEnded, (self.what, self.remedy, self.code)


class TooManyBad(NnstError):
    """The work is done and committed, with more bad pictures than `max_bad` allows."""
