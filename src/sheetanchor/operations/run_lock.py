"""One run at a time for a stack on this machine: two backups never overlap (R17).

The repository's own locks allow many writers; this one is about the stack. It is held by the
kernel (flock), so a killed run never blocks the next one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheetanchor.errors import RepositoryLockedError, SheetanchorError
from sheetanchor.operations.environment import Environment


@contextmanager
def only_run(environment: Environment, what: str) -> Iterator[None]:
    """Hold the stack's run lock; what killed runs left is removed first.

    Raises RepositoryLockedError (exit code 11) naming the run that holds it.
    """
    with run_lock(environment.state_directory, what):
        for component in environment.components.values():
            component.sweep()
        yield


@contextmanager
def run_lock(directory: Path, what: str) -> Iterator[None]:
    """Hold the stack's run lock while doing `what`.

    Raises RepositoryLockedError (exit code 11) naming the run that holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SheetanchorError(
            f"{directory}: the state directory cannot be written: {error.strerror}",
            hint="set state_directory in the configuration",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise RepositoryLockedError(
                f"another run for this stack is going on: {holder or 'just starting'}",
                hint="wait for it to end; two runs for one stack never overlap",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{what} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(descriptor)
