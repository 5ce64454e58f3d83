"""Plain aligned columns: the same on a terminal and in a pipe."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table; the columns named in `right` are aligned to the right."""
    body = [headings, *rows]
    widths = [max(_width(row[column]) for row in body) for column in range(len(headings))]
    flush_right = [heading in right for heading in headings]
    return [
        "  ".join(
            _padded(cell, width, to_right)
            for cell, width, to_right in zip(row, widths, flush_right, strict=True)
        ).rstrip()
        for row in body
    ]


def _padded(cell: str, width: int, to_right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if to_right else cell + space


def _width(text: str) -> int:
    """Return how many columns a terminal needs: wide East Asian characters take two."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
