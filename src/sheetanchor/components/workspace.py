"""A private directory for one piece of work, removed afterwards, also after a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "in-use"


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new directory below `parent`; sweep those of the same prefix that a crash left.

    A directory is in use as long as its lock file is locked, which ends with the process.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, prefix)
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
    lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path, prefix: str, before: Callable[[Path], None] = lambda _: None) -> None:
    """Remove the directories of that prefix which a crash left; `before` is called with each."""
    for left in parent.glob(f"{prefix}-*"):
        _sweep(left, before)


def _sweep(directory: Path, before: Callable[[Path], None]) -> None:
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before(directory)
        shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(lock)


def publish(temporary: Path, final: Path) -> None:
    """Rename a complete file into place, durable on return."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, final)
    descriptor = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
