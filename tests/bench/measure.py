"""Runs a command and measures it: wall clock, processor time, memory of the whole process tree."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

SAMPLE_SECONDS = 0.1


class BenchmarkError(Exception):
    """A measured command failed, or did not do what is measured."""


@dataclass(frozen=True)
class Measured:
    """One run."""

    seconds: float
    processor_seconds: float
    """User and system time of the process and all its children."""
    peak_bytes: int
    """Highest sum of PSS over the tree, sampled ten times a second: shared pages count once."""


def measure(
    argv: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Measured:
    """Run `argv` to its end. Raises BenchmarkError when it fails, with the end of its output."""
    os.sync()  # what earlier runs wrote must not be flushed at this run's expense
    before = os.times()
    with TemporaryFile() as output:
        begin = time.monotonic()
        child = subprocess.Popen(
            argv,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak = 0
        while True:
            try:
                child.wait(SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, _tree_bytes(child.pid))
        seconds = time.monotonic() - begin
        if child.returncode != 0:
            output.seek(0)
            tail = output.read()[-2000:].decode(errors="replace")
            raise BenchmarkError(f"{argv[0]} ended with {child.returncode}:\n{tail}")
    after = os.times()
    used = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    return Measured(seconds, used, peak)


def _tree_bytes(root: int) -> int:
    """Return the memory of a process and its descendants, as proportional set size (proc(5))."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:  # it has ended meanwhile
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    tree = {root}
    found = True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    return sum(_proportional_bytes(pid) for pid in tree)


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
