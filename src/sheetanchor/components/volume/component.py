"""The component `volume`: one directory tree, captured live, restored beside and swapped.

On a restore the directory becomes what the backup holds: files made since are gone (they are in
the safety backup), but for those that match `exclude`, which stay as they are. With `include`
only the selected entries are put back and nothing else is touched. `in_place` empties the
directory first, for when there is no room for two trees.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, ClassVar

from sheetanchor.components.base import (
    Capabilities,
    Context,
    Entry,
    EntrySink,
    IncompleteCaptureError,
    Proof,
    Sink,
    Source,
    StageEstimate,
    TreeSaved,
)
from sheetanchor.components.disk import explained, shown
from sheetanchor.components.mounts import is_mount_point
from sheetanchor.components.volume import staging
from sheetanchor.components.volume.inspection import (
    estimate_stage,
    free_bytes,
    refuse_running_database,
)
from sheetanchor.components.volume.journal import INSIDE_PREFIX, Phase
from sheetanchor.components.volume.proof import VolumeProof, human_bytes
from sheetanchor.components.volume.staged import StagedVolume
from sheetanchor.config.models import VolumeConfig
from sheetanchor.errors import ComponentError, NothingThereError, UnreachableError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMED_FAILURES = 3


class VolumeComponent:
    """One directory tree."""

    kind: ClassVar[str] = "volume"
    capabilities: ClassVar[Capabilities] = Capabilities(
        stages_beside=True, interrupts_service=True, selects_files=True, portable=True, swaps_stopped=True
    )
    proof_model: ClassVar[type[Proof]] = VolumeProof

    def __init__(self, config: VolumeConfig, context: Context) -> None:
        self._config = config
        self._context = context

    @property
    def name(self) -> str:
        """The name from the configuration."""
        return self._config.name

    def check(self) -> tuple[str, ...]:
        """Reach the directory. Raises UnreachableError when it is missing or cannot be listed."""
        try:
            directory = self._existing()
            with os.scandir(directory):
                pass
        except (OSError, ComponentError) as error:
            reason = error.message if isinstance(error, ComponentError) else error.strerror
            raise UnreachableError(f"{self.name}: {reason}") from error
        facts = [shown(directory), f"{human_bytes(free_bytes(directory))} free"]
        return (*facts, "mount point") if is_mount_point(directory) else tuple(facts)

    def capture(self, sink: Sink, previous: Proof | None = None, *, lenient: bool = False) -> VolumeProof:
        """Store the whole tree, without what `exclude` matches.

        Raises NothingThereError for a missing directory; ComponentError for one that is no
        directory, that a running database writes into, or that lost its mount or all its files
        since `previous`; IncompleteCaptureError, after all else was stored, when files could
        not be read. With `lenient` losses and unreadable files are warnings of the proof.
        """
        with explained(f"{self.name}: cannot be read"):
            directory = self._existing()
            mounted = is_mount_point(directory)
            refuse_running_database(self.name, directory)
            exclude = (*self._config.exclude, f"/{INSIDE_PREFIX}*")
            saved = sink.write_tree("", directory, exclude=exclude)
        proof = _proof(saved, mounted=mounted)
        doubts = _losses(proof, previous) if isinstance(previous, VolumeProof) else ()
        if doubts and not lenient:
            raise ComponentError(
                f"{self.name}: {shown(directory)} {doubts[0]}",
                hint="is its disk mounted? If it is meant to be so: `sheetanchor backup --accept-empty`",
            )
        if saved.failures and not lenient:
            raise IncompleteCaptureError(self._unread(saved), proof=proof)
        return proof.model_copy(update={"warnings": (*proof.warnings, *doubts, *saved.failures)})

    def estimate(self, source: Source, proof: Proof, *, in_place: bool) -> StageEstimate:
        """Compare the backup's size with the free space; name mounts and leftovers in the way."""
        assert isinstance(proof, VolumeProof)
        with explained(f"{self.name}: cannot be inspected"):
            return estimate_stage(self._target(), proof, self._config.exclude, in_place=in_place)

    def stage(
        self,
        source: Source,
        proof: Proof,
        token: str,
        *,
        include: Sequence[str] = (),
        in_place: bool = False,
    ) -> StagedVolume:
        """Write the tree into a hidden folder on the volume's own file system.

        `in_place` (without `include`) writes nothing yet: the swap empties the directory and
        writes into the room this makes. Raises ComponentError, NoSpaceError, and
        NothingThereError when `include` matches nothing.
        """
        with explained(f"{self.name}: the backup cannot be staged"):
            live = self._target()
            folder = staging.find_work_folder(live, _checked(token))
            journal = staging.begin(live, folder, include, in_place=in_place)
            if journal.in_place:
                folder.save(replace(journal, phase=Phase.STAGED))
            else:
                folder.save(staging.write_tree(source, folder, journal))
        return StagedVolume(self.name, folder, self._config.exclude, source)

    def resume(self, token: str, source: Source | None = None) -> StagedVolume:
        """Return the staged state of `token` as it lies on disk."""
        live = Path(os.path.realpath(self._config.path))
        folder = staging.find_work_folder(live, _checked(token))
        return StagedVolume(self.name, folder, self._config.exclude, source)

    def sweep(self) -> None:
        """Do nothing: all that a killed run leaves belongs to its restore, which is resumed or undone."""

    def import_entries(
        self, entries: Iterable[tuple[Entry, BinaryIO | None]], sink: EntrySink
    ) -> VolumeProof:
        """Capture from the entries of a portable archive."""
        return _proof(sink.write_entries("", entries), mounted=False)

    def _existing(self) -> Path:
        """Return the directory with symbolic links resolved."""
        path = self._config.path
        live = self._target()
        if not live.exists():
            raise NothingThereError(f"{shown(path)} does not exist", hint="is its disk mounted?")
        if not live.is_dir():
            raise ComponentError(f"{shown(path)} is not a directory", hint="single files go under `configs`")
        return live

    def _target(self) -> Path:
        """Return where the volume is or will be; a symbolic link has to lead somewhere."""
        path = self._config.path
        live = Path(os.path.realpath(path))
        if path.is_symlink() and not os.path.lexists(live):
            raise NothingThereError(
                f"{shown(path)} is a symbolic link to {shown(live)}, which does not exist",
                hint="mount what it leads to, or remove the link",
            )
        return live

    def _unread(self, saved: TreeSaved) -> str:
        named = "; ".join(saved.failures[:_NAMED_FAILURES])
        more = len(saved.failures) - _NAMED_FAILURES
        return f"{self.name}: could not be read: {named}" + (f"; and {more} more" if more > 0 else "")


def _proof(saved: TreeSaved, *, mounted: bool) -> VolumeProof:
    return VolumeProof(
        warnings=saved.warnings,
        tree=saved.tree,
        files=saved.files,
        directories=saved.directories,
        others=saved.others,
        num_bytes=saved.num_bytes,
        skipped_sockets=saved.skipped_sockets,
        mount_point=mounted,
    )


def _losses(proof: VolumeProof, previous: VolumeProof) -> tuple[str, ...]:
    losses = []
    if previous.mount_point and not proof.mount_point:
        losses.append("is no mount point any more; it was one at the last backup")
    if proof.empty and not previous.empty:
        losses.append(f"is empty; the last backup held {previous.summary()}")
    return tuple(losses)


def _checked(token: str) -> str:
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(f"not a token: {token!r}")
    return token
