"""Looks into backups without restoring them: list files, compare two backups, print one file."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO

from sheetanchor.clock import moment
from sheetanchor.errors import UnknownBackupError, UsageError
from sheetanchor.operations.catalog import Catalog
from sheetanchor.operations.manifest import MANIFEST_PATH
from sheetanchor.operations.results import Change, ListedEntry
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import Node, NodeType, permissions
from sheetanchor.repository.repository import Repository

_FILE_TYPES = {
    NodeType.FILE: stat.S_IFREG,
    NodeType.DIRECTORY: stat.S_IFDIR,
    NodeType.SYMLINK: stat.S_IFLNK,
    NodeType.DEVICE: stat.S_IFBLK,
    NodeType.CHARACTER_DEVICE: stat.S_IFCHR,
    NodeType.FIFO: stat.S_IFIFO,
    NodeType.SOCKET: stat.S_IFSOCK,
}


def trees(repository: Repository, catalog: Catalog, name: str) -> list[Id]:
    """Return the root trees that `name` stands for: a backup's, or one restic snapshot's.

    Raises UnknownBackupError.
    """
    try:
        record = catalog.find(name)
    except UnknownBackupError as unknown:
        if name == "latest" or not _is_hex(name):
            raise
        try:
            return [repository.find_snapshot(name).snapshot.tree]
        except UnknownBackupError:
            raise unknown from None
    found = [*record.components.values(), *([record.manifest] if record.manifest else [])]
    return [stored.snapshot.tree for stored in found]


def entries(repository: Repository, catalog: Catalog, name: str, path: str) -> Iterator[ListedEntry]:
    """Yield everything at and below `path` in the backup."""
    found = False
    for full, node in _nodes(repository, catalog, name, path):
        found = True
        yield _listed(full, node)
    if not found:
        raise UsageError(f"{name} holds nothing at {path}", hint=f"see `sheetanchor ls {name}`")


def compare(repository: Repository, catalog: Catalog, before: str, after: str) -> Iterator[Change]:
    """Yield what changed from one backup to another, in order of path."""
    old = {path: node for path, node in _nodes(repository, catalog, before, "/") if path}
    new = {path: node for path, node in _nodes(repository, catalog, after, "/") if path}
    # The manifests of two backups always differ.
    for path in sorted((old.keys() | new.keys()) - {MANIFEST_PATH.encode()}):
        change = _change(path, old.get(path), new.get(path))
        if change is not None:
            yield change


def dump(repository: Repository, catalog: Catalog, name: str, path: str, out: BinaryIO) -> int:
    """Write one stored file to `out`; return its size in bytes."""
    reader = catalog.reader
    for tree in trees(repository, catalog, name):
        node = reader.node(tree, path)
        if node is None:
            continue
        if node.type is not NodeType.FILE:
            raise UsageError(f"{path} is a {node.type.value}, not a file")
        with reader.open(node) as stream:
            shutil.copyfileobj(stream, out, 1 << 20)
        return node.size
    raise UsageError(f"{name} holds no {path}", hint=f"see `sheetanchor ls {name}`")


def _nodes(repository: Repository, catalog: Catalog, name: str, path: str) -> Iterator[tuple[bytes, Node]]:
    """Walk all snapshots of a backup as one tree; shared parent directories come once."""
    reader = catalog.reader
    wanted = path.encode("utf-8", "surrogateescape").strip(b"/")
    seen: set[bytes] = set()
    for tree in trees(repository, catalog, name):
        if wanted and reader.node(tree, wanted) is None:
            continue
        for relative, node in reader.walk(tree, wanted):
            full = b"/".join(part for part in (wanted, relative) if part)
            if full and full not in seen:
                if node.type is NodeType.DIRECTORY:
                    seen.add(full)
                yield full, node


def _listed(path: bytes, node: Node) -> ListedEntry:
    return ListedEntry(
        path="/" + path.decode("utf-8", "backslashreplace"),
        type=node.type.value,
        mode=stat.filemode(_FILE_TYPES.get(node.type, 0) | permissions(node.mode)),
        uid=node.uid,
        gid=node.gid,
        size=node.size,
        mtime=moment(node.mtime_ns),
    )


def _change(path: bytes, old: Node | None, new: Node | None) -> Change | None:
    shown = "/" + path.decode("utf-8", "backslashreplace")
    if old is None:
        assert new is not None
        return Change(change="+", path=shown, size_after=new.size)
    if new is None:
        return Change(change="-", path=shown, size_before=old.size)
    sizes = {"size_before": old.size, "size_after": new.size}
    if old.type is not new.type:
        return Change(change="T", path=shown, **sizes)
    if old.content != new.content or old.link_target != new.link_target:
        return Change(change="M", path=shown, **sizes)
    if _metadata(old) != _metadata(new):
        return Change(change="U", path=shown, **sizes)
    return None


def _metadata(node: Node) -> tuple[object, ...]:
    mtime = 0 if node.type is NodeType.DIRECTORY else node.mtime_ns
    return (node.mode, node.uid, node.gid, mtime, tuple(node.xattrs), node.device)


def _is_hex(text: str) -> bool:
    return len(text) >= 4 and set(text) <= set("0123456789abcdef")
