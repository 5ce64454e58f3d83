"""Trees without what is lost: every directory rebuilt from the entries that can still be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.file_content import shown
from sheetanchor.repository.filemode import NodeType
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.node import Node, encode_tree

SaveTree = Callable[[bytes], Id]


@dataclass(frozen=True)
class RepairedTree:
    """What is left of one tree."""

    id: Id | None
    """The tree without what is lost, None when the tree itself is lost."""
    lost: tuple[str, ...]
    """Lost files, and directories (with "/" at the end) whose list of entries is lost; relative."""


class TreeRepairer:
    """Rebuilds trees, each once however many snapshots share it."""

    def __init__(self, blobs: BlobReader, index: Index, save: SaveTree) -> None:
        """`index` holds what can be read; `save` gets each tree that had to be changed."""
        self._blobs = blobs
        self._index = index
        self._save = save
        self._done: dict[Id, RepairedTree] = {}

    def repair(self, root: Id) -> RepairedTree:
        """Return what is left of a tree and of all below it. Raises what the backend raises."""
        stack: list[tuple[Id, list[Node] | None]] = [(root, None)]
        while stack:
            tree, nodes = stack.pop()
            if tree in self._done:
                continue
            if nodes is not None:
                self._done[tree] = self._rebuilt(tree, nodes)
                continue
            try:
                nodes = self._blobs.load_tree(tree)
            except DamagedRepositoryError:
                self._done[tree] = RepairedTree(None, ())
                continue
            stack.append((tree, nodes))
            stack += [(node.subtree, None) for node in nodes if node.subtree is not None]
        return self._done[root]

    def _rebuilt(self, tree: Id, nodes: list[Node]) -> RepairedTree:
        kept: list[Node] = []
        lost: list[str] = []
        for node in nodes:
            name = shown(node.name)
            if node.type is NodeType.DIRECTORY:
                below = self._done[node.subtree] if node.subtree is not None else RepairedTree(None, ())
                lost += [f"{name}/{path}" for path in below.lost]
                if below.id is None:
                    lost.append(f"{name}/")
                else:
                    kept.append(node if below.id == node.subtree else replace(node, subtree=below.id))
            elif self._is_whole(node):
                kept.append(node)
            else:
                lost.append(name)
        if not lost:
            return RepairedTree(tree, ())
        return RepairedTree(self._save(encode_tree(kept)), tuple(lost))

    def _is_whole(self, node: Node) -> bool:
        if node.type is not NodeType.FILE:
            return node.type is not NodeType.IRREGULAR
        if node.content is None:
            return False
        return all(self._index.has(BlobType.DATA, blob) for blob in node.content)
