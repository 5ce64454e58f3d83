"""File system steps that have to survive a crash: durable writes, renames, careful removal."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheetanchor.errors import ComponentError, NoSpaceError

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an OSError into a ComponentError that begins with `what`, a full disk into NoSpaceError."""
    try:
        yield
    except OSError as error:
        place = f"{shown(error.filename)}: " if error.filename is not None else ""
        message = f"{what}: {place}{error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                message, hint="free space on this file system, or restore with --in-place"
            ) from error
        raise ComponentError(message) from error


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """Return a path for people; bytes that are no UTF-8 appear as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def exchange(first: Path, second: Path) -> bool:
    """Swap two names in one atomic step (renameat2 with RENAME_EXCHANGE).

    Returns False where the kernel or the file system cannot. Raises OSError for other failures.
    """
    return _renameat2(first, second, RENAME_EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename, refusing a `target` that exists. Raises FileExistsError."""
    if _renameat2(source, target, RENAME_NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    os.rename(source, target)


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    if call(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(directory: Path) -> None:
    """Make everything on the file system of `directory` durable (syncfs; sync where it is missing)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if call is None:
            os.sync()
        elif call(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(directory))
    finally:
        os.close(descriptor)


def write_durably(file: Path, data: bytes) -> None:
    """Write a small file whole or not at all; durable on return."""
    temporary = file.with_name(file.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as writer:
        writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    os.rename(temporary, file)
    sync_directory(file.parent)


def remove_tree(path: Path) -> None:
    """Remove a file, or a directory with all below it; what is gone already is no error.

    Works by directory descriptors, never follows a symbolic link and never crosses into another
    file system: raises OSError (EXDEV) there.
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _remove_directory(path.name, parent, found.st_dev)
    finally:
        os.close(parent)


def _remove_directory(name: str, parent: int, device: int) -> None:
    try:
        here = _open_directory(name, parent)
    except FileNotFoundError:
        return
    try:
        if os.fstat(here).st_dev != device:
            raise OSError(errno.EXDEV, "another file system is mounted here", name)
        with os.scandir(here) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_directory in found:
            if is_directory:
                _remove_directory(child, here, device)
            else:
                _unlink(child, here)
    finally:
        os.close(here)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _open_directory(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        descriptor = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, flags, dir_fd=parent)
    if not os.fstat(descriptor).st_mode & stat.S_IWUSR:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _unlink(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
