"""Repositories for tests: made quickly, written to in a line, and judged by stock restic."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from sheetanchor.clock import SystemClock
from sheetanchor.events import Listener
from sheetanchor.repository.backend.base import Backend
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.codec import Compression
from sheetanchor.repository.ids import Id
from sheetanchor.repository.model import TreeSaved
from sheetanchor.repository.options import Options
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.scrypt import ScryptParameters
from sheetanchor.repository.snapshot import Snapshot, StoredSnapshot
from sheetanchor.secret import Secret
from support.programs import require_program

PASSWORD = "correct horse"
CHEAP = ScryptParameters(n=1024, r=8, p=1)


def create(
    place: Path | Backend, *, version: int = 2, compression: Compression = Compression.AUTO
) -> Repository:
    """Make a repository in a directory or backend, with a cheap key."""
    backend = LocalBackend(place) if isinstance(place, Path) else place
    return Repository.create(
        backend,
        Secret(PASSWORD),
        options=Options(compression=compression),
        clock=SystemClock(),
        scrypt=CHEAP,
        version=version,
    )


def open_repository(place: Path | Backend, *, listener: Listener | None = None) -> Repository:
    """Open a repository that `create` or `restic` made."""
    backend = LocalBackend(place) if isinstance(place, Path) else place
    return Repository.open(
        backend, Secret(PASSWORD), options=Options(), clock=SystemClock(), listener=listener
    )


def back_up(
    repository: Repository,
    directory: Path,
    *,
    root: str = "/volumes/data",
    parent: Id | None = None,
    exclude: Sequence[str] = (),
) -> tuple[StoredSnapshot, TreeSaved]:
    """Store a directory as a snapshot whose only content it is."""
    with repository.writer() as session:
        tree_writer = session.tree(root)
        saved = tree_writer.write_directory("", directory, parent=parent, exclude=exclude)
        tree = tree_writer.finish()
        session.flush()
        return repository.save_snapshot(draft(tree, root)), saved


def draft(tree: Id, path: str) -> Snapshot:
    """Return a snapshot to be saved."""
    return Snapshot(time_ns=time.time_ns(), tree=tree, paths=(path,), hostname="test", tags=("a", "b"))


def restic(repository: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run stock restic on the repository in a directory; an exit status other than 0 fails the test."""
    done = subprocess.run(
        [require_program("restic"), "--no-cache", *arguments],
        env={**os.environ, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if check:
        assert done.returncode == 0, f"restic {arguments}: {done.stdout}{done.stderr}"
    return done
