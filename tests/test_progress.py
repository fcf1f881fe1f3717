"""What long work says on stderr, at times that the tests make up."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from workflows import progress
from workflows.progress import Progress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=made))
    return made


def test_a_line_tells_done_total_rate_and_time_left(clock: Clock) -> None:
    with Progress("scan", 4000) as shown:
        clock.seconds += 10
        shown.advance(1000)
        assert shown.line() == "scan: 1,000 of 4,000 pictures, 100.0/s, 30 s left"


def test_bad_pictures_are_counted_by_reason(clock: Clock) -> None:
    with Progress("scan", 100) as shown:
        clock.seconds += 1
        shown.advance(30, {"truncated": 2, "empty": 1})
        shown.advance(20, {"empty": 4})
        line = "scan: 50 of 100 pictures, 50.0/s, 7 bad (empty 5, truncated 2), 1 s left"
        assert shown.line() == line


def test_what_was_done_before_is_no_part_of_the_rate(clock: Clock) -> None:
    with Progress("scan", 1000, done=900) as shown:
        clock.seconds += 10
        shown.advance(50)
        assert shown.line() == "scan: 950 of 1,000 pictures, 5.0/s, 10 s left"


def test_before_the_first_item_no_end_is_foretold(clock: Clock) -> None:
    with Progress("train", 14, unit="epochs") as shown:
        clock.seconds += 5
        assert shown.line() == "train: 0 of 14 epochs, 0.0/s"
        clock.seconds = 1000.0  # no time has passed at all
        assert shown.line() == "train: 0 of 14 epochs, 0.0/s"


def test_off_a_terminal_a_line_comes_every_thirty_seconds_and_goes_to_stderr(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("scan", 100) as shown:
        for _ in range(100):  # 100 seconds, an item and many ticks in each
            clock.seconds += 1
            shown.advance(1)
            shown.tick()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "scan: 30 of 100 pictures, 1.0/s, 70 s left",
        "scan: 60 of 100 pictures, 1.0/s, 40 s left",
        "scan: 90 of 100 pictures, 1.0/s, 10 s left",
    ]


def test_work_that_stands_still_still_says_so(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("scan", 100) as shown:
        for _ in range(61):
            clock.seconds += 1
            shown.tick()
    assert capsys.readouterr().err == "scan: 0 of 100 pictures, 0.0/s\n" * 2


def test_short_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scan", 100) as shown:
        clock.seconds += 29
        shown.advance(100)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_is_drawn_and_no_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Progress("scan", 100) as shown:
        clock.seconds += 31
        shown.advance(40)
        shown.advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "42/100" in err
    assert "pictures, " not in err


def test_the_bar_is_put_away_when_the_work_fails(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its thread would go on drawing over the error."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bars = []

    def work() -> None:
        with Progress("scan", 100) as shown:
            bars.append(shown._bar.live)
            assert bars[0].is_started
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        work()
    assert not bars[0].is_started
