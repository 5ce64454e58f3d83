"""Medians of the rounds, and their ratios to ours, as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measure import Measured

MIB = 1 << 20


@dataclass(frozen=True)
class Round:
    """One tool's turn."""

    first: Measured
    second: Measured | None
    """The same data again, unchanged; None for a tool that can only store everything again."""
    restore: Measured
    stored_bytes: int


@dataclass(frozen=True)
class Row:
    """One line of the table: how to take the figure from a round, and how to print it."""

    title: str
    value: Callable[[Round], float | None]
    text: Callable[[float], str]


def markdown_table(rounds: Mapping[str, Sequence[Round]], data_bytes: int) -> str:
    """Return the table. The first tool is ours; in brackets stands each other one's value over ours.

    So "(2.0x)" beside a time means: takes twice as long as ours.
    """
    names = list(rounds)
    lines = [_line(["", *names]), _line(["---", *("---:" for _ in names)])]
    for row in _rows(data_bytes):
        values = [_median(rounds[name], row.value) for name in names]
        own = values[0]
        cells = [row.title]
        for number, value in enumerate(values):
            if value is None:
                cells.append("-")
            elif number == 0 or not own:
                cells.append(row.text(value))
            else:
                cells.append(f"{row.text(value)} ({value / own:.2f}x)")
        lines.append(_line(cells))
    return "\n".join(lines)


def _rows(data_bytes: int) -> list[Row]:
    def seconds_and_rate(seconds: float) -> str:
        return f"{seconds:.2f} s, {data_bytes / MIB / seconds:,.0f} MiB/s"

    def seconds(value: float) -> str:
        return f"{value:.2f} s"

    def mebibytes(value: float) -> str:
        return f"{value / MIB:,.0f} MiB"

    return [
        Row("first backup", lambda one: one.first.seconds, seconds_and_rate),
        Row("second backup, unchanged", lambda one: one.second and one.second.seconds, seconds),
        Row("restore", lambda one: one.restore.seconds, seconds_and_rate),
        Row("stored", lambda one: one.stored_bytes, mebibytes),
        Row("processor time, first backup", lambda one: one.first.processor_seconds, seconds),
        Row(
            "processor time, second backup",
            lambda one: one.second and one.second.processor_seconds,
            seconds,
        ),
        Row("processor time, restore", lambda one: one.restore.processor_seconds, seconds),
        Row("peak memory, first backup", lambda one: one.first.peak_bytes, mebibytes),
        Row("peak memory, restore", lambda one: one.restore.peak_bytes, mebibytes),
    ]


def _median(rounds: Sequence[Round], value: Callable[[Round], float | None]) -> float | None:
    values = [found for one in rounds if (found := value(one)) is not None]
    return median(values) if values else None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
