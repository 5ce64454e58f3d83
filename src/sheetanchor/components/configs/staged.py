"""The four steps on staged configuration files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheetanchor.components.base import Proof, Source
from sheetanchor.components.configs.item import Item, ItemJournal, Phase
from sheetanchor.components.configs.paths import live_path, path_of, proof_path
from sheetanchor.components.configs.proof import ConfigsProof, FileProof
from sheetanchor.components.disk import explained, shown
from sheetanchor.errors import ComponentError, ProofMismatchError

_NAMED = 5


class StagedConfigs:
    """All paths of one run; see `Staged` in components/base.py for the contract."""

    def __init__(self, name: str, token: str, paths: tuple[Path, ...], source: Source | None) -> None:
        """`paths` are where to look: those of the configuration."""
        self._name = name
        self._token = token
        self._items = [Item(live_path(path), token) for path in paths]
        self._source = source

    def verify(self, proof: Proof) -> tuple[str, ...]:
        """Compare every staged path with the proof, directories with the backup too.

        Raises ProofMismatchError naming the first differences, ComponentError when nothing
        whole is staged.
        """
        assert isinstance(proof, ConfigsProof)
        with self._explained("the staged files cannot be read"):
            files = {path_of(file.path): file for file in proof.files}
            differences: list[str] = []
            compared = 0
            for item, journal in self._whole():
                place = item.live if journal.phase is Phase.SWAPPED else item.staged
                expected = files.get(Path("/") / journal.stored)
                if expected is None:
                    differences += self._tree_differences(journal, place)
                else:
                    differences += _file_differences(expected, place)
                compared += 1
            if differences:
                more = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
                raise ProofMismatchError(
                    f"{self._name}: not what was saved: {'; '.join(differences[:_NAMED])}{more}"
                )
            paths = "1 path" if compared == 1 else f"{compared:,} paths"
            return (f"{paths} equal in content, owner, mode and time",)

    def swap(self) -> None:
        """Put every staged path in place; nothing is touched unless all are staged."""
        with self._explained("the swap failed"):
            for item, journal in self._whole():
                if journal.phase is Phase.DISCARDING:
                    raise ComponentError(f"{self._name}: this restore is already being cleared away")
                item.swap()

    def undo(self) -> None:
        """Put every old path back."""
        with self._explained("the old files cannot be put back"):
            found = self._found()
            if not found:
                raise self._not_staged()
            if any(journal.phase is Phase.DISCARDING for _, journal in found):
                raise ComponentError(
                    f"{self._name}: the old files are already being removed",
                    hint="restore the safety backup",
                )
            for item, _ in reversed(found):
                item.undo()

    def discard(self) -> None:
        """Remove what is not live. Raises ComponentError while a swap or an undo is unfinished."""
        with self._explained("the files that are not live cannot be removed"):
            found = self._found()
            phases = {journal.phase for _, journal in found}
            if phases & {Phase.SWAPPING, Phase.UNDOING} or {Phase.STAGED, Phase.SWAPPED} <= phases:
                raise ComponentError(
                    f"{self._name}: some files are the old ones, some the new ones",
                    hint="go on with `restore --resume`, or take it back with `rollback`",
                )
            for item, _ in found:
                item.mark_discarding()
            for item in self._items:
                item.discard()

    def _found(self) -> list[tuple[Item, ItemJournal]]:
        pairs = [(item, item.load()) for item in self._items]
        return [(item, journal) for item, journal in pairs if journal is not None]

    def _whole(self) -> list[tuple[Item, ItemJournal]]:
        """Return all paths of the run. Raises ComponentError unless every one is staged."""
        found = self._found()
        present = {os.fspath(item.live) for item, journal in found if journal.phase is not Phase.STAGING}
        if not found or any(set(journal.members) != present for _, journal in found):
            raise self._not_staged()
        return found

    def _not_staged(self) -> ComponentError:
        return ComponentError(
            f"{self._name}: no whole set of staged files was found", hint="run the restore again"
        )

    def _tree_differences(self, journal: ItemJournal, place: Path) -> list[str]:
        if self._source is None:
            raise ComponentError(
                f"{self._name}: the backup is needed to compare directories, and was not opened",
                hint="go on with `restore --resume`",
            )
        root = f"/{proof_path(journal.stored)}"
        return [f"{root}/{one.path}: {one.what}" for one in self._source.compare_tree(journal.stored, place)]

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        with explained(f"{self._name}: {what}"):
            yield


def _file_differences(expected: FileProof, place: Path) -> list[str]:
    path = expected.path
    if not place.is_file() or place.is_symlink():
        return [f"{path}: is missing"]
    found = place.stat()
    pairs = (
        ("size", expected.size, found.st_size),
        ("mode", expected.mode, found.st_mode & 0o7777),
        ("owner", (expected.uid, expected.gid), (found.st_uid, found.st_gid)),
        ("time", expected.mtime_ns, found.st_mtime_ns),
        ("content", expected.sha256, file_digest(place)),
    )
    return [f"{path}: {what} differs" for what, stored, present in pairs if stored != present]


def file_digest(file: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shown_paths(paths: list[Path]) -> str:
    """Return paths for an error message."""
    return ", ".join(shown(path) for path in paths)
