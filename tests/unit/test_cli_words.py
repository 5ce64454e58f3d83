"""Sizes, durations and names as people read them, and the durations they write."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.cli import words
from sheetanchor.cli.table import table


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (102_400, "100 KiB"), (3 << 19, "1.5 MiB"),
     (1024**2 - 1, "1.0 MiB"), (10 * 1024**3, "10.0 GiB"), (5 * 1024**6, "5120 PiB")],
)  # fmt: skip
def test_sizes_are_powers_of_1024(num_bytes: int | None, text: str) -> None:
    """The unit says which kilo is meant; no size is ever written as 1024 of a unit."""
    assert words.size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
     (185, "3 min 05 s"), (3600, "1 h 00 min"), (7805, "2 h 10 min"), (360_000, "4 d 4 h")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    """Precise where it matters, short where it does not."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("25h", 90_000),
        ("90m", 5400),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1.5h", 5400),
        ("10min", 600),
        ("45s", 45),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """The forms that help and examples show."""
    assert words.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "25", "h", "-1h", "1x", "1h30", "1h-30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit could be hours or seconds: nobody guesses."""
    with pytest.raises(ValueError, match="no duration"):
        words.parse_duration(text)


@pytest.mark.parametrize("text", ["0%", "101%", "5", "%", "-5%", "five%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """A check that would check nothing must not pass for one."""
    with pytest.raises(ValueError, match="no share"):
        words.parse_percent(text)


def test_times_are_local_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own clock, and what it is off from UTC."""
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert words.moment(datetime(2026, 11, 22, 2, 0, 5, 900, tzinfo=UTC)) == "2026-11-22 07:30:05 +05:30"
        monkeypatch.setenv("TZ", "America/St_Johns")
        time.tzset()
        assert words.moment(datetime(2026, 11, 22, 2, 0, 5, tzinfo=UTC)) == "2026-11-21 22:30:05 -03:30"
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_steers_a_terminal_gets_through(text: str) -> None:
    """Whatever a file is called, listing it prints one line of visible characters."""
    shown = words.printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_names_that_are_not_utf8_show_their_bytes() -> None:
    """An escape that a person can type again, not a question mark."""
    assert words.printable(b"caf\xe9\x1b[2J\n".decode("utf-8", "surrogateescape")) == r"caf\xe9\x1b[2J\n"


def test_columns_line_up_for_wide_characters() -> None:
    """A Chinese character takes two columns on a terminal, a combining accent none."""
    lines = table(("NAME", "SIZE"), [("数据", "1 B"), ("e\u0301x", "10 B")], right=("SIZE",))
    assert lines == ["NAME  SIZE", "数据   1 B", "e\u0301x    10 B"]
