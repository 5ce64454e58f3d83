"""The benchmark itself: it runs, it notices a wrong restore, its ratios point the right way."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from bench.dataset import change_dump, make_dataset, make_dump
from bench.measure import BenchmarkError, Measured, measure
from bench.table import Round, markdown_table
from support.programs import require_program

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_small_benchmark_runs_to_its_end(tmp_path: Path) -> None:
    """All tools back up and restore the same data, which is compared, and the table has all of them."""
    require_program("restic")
    options = ["--size", "8", "--small-files", "50", "--many-files", "80", "--rounds", "1"]
    options += ["--directory", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| Sheetanchor | restic 0." in done.stdout
    assert done.stdout.count("| first backup |") == 2
    assert "8 MiB in 58 files" in done.stdout
    assert "in 88 files" in done.stdout
    assert "| in one place |" in done.stdout
    assert "| scattered |" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_makes_the_same_data(tmp_path: Path) -> None:
    """Two people who run the benchmark measure the same bytes, and as many as they asked for."""
    first = make_dataset(tmp_path / "a", 1 << 20, 20)
    make_dataset(tmp_path / "b", 1 << 20, 20)
    assert subprocess.run(["diff", "-r", tmp_path / "a", tmp_path / "b"], check=False).returncode == 0
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert (len(files), sum(path.stat().st_size for path in files)) == (first.files, first.num_bytes)


@pytest.mark.parametrize("scattered", [False, True])
def test_one_row_in_a_hundred_changes(tmp_path: Path, scattered: bool) -> None:
    """As many rows differ as are said to, all in one run or each far from the next."""
    dump = tmp_path / "dump" / "dump.sql"
    make_dump(dump, 1 << 20)
    before = dump.read_bytes().splitlines()
    change_dump(dump, 0.01, scattered=scattered)
    after = dump.read_bytes().splitlines()
    changed = [number for number, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    assert len(changed) == len(before) // 100
    gaps = {later - earlier for earlier, later in pairwise(changed)}
    assert gaps == ({len(before) // len(changed)} if scattered else {1})


def test_measuring_sees_time_memory_and_failure() -> None:
    """A command's processor time and memory are those of its whole process tree; failure is no result."""
    script = "import time; held = bytearray(b'x') * (64 << 20); time.sleep(0.5); sum(range(10**6))"
    found = measure(["sh", "-c", f'"{sys.executable}" -c "{script}"; true'])
    assert found.seconds >= 0.5
    assert found.processor_seconds < found.seconds
    assert 64 << 20 < found.peak_bytes < 200 << 20
    with pytest.raises(BenchmarkError, match="ended with 7"):
        measure(["sh", "-c", "exit 7"])


def test_ratios_are_the_other_tool_over_ours() -> None:
    """Twice as slow as we are reads "2.00x", and a tool that cannot do it again has no figure."""
    second = Measured(1.0, 1.0, 1 << 20)
    restore = Measured(3.0, 3.0, 1 << 20)
    ours = Round(Measured(2.0, 2.0, 1 << 20), second, restore, 1 << 20)
    other = Round(Measured(4.0, 2.0, 1 << 20), None, restore, 3 << 20)
    lines = markdown_table({"ours": [ours], "other": [other]}, 4 << 20).splitlines()
    assert lines[2] == "| first backup | 2.00 s, 2 MiB/s | 4.00 s, 1 MiB/s (2.00x) |"
    assert lines[3].endswith("| 1.00 s | - |")
    assert "3 MiB (3.00x)" in lines[5]
