"""What the demonstration shows at its end: states side by side, sizes, rates, the recovery time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

GONE = "gone"
NOTHING = "nothing"
_MIB = 1 << 20


@dataclass(frozen=True)
class Compared:
    """One thing at three moments."""

    name: str
    before: str
    destroyed: str
    restored: str

    @property
    def is_equal(self) -> bool:
        """Say whether the restore brought back what was there."""
        return self.before == self.restored

    @property
    def is_empty(self) -> bool:
        """Say whether there was nothing before and is nothing after."""
        return self.is_equal and self.before.endswith(NOTHING)


def compare(
    before: Mapping[str, str], destroyed: Mapping[str, str], restored: Mapping[str, str]
) -> list[Compared]:
    """Put three descriptions of the live state side by side; what is missing in one is `gone`."""
    names = [*before, *(name for name in restored if name not in before)]
    return [
        Compared(name, before.get(name, GONE), destroyed.get(name, GONE), restored.get(name, GONE))
        for name in names
    ]


def states_table(compared: Sequence[Compared]) -> Table:
    """Return the table that compares before and after; what was empty all the time is left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("before", "after the disaster", "restored"):
        table.add_column(title, justify="right")
    table.add_column("equal")
    part = ""
    for one in compared:
        if one.is_empty:
            continue
        begin, _, name = one.name.partition(" ")
        if begin != part:
            part = begin
            table.add_section()
            table.add_row(Text(part, "bold"))
        verdict = Text("yes", "green") if one.is_equal else Text("NO", "bold red")
        table.add_row(f"  {name}", one.before, one.destroyed, one.restored, verdict)
    return table


@dataclass(frozen=True)
class Figures:
    """What was measured on the way."""

    bytes_read: int
    bytes_added: int
    backup_seconds: float
    second_backup_seconds: float
    second_bytes_added: int
    recovery_seconds: float


def figures_table(figures: Figures) -> Table:
    """Return sizes, rates and times."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("")
    rate = figures.bytes_read / _MIB / figures.backup_seconds
    table.add_row("read", f"{figures.bytes_read / _MIB:,.1f} MiB")
    table.add_row("stored", f"{figures.bytes_added / _MIB:,.1f} MiB, deduplicated, compressed, encrypted")
    table.add_row("first backup", f"{figures.backup_seconds:.1f} s, {rate:,.0f} MiB/s")
    added = figures.second_bytes_added / _MIB
    table.add_row("second backup", f"{figures.second_backup_seconds:.1f} s, {added:,.1f} MiB added")
    table.add_row("recovery time", f"{figures.recovery_seconds:.1f} s, from the command to the last check")
    return table


def show_verdict(console: Console, compared: Sequence[Compared]) -> bool:
    """Print whether all is equal; return it."""
    different = [one.name for one in compared if not one.is_equal]
    if different:
        console.print(f"[bold red]NOT EQUAL:[/bold red] {', '.join(different)}", highlight=False)
        return False
    console.print(f"[bold green]All {len(compared)} compared values are equal.[/bold green]", highlight=False)
    return True
