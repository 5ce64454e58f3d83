"""A parallel pg_restore that fails is tried again with one worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheetanchor.components.postgres.component import PostgresComponent
from sheetanchor.config.models import PostgresConfig
from sheetanchor.errors import ComponentError, ProcessError
from sheetanchor.events import SilentListener
from sheetanchor.process import Completed, ProcessRunner
from support.component_cases import context
from support.directory_store import DirectorySink, DirectorySource
from support.postgres import run_sql, running_server
from support.postgres_cases import DATA


class CollidingRunner(ProcessRunner):
    """Real programs, but every pg_restore with more than `most` workers fails half-way."""

    def __init__(self, most: int) -> None:
        self.most = most

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        """Run the program; a pg_restore that is to fail has done its work by then."""
        done = super().run(argv, **options)
        jobs = [int(one.removeprefix("--jobs=")) for one in argv if one.startswith("--jobs=")]
        if jobs and jobs[0] > self.most:
            raise ProcessError("pg_restore: exit status 1: a worker process died unexpectedly")
        return done


class KeepingListener(SilentListener):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, task: str, message: str) -> None:
        """Remember it."""
        self.warnings.append(message)


def test_workers_in_each_others_way_are_followed_by_one_alone(tmp_path: Path) -> None:
    """The restore goes through, equal, and says what happened; a failure of the one alone is final."""
    with running_server(18) as server:
        run_sql(server, "postgres", DATA)
        config = PostgresConfig(
            name="postgres", type="postgres", url=server.url(), bin_dir=server.tools.directory, jobs=2
        )
        listener = KeepingListener()
        base = replace(context(tmp_path), listener=listener)
        source = DirectorySource(tmp_path / "store")
        proof = PostgresComponent(config, base).capture(DirectorySink(tmp_path / "store"))
        colliding = PostgresComponent(config, replace(base, processes=CollidingRunner(1)))
        staged = colliding.stage(source, proof, "run-1")
        staged.verify(proof)
        staged.discard()
        assert sum("one worker" in warning for warning in listener.warnings) == len(proof.databases)
        broken = PostgresComponent(config, replace(base, processes=CollidingRunner(0)))
        with pytest.raises(ComponentError, match="died unexpectedly"):
            broken.stage(source, proof, "run-2")
        broken.resume("run-2").discard()
