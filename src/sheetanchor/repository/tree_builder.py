"""Directories in the making: entries arrive in any order, trees are stored bottom up.

Content that is still being stored is carried as PendingContent; `store` waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sheetanchor.errors import RepositoryError
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.node import Node, encode_tree
from sheetanchor.repository.stream_writer import PendingContent
from sheetanchor.repository.writer import Account, BlobWriter

_DIRECTORY_MODE = (1 << 31) | 0o700
"""Go's FileMode of directories that only lead to the data."""


@dataclass
class Directory:
    """One directory whose tree is not stored yet."""

    node: Node | None = None
    """Its metadata; None for one that only leads to others."""
    entries: dict[bytes, Node] = field(default_factory=dict)
    directories: dict[bytes, Directory] = field(default_factory=dict)
    pending: list[tuple[Node, PendingContent]] = field(default_factory=list)

    def add(self, node: Node, content: PendingContent | None = None) -> None:
        """Put in an entry whose tree or content is stored or on its way.

        Raises RepositoryError when the name is taken.
        """
        if node.name in self.entries or node.name in self.directories:
            raise RepositoryError(f"two entries are named {node.name!r} in one directory")
        self.entries[node.name] = node
        if content is not None:
            self.pending.append((node, content))

    def descend(self, name: bytes) -> Directory:
        """Return the directory `name` in this one, made if need be.

        Raises RepositoryError when the name is taken by something else.
        """
        if name in self.entries:
            raise RepositoryError(f"{name!r} is no directory that can be added to")
        return self.directories.setdefault(name, Directory())


def split_path(path: str | bytes) -> list[bytes]:
    """Return the parts of a path; slashes at both ends do not count.

    Raises RepositoryError for "." and "..", which no stored path may hold.
    """
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    parts = [part for part in raw.split(b"/") if part]
    for part in parts:
        if part in {b".", b".."} or b"\0" in part:
            raise RepositoryError(f"not a path inside a tree: {path!r}")
    return parts


def store(root: Directory, writer: BlobWriter, account: Account) -> Id:
    """Store the trees of `root` and all directories in it; return the root's id."""
    stored: dict[int, Node] = {}
    result: Id | None = None
    for directory, name in _post_order(root):
        for node, content in directory.pending:
            node.content = content.wait(writer.check)
        nodes = [*directory.entries.values()]
        nodes += [stored.pop(id(child)) for child in directory.directories.values()]
        result = writer.save(BlobType.TREE, encode_tree(nodes), account)
        node = directory.node or leading_node(name, nodes)
        node.subtree = result
        stored[id(directory)] = node
    assert result is not None
    return result


def leading_node(name: bytes, nodes: list[Node]) -> Node:
    """Return metadata for a directory that exists only here: as new as the newest inside."""
    newest = max((node.mtime_ns for node in nodes), default=0)
    return Node(
        name=name,
        type=NodeType.DIRECTORY,
        mode=_DIRECTORY_MODE,
        mtime_ns=newest,
        atime_ns=newest,
        ctime_ns=newest,
    )


def _post_order(root: Directory) -> Iterator[tuple[Directory, bytes]]:
    stack: list[tuple[Directory, bytes, bool]] = [(root, b"", False)]
    while stack:
        directory, name, ready = stack.pop()
        if ready:
            yield directory, name
            continue
        stack.append((directory, name, True))
        stack.extend((child, key, False) for key, child in directory.directories.items())
