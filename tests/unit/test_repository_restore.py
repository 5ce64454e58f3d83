"""Bringing trees back to disk, and comparing disks with trees."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sheetanchor.components.base import Entry, EntryType
from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.node import Node
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.writer import Account
from support import nasty_tree
from support.programs import require_root
from support.repositories import back_up, create, draft, open_repository

ROOT = "volumes/data"


def test_everything_comes_back_and_compares_equal(tmp_path: Path) -> None:
    """Bytes, owners, modes, times, xattrs, links, devices: all as before; compare finds nothing."""
    require_root()
    source = tmp_path / "source"
    nasty_tree.make(source)
    repository = create(MemoryBackend())
    snapshot, saved = back_up(repository, source)
    reader = repository.reader()
    restored = reader.restore_tree(snapshot.snapshot.tree, ROOT, tmp_path / "a" / "out")
    assert nasty_tree.describe(tmp_path / "a" / "out") == nasty_tree.describe(source)
    assert restored.warnings == ()
    counts = (restored.files, restored.directories, restored.others, restored.num_bytes)
    assert counts == (saved.files, saved.directories, saved.others, saved.num_bytes)
    assert reader.compare_tree(snapshot.snapshot.tree, ROOT, tmp_path / "a" / "out") == []


def test_holes_stay_holes(tmp_path: Path) -> None:
    """A sparse file takes no more room after the restore, and ends in its hole."""
    (tmp_path / "source").mkdir()
    with open(tmp_path / "source" / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(100 << 20)
    repository = create(MemoryBackend())
    snapshot, _ = back_up(repository, tmp_path / "source")
    repository.reader().restore_tree(snapshot.snapshot.tree, ROOT, tmp_path / "out")
    status = (tmp_path / "out" / "sparse").stat()
    assert status.st_size == 100 << 20
    assert status.st_blocks * 512 <= 1 << 20
    assert repository.reader().compare_tree(snapshot.snapshot.tree, ROOT, tmp_path / "out") == []


def _touch_time(root: Path) -> None:
    os.utime(root / "medium.txt", ns=(1, 1))


def _new_content(root: Path) -> None:
    status = (root / "medium.txt").stat()
    with open(root / "medium.txt", "r+b") as file:
        file.seek(300_000)
        file.write(b"X")
    os.utime(root / "medium.txt", ns=(status.st_atime_ns, status.st_mtime_ns))


def _split_link(root: Path) -> None:
    status = (root / "one byte").stat()
    shutil.copy2(root / "one byte", root / "copy")
    os.setxattr(root / "copy", "security.capability", os.getxattr(root / "one byte", "security.capability"))
    times = root.stat()
    os.rename(root / "copy", root / "one byte")
    os.utime(root / "one byte", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(root, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "mode": (lambda root: (root / "setuid").chmod(0o755), "setuid", "has mode 0755 instead of 6755"),
    "owner": (lambda root: os.chown(root / "setuid", 1, 2), "setuid", "has owner 1:2 instead of"),
    "time": (_touch_time, "medium.txt", "was modified at 1 ns"),
    "content": (_new_content, "medium.txt", "has other content"),
    "xattr": (lambda root: os.setxattr(root / "sticky", "user.empty", b"x"), "sticky", "user.empty differs"),
    "no xattr": (
        lambda root: os.removexattr(root / "sticky", "user.empty"),
        "sticky",
        "user.empty is missing",
    ),
    "new xattr": (
        lambda root: os.setxattr(root / "sticky", "user.x", b"x"),
        "sticky",
        "user.x is not stored",
    ),
    "lost": (lambda root: (root / "fifo").unlink(), "fifo", "is missing"),
    "extra": (lambda root: (root / "extra").touch(), "extra", "is on disk but not stored"),
    "cut": (lambda root: os.truncate(root / "big.bin", 5), "big.bin", "has 5 bytes instead of"),
    "target": (
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("other")),
        "link",
        "leads to other instead of big.bin",
    ),
    "type": (
        lambda root: ((root / "fifo").unlink(), (root / "fifo").mkdir()),
        "fifo",
        "is a dir instead of a fifo",
    ),
    "hard link": (_split_link, "one byte", "is not a hard link of the same names"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_compare_sees_every_kind_of_change(tmp_path: Path, change: str) -> None:
    """A change of one attribute is named, with the path it is at."""
    require_root()
    nasty_tree.make(tmp_path / "source")
    repository = create(MemoryBackend())
    snapshot, _ = back_up(repository, tmp_path / "source")
    apply, path, what = CHANGES[change]
    apply(tmp_path / "source")
    found = repository.reader().compare_tree(snapshot.snapshot.tree, ROOT, tmp_path / "source")
    assert any(what in difference.what for difference in found if difference.path == path), found


def test_include_restores_matches_and_what_leads_to_them(tmp_path: Path) -> None:
    """Only matching paths appear, below directories with their own metadata."""
    nasty_tree.make(tmp_path / "source")
    repository = create(MemoryBackend())
    snapshot, _ = back_up(repository, tmp_path / "source")
    reader = repository.reader()
    done = reader.restore_tree(
        snapshot.snapshot.tree, ROOT, tmp_path / "out", include=["/many/00*", "sticky"]
    )
    before, after = nasty_tree.describe(tmp_path / "source"), nasty_tree.describe(tmp_path / "out")
    expected = {b"", b"sticky", b"many", *(b"many/%03d" % number for number in range(10))}
    assert after.keys() == expected
    assert {path: before[path] for path in expected} == after
    assert done.files == 10


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    """Nothing that exists is ever written over."""
    (tmp_path / "source").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    repository = create(MemoryBackend())
    snapshot, _ = back_up(repository, tmp_path / "source")
    with pytest.raises(RepositoryError, match="is not empty"):
        repository.reader().restore_tree(snapshot.snapshot.tree, ROOT, tmp_path / "out")
    assert (tmp_path / "out" / "precious").read_text() == "mine"


def _forged(repository: Repository, text: str) -> Id:
    """Store a tree blob as an attacker with the key could write it."""
    with repository.writer() as session:
        session.tree("/x").write_stream("seed", io.BytesIO(b""))
        tree = session._writer.save(BlobType.TREE, text.encode(), Account())
        session.flush()
    return tree


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc/cron.d/x", "a\\x00b"])
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    """A tree with a name that would leave its directory is damage, and nothing is written."""
    repository = create(MemoryBackend())
    escaped = name.replace("\\", "\\\\")
    tree = _forged(
        repository,
        f'{{"nodes":[{{"name":"{escaped}","type":"fifo","mode":33554852,"mtime":"2020-01-01T00:00:00Z",'
        '"atime":"2020-01-01T00:00:00Z","ctime":"2020-01-01T00:00:00Z","uid":0,"gid":0,"content":null}]}\n',
    )
    with pytest.raises(DamagedRepositoryError, match="forbidden name"):
        repository.reader().restore_tree(tree, "", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_blob_stops_the_restore(tmp_path: Path) -> None:
    """A pack with flipped bits gives an error that names it; the bytes never reach a file."""
    backend = MemoryBackend()
    repository = create(backend)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"A" * 400 + os.urandom(400))
    snapshot, _ = back_up(repository, tmp_path / "source")
    for stored in list(backend.list(Kind.DATA)):
        data = bytearray(backend.get(Kind.DATA, stored.name))
        data[60] ^= 1
        backend.put(Kind.DATA, stored.name, bytes(data))
    reader = open_repository(backend).reader()
    with pytest.raises(DamagedRepositoryError, match=r"pack [0-9a-f]{64} is damaged"):
        reader.restore_tree(snapshot.snapshot.tree, "", tmp_path / "out")
    assert not (tmp_path / "out" / ROOT / "file").exists()


def test_a_copy_in_another_pack_saves_a_damaged_blob(tmp_path: Path) -> None:
    """A blob that two packs hold is read from the good one."""
    backend = MemoryBackend()
    first, second = create(backend), open_repository(backend)
    data = os.urandom(5000)
    with first.writer() as one, second.writer() as other:
        for session in (one, other):
            writer = session.tree("/x")
            writer.write_stream("file", io.BytesIO(data))
            tree = writer.finish()
            session.flush()
    first.save_snapshot(draft(tree, "/x"))
    packs = [stored.name for stored in backend.list(Kind.DATA) if stored.size > 5000]
    assert len(packs) == 2
    for name in packs:
        good = backend.get(Kind.DATA, name)
        backend.put(Kind.DATA, name, b"\x00" * 100 + good[100:])
        reader = open_repository(backend).reader()
        node = reader.node(tree, "x/file")
        assert node is not None
        with reader.open(node) as stream:
            assert stream.read() == data
        reader.restore_tree(tree, "", tmp_path / name)
        assert (tmp_path / name / "x" / "file").read_bytes() == data
        backend.put(Kind.DATA, name, good)


def test_entries_of_an_archive_in_any_order(tmp_path: Path) -> None:
    """Directories may follow what is in them; hard links come back as links."""
    repository = create(MemoryBackend())
    with repository.writer() as session:
        writer = session.tree("/x")
        writer.write_entries(
            "",
            [
                (_entry(b"d/file", EntryType.FILE, hardlink_key=(5, 1)), io.BytesIO(b"content")),
                (_entry(b"link", EntryType.FILE, hardlink_key=(5, 1)), None),
                (_entry(b"d", EntryType.DIRECTORY, mode=0o2751), None),
                (_entry(b"s", EntryType.SYMLINK, link_target=b"d/file"), None),
            ],
        )
        tree = writer.finish()
        session.flush()
    repository.reader().restore_tree(tree, "x", tmp_path / "out")
    assert (tmp_path / "out" / "d").stat().st_mode & 0o7777 == 0o2751
    assert (tmp_path / "out" / "link").samefile(tmp_path / "out" / "d" / "file")
    assert (tmp_path / "out" / "s").read_bytes() == b"content"
    assert repository.check(read_data=True).errors == ()


def _entry(
    path: bytes,
    kind: EntryType,
    *,
    mode: int = 0o644,
    hardlink_key: tuple[int, int] | None = None,
    link_target: bytes = b"",
) -> Entry:
    return Entry(
        path=path,
        type=kind,
        mode=mode,
        uid=os.getuid(),
        gid=os.getgid(),
        user="",
        group="",
        mtime_ns=nasty_tree.OLD,
        size=0,
        link_target=link_target,
        device=0,
        links=1,
        hardlink_key=hardlink_key,
        xattrs=(),
    )


def test_streams_can_be_read_from_anywhere() -> None:
    """Seeking forwards and backwards in a file of several blobs gives the right bytes."""
    repository = create(MemoryBackend())
    data = os.urandom(12 << 20)
    with repository.writer() as session:
        writer = session.tree("/x")
        writer.write_stream("file", io.BytesIO(data))
        tree = writer.finish()
        session.flush()
    reader = repository.reader()
    node = reader.node(tree, "/x/file")
    assert node is not None
    assert len(node.content or ()) > 2
    with reader.open(node) as stream:
        for position in (0, 11 << 20, 5 << 20, (12 << 20) - 3, 12 << 20, 1):
            stream.seek(position)
            assert stream.read(3000) == data[position : position + 3000]
        assert stream.seek(-5, os.SEEK_END) == len(data) - 5
        assert stream.read() == data[-5:]


def test_what_has_no_content_cannot_be_opened() -> None:
    """Opening a directory or link as a file is an error, not an empty stream."""
    reader = create(MemoryBackend()).reader()
    node = Node(name=b"d", type=NodeType.DIRECTORY)
    with pytest.raises(DamagedRepositoryError, match="has no content"), reader.open(node):
        pass
