"""One snapshot's tree in the making: streams, directories and single entries put at paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from sheetanchor.clock import Clock
from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.patterns import Patterns
from sheetanchor.repository import filesystem
from sheetanchor.repository.earlier import EarlierDirectory
from sheetanchor.repository.file_content import FileReader, Unreadable, shown
from sheetanchor.repository.file_tree import FileTreeWriter, LoadTree, Progress, Tally, earlier_damaged
from sheetanchor.repository.filemode import NodeType, mode_from_stat
from sheetanchor.repository.filesystem import stat_type
from sheetanchor.repository.ids import Id, digest
from sheetanchor.repository.model import EntryLike, StreamSaved, TreeSaved
from sheetanchor.repository.node import Node, encode_tree
from sheetanchor.repository.small_batches import SmallFileStore
from sheetanchor.repository.stream_writer import PendingContent, StreamWriter
from sheetanchor.repository.tree_builder import Directory, leading_node, split_path, store
from sheetanchor.repository.writer import Account, BlobWriter

_Linked = dict[tuple[int, int], list[tuple[Node, PendingContent]]]
"""The names of files that have several, by what tells the file."""


class TreeWriter:
    """Puts things at paths below `root`; for one thread. Directories on the way are made."""

    def __init__(
        self,
        root: str,
        writer: BlobWriter,
        streams: StreamWriter,
        small: SmallFileStore,
        *,
        has_blob: Callable[[Id], bool],
        load_tree: LoadTree,
        clock: Clock,
        progress: Progress,
        account: Account,
    ) -> None:
        self._base = split_path(root)
        self._writer = writer
        self._streams = streams
        self._small = small
        self._has_blob = has_blob
        self._load_tree = load_tree
        self._clock = clock
        self._progress = progress
        self._account = account
        self._owners = filesystem.Owners()
        self._top = Directory()
        self._whole: Id | None = None

    @property
    def bytes_added(self) -> int:
        """Bytes that this tree's new blobs took in packs so far."""
        return self._account.bytes_added

    def write_stream(self, path: str, source: BinaryIO, *, mode: int = 0o600) -> StreamSaved:
        """Store `source`, read to its end, as the file `path` with permissions `mode`.

        What `source` raises passes through, and nothing is put at `path` then.
        """
        directory, name = self._place(path)
        stored = self._streams.write(source)
        now = int(self._clock.now().timestamp()) * 1_000_000_000
        node = self._own(Node(name=name, type=NodeType.FILE, mode=mode & 0o777, size=stored.size))
        node.mtime_ns = node.atime_ns = node.ctime_ns = now
        directory.add(node, stored.content)
        self._progress(stored.size, 1)
        return StreamSaved(stored.size, stored.sha256)

    def write_directory(
        self, path: str, directory: Path, *, exclude: Sequence[str] = (), parent: Id | None = None
    ) -> TreeSaved:
        """Store the directory with all that is in it, its own metadata included, at `path`.

        `exclude` holds patterns (see `sheetanchor.patterns`) relative to `directory`. `parent`
        is the root tree of an earlier snapshot: files which status, size and inode show as
        unmodified are taken over from there. Raises RepositoryError when `directory` itself
        cannot be read; what cannot be read below it is listed in the result.
        """
        parts = self._base + split_path(path)
        walk = FileTreeWriter(
            self._writer,
            FileReader(self._streams, self._owners),
            self._small,
            self._owners,
            has_blob=self._has_blob,
            exclude=Patterns(exclude),
            load_tree=self._load_tree,
            progress=self._progress,
            account=self._account,
        )
        earlier = self._earlier(parent, parts, walk.tally)
        try:
            node = walk.write(filesystem.open_root(directory), parts[-1] if parts else b"", earlier)
        except OSError as error:
            raise RepositoryError(f"{directory}: cannot be read: {error.strerror}") from error
        assert node.subtree is not None
        if parts:
            self._directory(parts[:-1]).add(node)
        else:
            self._whole = node.subtree
        return walk.tally.saved(node.subtree)

    def write_file(self, path: str, file: Path) -> TreeSaved:
        """Store one regular file with its metadata at `path`; a symbolic link to it is followed.

        Raises RepositoryError when it cannot be read.
        """
        directory, name = self._place(path)
        reader = FileReader(self._streams, self._owners)
        tally = Tally(files=1)
        try:
            target = Path(os.path.realpath(file, strict=True))
            parent = filesystem.open_root(target.parent)
            try:
                own = os.fsencode(target.name)
                node, content, changed = reader.read(own, parent, filesystem.lstat(own, parent))
            finally:
                os.close(parent)
        except (OSError, Unreadable) as error:
            cause = error.strerror if isinstance(error, OSError) else str(error)
            raise RepositoryError(f"{file}: cannot be read: {cause}") from error
        if changed:
            tally.warnings.append(f"{file}: changed while it was read")
        self._streams.release()
        node.name = name
        node.content = content.wait(self._writer.check)
        directory.add(node)
        tally.num_bytes = node.size
        self._progress(node.size, 1)
        return tally.saved(digest(encode_tree([node])))

    def write_entries(self, path: str, entries: Iterable[tuple[EntryLike, BinaryIO | None]]) -> TreeSaved:
        """Store entries with the metadata they carry, in any order, as the directory at `path`.

        The entry at b"" is that directory's own. A file without content is one more name (hard
        link) of the file that came with the same `hardlink_key` before. Raises RepositoryError
        when a place is taken, or when that file never came.
        """
        top = Directory()
        tally = Tally()
        linked: _Linked = {}
        for entry, source in entries:
            node = self._put(top, entry, source, linked)
            _count(tally, node)
        self._streams.release()
        for group in linked.values():
            for node, _ in group:
                node.links = max(node.links, len(group))
        tree = store(top, self._writer, self._account)
        parts = self._base + split_path(path)
        if parts:
            own = top.node or leading_node(parts[-1], [])
            own.name, own.subtree = parts[-1], tree
            self._directory(parts[:-1]).add(own)
        else:
            self._whole = tree
        return tally.saved(tree)

    def _put(self, top: Directory, entry: EntryLike, source: BinaryIO | None, linked: _Linked) -> Node:
        parts = split_path(entry.path)
        node = _node_of(entry, parts[-1] if parts else b"")
        if not parts:
            if node.type is not NodeType.DIRECTORY:
                raise RepositoryError("the root of a tree has to be a directory")
            top.node = node
            return node
        parent = top
        for part in parts[:-1]:
            parent = parent.descend(part)
        if node.type is NodeType.DIRECTORY:
            parent.descend(node.name).node = node
        elif node.type is NodeType.FILE:
            content = self._content_of(entry, node, source, linked)
            parent.add(node, content)
            if entry.hardlink_key is not None:
                linked.setdefault(entry.hardlink_key, []).append((node, content))
            self._progress(node.size, 1)
        else:
            parent.add(node)
        return node

    def _content_of(
        self, entry: EntryLike, node: Node, source: BinaryIO | None, linked: _Linked
    ) -> PendingContent:
        if source is not None:
            stored = self._streams.write(source)
            node.size = stored.size
            return stored.content
        group = linked.get(entry.hardlink_key) if entry.hardlink_key is not None else None
        if not group:
            raise RepositoryError(f"{shown(entry.path)}: a file without content, or a link to one not stored")
        node.size = group[0][0].size
        return group[0][1]

    def finish(self) -> Id:
        """Store the trees that lead to everything written; return the root tree's id.

        The tree is durable only after the session's `flush`.
        """
        self._streams.release()
        if self._whole is not None:
            if self._top.entries or self._top.directories:
                raise RepositoryError("something else was written beside the root directory")
            return self._whole
        return store(self._top, self._writer, self._account)

    def _place(self, path: str) -> tuple[Directory, bytes]:
        *above, name = (self._base + split_path(path)) or [b""]
        if not name:
            raise RepositoryError("a file needs a name")
        return self._directory(above), name

    def _directory(self, parts: list[bytes]) -> Directory:
        directory = self._top
        for part in parts:
            directory = directory.descend(part)
        return directory

    def _own(self, node: Node) -> Node:
        node.uid, node.gid = os.getuid(), os.getgid()
        node.user, node.group = self._owners.user(node.uid), self._owners.group(node.gid)
        return node

    def _earlier(self, root: Id | None, parts: list[bytes], tally: Tally) -> Id | None:
        """Return the tree at `parts` in an earlier snapshot, if it is there and can be read."""
        tree = root
        try:
            for part in parts:
                if tree is None:
                    return None
                tree = EarlierDirectory(self._load_tree(tree)).subtree(part)
        except DamagedRepositoryError as error:
            tally.warnings.append(earlier_damaged(error))
            return None
        return tree


def _count(tally: Tally, node: Node) -> None:
    if node.type is NodeType.FILE:
        tally.files += 1
        tally.num_bytes += node.size
    elif node.type is NodeType.DIRECTORY:
        tally.directories += 1
    else:
        tally.others += 1


def _node_of(entry: EntryLike, name: bytes) -> Node:
    kind = NodeType(str(entry.type))
    inode, device_id = entry.hardlink_key or (0, 0)
    return Node(
        name=name,
        type=kind,
        mode=mode_from_stat(stat_type(kind) | entry.mode),
        mtime_ns=entry.mtime_ns,
        atime_ns=entry.mtime_ns,
        ctime_ns=entry.mtime_ns,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        inode=inode,
        device_id=device_id,
        links=0 if kind in (NodeType.DIRECTORY, NodeType.FIFO) else max(1, entry.links),
        link_target=entry.link_target if kind is NodeType.SYMLINK else b"",
        xattrs=tuple(entry.xattrs),
        device=entry.device,
    )
