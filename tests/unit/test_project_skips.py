"""The test machinery itself: a missing program is a visible skip, and a failure on CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODULE = """
from support.programs import require_program

def test_present():
    assert require_program("sh").endswith("/sh")

def test_absent():
    require_program("no-such-program-anywhere")
"""


@pytest.mark.parametrize(
    ("ci", "status", "summary"), [("", 0, "1 passed, 1 skipped"), ("true", 1, "1 failed, 1 passed")]
)
def test_a_missing_program_skips_here_and_fails_on_ci(
    tmp_path: Path, ci: str, status: int, summary: str
) -> None:
    """A developer without a program sees the reason; on CI the same is red."""
    (tmp_path / "test_it.py").write_text(MODULE)
    (tmp_path / "conftest.py").write_bytes((TESTS / "conftest.py").read_bytes())
    plugins_off = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", *plugins_off, str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert summary in done.stdout
    assert "needs the program no-such-program-anywhere" in done.stdout
