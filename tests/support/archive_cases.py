"""Archives for tests: trees on disk as entries, small archives in every form, hand-made tars."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from sheetanchor.archive.layout import ArchiveForms
from sheetanchor.archive.reader import open_archive
from sheetanchor.archive.writer import ArchiveWriter, ArchiveWritten
from sheetanchor.clock import SystemClock
from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import ArchiveError
from sheetanchor.events import SilentListener
from sheetanchor.secret import Secret

NAME = "backup_20240101_020000"
KEY = Secret("correct horse battery staple")
ALL_FORMS = ArchiveForms(folder=True, tar=True, enc=True)
SQL = b"CREATE TABLE users (id int);\n" * 2000
RDB = b"REDIS0010 not a real one" + os.urandom(3000)

Opener = Callable[[], AbstractContextManager[BinaryIO]]


def entry(path: bytes, kind: EntryType = EntryType.FILE, **fields: object) -> Entry:
    """Return an entry with ordinary values where `fields` says nothing."""
    values: dict[str, object] = {
        "path": path,
        "type": kind,
        "mode": 0o755 if kind is EntryType.DIRECTORY else 0o644,
        "uid": 1234,
        "gid": 4321,
        "user": "somebody",
        "group": "some",
        "mtime_ns": 1_700_000_000_123_456_789,
        "size": 0,
        "link_target": b"",
        "device": 0,
        "links": 1,
        "hardlink_key": None,
        "xattrs": (),
    }
    values.update(fields)
    return Entry(**values)  # type: ignore[arg-type]


def opener(data: bytes) -> Opener:
    """Return a function that opens `data` as a stream."""

    @contextmanager
    def open_data() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return open_data


def file_entry(path: bytes, data: bytes, **fields: object) -> tuple[Entry, Opener]:
    """Return a file with its content."""
    return entry(path, size=len(data), **fields), opener(data)


def small_tree() -> list[tuple[Entry, Opener | None]]:
    """Return a tree of one directory and two files."""
    return [
        (entry(b"", EntryType.DIRECTORY), None),
        file_entry(b"hello.txt", b"hello\n"),
        (entry(b"sub", EntryType.DIRECTORY), None),
        file_entry(b"sub/data.bin", os.urandom(5000)),
    ]


def write_archive(
    directory: Path,
    forms: ArchiveForms = ALL_FORMS,
    *,
    name: str = NAME,
    tree: list[tuple[Entry, Opener | None]] | None = None,
    sql: bytes = SQL,
) -> ArchiveWritten:
    """Write an archive of a dump, an RDB, one volume, a config file and a manifest."""
    with ArchiveWriter(directory, name, forms, KEY, SystemClock(), SilentListener()) as writer:
        writer.add_stream("postgres_dump.sql", io.BytesIO(sql))
        writer.add_stream("redis_dump.rdb", io.BytesIO(RDB))
        writer.add_volume("uploads", iter(tree or small_tree()))
        writer.add_bytes("configs/docker-compose.prod.yml", b"services: {}\n")
        writer.add_bytes("manifest.json", b'{"format": 1}\n')
        return writer.finish()


def walk(root: Path) -> Iterator[tuple[Entry, Opener | None]]:
    """Yield a directory on disk as entries, parents before children."""
    top = os.fsencode(root)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        full = os.path.join(top, path) if path else top
        found = disk_entry(full, path)
        yield found, _disk_opener(full) if found.type is EntryType.FILE else None
        if found.type is EntryType.DIRECTORY:
            waiting += sorted((os.path.join(path, name) for name in os.listdir(full)), reverse=True)


def _disk_opener(full: bytes) -> Opener:
    return lambda: Path(os.fsdecode(full)).open("rb")


def disk_entry(full: bytes, path: bytes) -> Entry:
    """Return what lstat and the extended attributes say about `full`."""
    status = os.lstat(full)
    kinds = {
        stat.S_IFREG: EntryType.FILE,
        stat.S_IFDIR: EntryType.DIRECTORY,
        stat.S_IFLNK: EntryType.SYMLINK,
        stat.S_IFBLK: EntryType.DEVICE,
        stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
        stat.S_IFIFO: EntryType.FIFO,
    }
    kind = kinds[stat.S_IFMT(status.st_mode)]
    shared = kind is EntryType.FILE and status.st_nlink > 1
    names = sorted(os.listxattr(full, follow_symlinks=False))
    return Entry(
        path=path,
        type=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        user="",
        group="",
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if kind is EntryType.FILE else 0,
        link_target=os.readlink(full) if kind is EntryType.SYMLINK else b"",
        device=status.st_rdev,
        links=status.st_nlink if shared else 1,
        hardlink_key=(status.st_ino, status.st_dev) if shared else None,
        xattrs=tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names),
    )


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything a restore has to bring back, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[tuple[int, int], bytes] = {}
    for one, open_content in walk(root):
        content = b""
        if open_content is not None:
            with open_content() as stream:
                content = stream.read()
        linked = first_names.setdefault(one.hardlink_key, one.path) if one.hardlink_key else one.path
        attributes = (one.type, one.mode, one.uid, one.gid, one.mtime_ns, one.device, one.xattrs)
        found[one.path] = (*attributes, content, one.link_target, linked)
    return found


def read_all(path: Path, *, key: Secret | None = KEY, trust: bool = False) -> dict[str, bytes]:
    """Open an archive and read all of it."""
    with open_archive(path, key=key, trust=trust) as archive:
        return {member: stream.read() for member, stream in archive.members()}


def assert_refused_unopened(
    path: Path, kind: type[ArchiveError], words: str | None = None, key: Secret = KEY
) -> None:
    """The archive is refused by `open_archive` itself: no member is handed out."""
    with pytest.raises(kind, match=words), open_archive(path, key=key, trust=False):
        pytest.fail("a member could have been read")
