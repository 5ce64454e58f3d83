"""What a second backup adds when one row in a hundred of a dump has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.contenders import Contender
from bench.dataset import change_dump, make_dump

MIB = 1 << 20
SHARE = 0.01


def print_changes(directory: Path, size: int, contenders: Sequence[Contender]) -> None:
    """Print the bytes that each tool adds, and over ours; the first tool is ours.

    Sizes do not vary from round to round, so each is taken once.
    """
    dump = directory / "dump.sql"
    make_dump(dump, size)
    for contender in contenders:
        contender.begin()
        contender.back_up()
    print(f"\n{size / MIB:,.0f} MiB dump, {SHARE:.0%} of its rows changed since; bytes added:\n")
    print(f"| | {' | '.join(contender.name for contender in contenders)} |")
    print(f"| --- |{' ---: |' * len(contenders)}")
    for title, scattered in (("in one place", False), ("scattered", True)):
        change_dump(dump, SHARE, scattered=scattered)
        added = [_added(contender) for contender in contenders]
        cells = [f"{added[0] / MIB:.1f} MiB"]
        cells += [f"{value / MIB:.1f} MiB ({value / added[0]:.2f}x)" for value in added[1:]]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _added(contender: Contender) -> int:
    before = contender.stored_bytes()
    contender.back_up()
    return contender.stored_bytes() - before
