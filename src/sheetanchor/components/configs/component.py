"""The component `configs`: configuration files and directories, by their absolute paths.

A restore puts back exactly the paths that the configuration lists and the backup holds. A path
that is a symbolic link stays one: what it leads to is saved and replaced.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from sheetanchor.components.base import (
    Capabilities,
    Context,
    Entry,
    EntrySink,
    EntryType,
    Proof,
    Sink,
    Source,
    StageEstimate,
)
from sheetanchor.components.configs.archived import proof_of_entries
from sheetanchor.components.configs.capture import Capture
from sheetanchor.components.configs.item import Item
from sheetanchor.components.configs.paths import live_path, outermost, path_of, stored_path
from sheetanchor.components.configs.proof import ConfigsProof
from sheetanchor.components.configs.staged import StagedConfigs, shown_paths
from sheetanchor.components.disk import explained, shown
from sheetanchor.components.mounts import is_mount_point
from sheetanchor.config.models import ConfigsConfig
from sheetanchor.errors import ComponentError, NothingThereError, UnreachableError
from sheetanchor.patterns import Patterns

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PIECE = 1 << 20


class ConfigsComponent:
    """The listed files and directories."""

    kind: ClassVar[str] = "configs"
    capabilities: ClassVar[Capabilities] = Capabilities(
        stages_beside=True, interrupts_service=False, selects_files=True, portable=True, swaps_stopped=True
    )
    proof_model: ClassVar[type[Proof]] = ConfigsProof

    def __init__(self, config: ConfigsConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._paths = outermost(config.paths)

    @property
    def name(self) -> str:
        """The name from the configuration."""
        return self._config.name

    def check(self) -> tuple[str, ...]:
        """Look at every path. Raises UnreachableError naming those that are missing."""
        missing = [path for path in self._paths if not path.exists()]
        if missing:
            raise UnreachableError(f"{self.name}: missing: {shown_paths(missing)}")
        return tuple(shown(path) for path in self._paths)

    def capture(self, sink: Sink, previous: Proof | None = None, *, lenient: bool = False) -> ConfigsProof:
        """Store every listed path.

        Raises NothingThereError when none exists, ComponentError when one is missing (with
        `lenient` a warning), is neither file nor directory, or keeps changing.
        """
        with explained(f"{self.name}: cannot be read"):
            present = [path for path in self._paths if path.exists()]
            missing = [path for path in self._paths if path not in present]
            if not present:
                raise NothingThereError(f"{self.name}: missing: {shown_paths(missing)}")
            if missing and not lenient:
                raise ComponentError(
                    f"{self.name}: missing: {shown_paths(missing)}",
                    hint="bring it back, or take it out of `paths`",
                )
            capture = Capture(self.name, sink, lenient=lenient)
            for path in present:
                capture.add(path)
            return capture.proof([f"{shown(path)} is missing" for path in missing])

    def estimate(self, source: Source, proof: Proof, *, in_place: bool) -> StageEstimate:
        """Say which paths cannot be replaced, and which are on one side only."""
        assert isinstance(proof, ConfigsProof)
        held = self._held(source)
        stored = [path_of(file.path) for file in proof.files]
        stored += [path_of(tree.path) for tree in proof.trees]
        foreign = [path for path in stored if path not in self._paths]
        absent = [path for path in self._paths if path not in held]
        notes = []
        if foreign:
            notes.append(f"in the backup, but not listed here and so not restored: {shown_paths(foreign)}")
        if absent:
            notes.append(f"not in the backup, stays as it is: {shown_paths(absent)}")
        refusals = [
            f"{shown(path)} is a mount point and cannot be replaced"
            for path in held
            if live_path(path).exists() and is_mount_point(live_path(path))
        ]
        if not held:
            refusals.append(f"{self.name}: the backup holds none of the paths listed here")
        free = min((_free_bytes(live_path(path)) for path in held), default=0)
        if held and proof.num_bytes > free:
            refusals.append(f"{self.name} needs {proof.num_bytes:,} bytes, {free:,} are free")
        return StageEstimate(
            needed_bytes=proof.num_bytes,
            free_bytes=free,
            notes=tuple(notes),
            refusals=tuple(refusals),
        )

    def stage(
        self,
        source: Source,
        proof: Proof,
        token: str,
        *,
        include: Sequence[str] = (),
        in_place: bool = False,
    ) -> StagedConfigs:
        """Write each path beside the live one. `include` selects among the listed paths.

        `in_place` makes no difference: configuration files are small. Raises ComponentError,
        and NothingThereError when the backup holds nothing of what is asked for.
        """
        assert isinstance(proof, ConfigsProof)
        chosen = self._chosen(source, Patterns(include))
        if not chosen:
            raise NothingThereError(
                f"{self.name}: nothing in the backup matches {', '.join(include) or 'the listed paths'}",
                hint="`include` selects among the listed paths; `restore --target` extracts single files",
            )
        staged = StagedConfigs(self.name, _checked(token), self._paths, source)
        with explained(f"{self.name}: the backup cannot be staged"):
            items = [(path, Item(live_path(path), token)) for path in chosen]
            members = tuple(os.fspath(item.live) for _, item in items)
            for path, item in items:
                item.begin(stored_path(path), members)
            for path, item in items:
                _write(source, stored_path(path), item.staged)
                item.finish_stage()
        return staged

    def resume(self, token: str, source: Source | None = None) -> StagedConfigs:
        """Return the staged state of `token` as it lies on disk."""
        return StagedConfigs(self.name, _checked(token), self._paths, source)

    def sweep(self) -> None:
        """Do nothing: all that a killed run leaves belongs to its restore, which is resumed or undone."""

    def import_entries(
        self, entries: Iterable[tuple[Entry, BinaryIO | None]], sink: EntrySink
    ) -> ConfigsProof:
        """Capture from the entries of a portable archive; only listed paths are believed."""
        return proof_of_entries(self.name, self._paths, entries, sink)

    def _held(self, source: Source) -> list[Path]:
        return [path for path in self._paths if source.exists(stored_path(path))]

    def _chosen(self, source: Source, include: Patterns) -> list[Path]:
        held = self._held(source)
        if not include:
            return held
        return [
            path
            for path in held
            if include.covers(os.fsencode(stored_path(path)), is_directory=_is_directory(source, path))
        ]


def _is_directory(source: Source, path: Path) -> bool:
    return next(source.walk(stored_path(path))).type is EntryType.DIRECTORY


def _write(source: Source, stored: str, target: Path) -> None:
    """Write a stored file or directory to `target`, with its metadata."""
    entry = next(source.walk(stored))
    if entry.type is EntryType.DIRECTORY:
        source.restore_tree(stored, target)
        return
    if entry.type is not EntryType.FILE:
        raise ComponentError(f"/{stored}: the backup holds a {entry.type} there, not a file")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as writer, source.open(stored) as reader:
        while piece := reader.read(_PIECE):
            writer.write(piece)
        writer.flush()
        found = os.fstat(descriptor)
        if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
            os.fchown(descriptor, entry.uid, entry.gid)
        for name, value in entry.xattrs:
            os.setxattr(descriptor, name, value)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def _free_bytes(path: Path) -> int:
    while not path.exists() or not stat.S_ISDIR(path.stat().st_mode):
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _checked(token: str) -> str:
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(f"not a token: {token!r}")
    return token
