"""The demonstration: it goes all the way, notices a difference, and respects what is not its own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sheetanchor.demo import servers
from sheetanchor.demo.place import Place
from sheetanchor.demo.report import compare, show_verdict, states_table
from sheetanchor.errors import UsageError

PROGRAM = Path(sys.executable).with_name("sheetanchor")


def _demo(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [str(PROGRAM), "demo", "--directory", str(directory), *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_everything_that_was_destroyed_comes_back(tmp_path: Path) -> None:
    """Fill, back up, destroy, restore: equal by what the live servers say; what was there is replaced."""
    directory = tmp_path / "a demonstration"
    Place(directory).create()
    (directory / "uploads").mkdir()
    (directory / "uploads" / "of an earlier one").touch()
    try:
        done = _demo(directory)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "compared values are equal." in done.stdout
        assert "DROP DATABASE shop" in done.stdout
        assert "recovery time" in done.stdout
        assert not (directory / "uploads" / "of an earlier one").exists()
        assert _demo(directory, "--stop").stdout == "The servers are stopped.\n"
        assert _demo(directory, "--stop").stdout == "No server was running.\n"
    finally:
        servers.stop(Place(directory).servers)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A demonstration never removes what it did not make."""
    (tmp_path / "precious").write_text("mine")
    done = _demo(tmp_path)
    assert done.returncode == UsageError.exit_code
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_difference_is_shown_and_counts() -> None:
    """One value that did not come back makes the verdict red; so does one that was not there before."""
    before = {"postgres shop.orders": "20,000 rows 1a", "redis keys": "5"}
    restored = {"postgres shop.orders": "19,999 rows 2b", "redis keys": "5", "uploads files": "1"}
    compared = compare(before, {}, restored)
    output = io.StringIO()
    console = Console(file=output, width=110)
    console.print(states_table(compared))
    assert show_verdict(console, compared) is False
    assert output.getvalue().count("NO ") == 2
    assert "NOT EQUAL: postgres shop.orders, uploads files" in output.getvalue()
    assert show_verdict(console, compare(before, {}, before)) is True
