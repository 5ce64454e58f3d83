"""Random operations on a repository, cut off at random calls: what must be there restores equal."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from support.repository_model import RepositoryModel

SECONDS = float(os.environ.get("TORTURE_SECONDS", "600"))
SAMPLE = 60
STEPS = 100
"""Operations on one repository before it is judged and another one is begun."""


def test_a_sample_of_operations(tmp_path: Path) -> None:
    """A fixed sample; it holds work that was done, that met a failing storage, and that was killed."""
    model = RepositoryModel(tmp_path, seed=1)
    for _ in range(SAMPLE):
        model.step()
    model.finish()
    counts = model.counts
    for name in ("backup", "forget", "prune", "repair index", "index file lost", "reopen"):
        assert counts[name] > 0, (name, counts)
    for how in ("failing", "killed"):
        assert sum(count for name, count in counts.items() if name.endswith(how)) >= 2, counts
    assert counts["restores compared"] >= SAMPLE


@pytest.mark.torture
def test_operations_for_a_long_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, one repository after another, for TORTURE_SECONDS; TORTURE_SEED repeats the choices."""
    seed = int(os.environ.get("TORTURE_SEED", str(time.time_ns())))
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    with capsys.disabled():
        print(f"\nmodel test: TORTURE_SEED={seed}")  # noqa: T201 - a failure is found again by it
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        counts["repositories"] += 1
        directory = tmp_path / str(counts["repositories"])
        directory.mkdir()
        model = RepositoryModel(directory, chance.randrange(1 << 32))
        for _ in range(STEPS):
            model.step()
        model.finish()
        counts += model.counts
    row = (
        f"random operations, {SECONDS:.0f} s, seed {seed}",
        str(dict(counts)),
        "all restored equal, restic clean",
    )
    with capsys.disabled():
        print(f"\n| {' | '.join(row)} |")  # noqa: T201 - a line of the committed table
