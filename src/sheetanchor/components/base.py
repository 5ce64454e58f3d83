"""The second seam, meaning: what every kind of protected thing can do.

A component puts named streams and file trees into a sink and says what a restore must equal
(capture); it builds the restored state beside the live one (stage), compares it (verify), puts
it in place (swap), takes that back (undo) and clears what is no longer needed (discard). It
sees neither the repository nor other components.

Every step can be run twice, and every name a step makes up is derived from the run's `token`,
so that after a crash `resume(token)` finds the staged state again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from sheetanchor.clock import Clock
from sheetanchor.errors import ComponentError
from sheetanchor.events import Listener
from sheetanchor.process import ProcessRunner


class Proof(BaseModel, ABC):
    """What a restore of the component must equal; stored in the manifest as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warnings: tuple[str, ...] = ()
    """What the operator has to know about this capture (files that changed while read)."""

    @abstractmethod
    def summary(self) -> str:
        """Return a short phrase for people, such as "3 databases, 41,200 rows"."""

    @property
    def empty(self) -> bool:
        """Whether there was no data at all: suspicious where the last backup held some."""
        return False

    def content(self) -> dict[str, Any]:
        """Return the part that is equal for any two captures of the same data."""
        return self.model_dump(mode="json", exclude={"warnings"})

    def differences(self, other: Proof) -> list[str]:
        """Say in what the contents of two captures differ, one phrase each; [] when equal."""
        return list(_differences("", self.content(), other.content()))


def _differences(path: str, one: object, other: object) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(f"{path}.{key}".lstrip("."), one.get(key), other.get(key))
    elif one != other:
        yield f"{path} is {one!r} instead of {other!r}"


class IncompleteCaptureError(ComponentError):
    """Parts of a component could not be read; everything else is in the sink.

    `proof` says what is there, so that the rest can still be kept, marked as failed.
    """

    code = "incomplete"

    def __init__(self, message: str, *, proof: Proof, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.proof = proof


@dataclass(frozen=True)
class StreamSaved:
    """A stream that has reached the sink whole."""

    size: int
    sha256: str


@dataclass(frozen=True)
class TreeSaved:
    """A file tree that has reached the sink."""

    tree: str
    """Hex id of the tree: a Merkle root over every name, attribute and content."""
    files: int
    directories: int
    others: int
    """Symbolic links, devices and FIFOs."""
    num_bytes: int
    skipped_sockets: int
    warnings: tuple[str, ...]
    """Files that changed while they were read, one line each."""
    failures: tuple[str, ...]
    """Files that could not be read at all, one line each."""


class Sink(Protocol):
    """Where a capture puts its data. Paths are relative to the component's own root."""

    def write_stream(self, path: str, source: BinaryIO, *, mode: int = 0o600) -> StreamSaved:
        """Store the stream as the file `path`, reading `source` to its end."""
        ...

    def write_tree(self, path: str, directory: Path, *, exclude: Sequence[str] = ()) -> TreeSaved:
        """Store `directory` (its own entry included) at `path`; "" is the component's root."""
        ...

    def write_file(self, path: str, file: Path) -> TreeSaved:
        """Store one file with its metadata at `path`."""
        ...


class EntrySink(Protocol):
    """Where the entries of a portable archive are put."""

    def write_entries(self, path: str, entries: Iterable[tuple[Entry, BinaryIO | None]]) -> TreeSaved:
        """Store entries, in any order, as the tree at `path`; the root's own is the one at b"".

        A file without content is one more name of the file with the same `hardlink_key`.
        """
        ...


class EntryType(StrEnum):
    """What a stored entry is."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "symlink"
    DEVICE = "dev"
    CHARACTER_DEVICE = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"


@dataclass(frozen=True)
class Entry:
    """One stored file, directory or other entry, with everything a restore puts back."""

    path: bytes
    """Relative to where the walk began, "/" between parts; b"" for the root itself."""
    type: EntryType
    mode: int
    """st_mode permission bits with setuid, setgid and sticky (07777)."""
    uid: int
    gid: int
    user: str
    group: str
    mtime_ns: int
    size: int
    link_target: bytes
    device: int
    """st_rdev for devices."""
    links: int
    hardlink_key: tuple[int, int] | None
    """(inode, device id) shared by all names of one file, None where there is one name."""
    xattrs: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class TreeRestored:
    """A file tree that stands on disk."""

    files: int
    num_bytes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One way in which files on disk are not what was saved."""

    path: str
    what: str


class Source(Protocol):
    """Where a stage takes its data from. Every byte is checked against its hash on the way."""

    def exists(self, path: str) -> bool:
        """Say whether something is stored at `path`."""
        ...

    def walk(self, path: str = "") -> Iterator[Entry]:
        """Yield the entry at `path` and all below it, parents before children."""
        ...

    def open(self, path: str | bytes) -> AbstractContextManager[BinaryIO]:
        """Read a stored file as a stream."""
        ...

    def restore_tree(self, path: str, directory: Path, *, include: Sequence[str] = ()) -> TreeRestored:
        """Write the tree at `path` as `directory`, with all metadata; sparse files stay sparse.

        `directory` must not exist, or be empty. `include` limits it to matching paths.
        """
        ...

    def compare_tree(self, path: str, directory: Path) -> list[Difference]:
        """Read `directory` back and compare names, metadata and content with what is stored."""
        ...


@dataclass(frozen=True)
class Capabilities:
    """What a component can do, as data."""

    stages_beside: bool
    """The restored state can stand beside the live one (else only in place)."""
    interrupts_service: bool
    """The swap needs the service's sessions closed or its process stopped."""
    selects_files: bool
    """`restore --include` makes sense."""
    portable: bool
    """Has a form in a portable archive."""
    swaps_stopped: bool = False
    """The swap wants the service stopped, where a stop command is configured; the others need
    their server up for it."""


@dataclass(frozen=True)
class Context:
    """What every component is given besides its configuration."""

    processes: ProcessRunner
    clock: Clock
    listener: Listener
    work_directory: Path
    """For scratch servers and staged dumps; on a disk with room."""


@dataclass(frozen=True)
class StageEstimate:
    """What staging will need and what stands in its way, for the plan."""

    needed_bytes: int
    free_bytes: int | None
    """None where it cannot be known (a remote server)."""
    notes: tuple[str, ...] = ()
    """For the operator: sessions to be closed, roles that will be changed."""
    remains: tuple[str, ...] = ()
    """What will still hold when the restore is done, and is said again then: databases that were
    left alone, replication that has to be set up anew."""
    refusals: tuple[str, ...] = ()
    """Reasons for which the restore must not start."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Everything that the plan says."""
        return self.notes + self.remains


class Staged(Protocol):
    """The restored state of one component, standing beside the live one.

    All four steps are idempotent. Order: verify, swap, then either discard (keep the new) or
    undo (back to the old, which is then live again) followed by discard.
    """

    def verify(self, proof: Proof) -> tuple[str, ...]:
        """Compare the staged state with `proof`; return what was compared, one phrase each.

        Raises ProofMismatchError naming the first differences.
        """
        ...

    def swap(self) -> None:
        """Put the staged state in place, keeping the old one."""
        ...

    def undo(self) -> None:
        """Put the old state back in place."""
        ...

    def discard(self) -> None:
        """Remove whatever is not live: the old state after a swap, the staged one before."""
        ...


class Component(Protocol):
    """One unit of data in a stack."""

    kind: ClassVar[str]
    """The word for it in the configuration: postgres, redis, volume, configs."""
    capabilities: ClassVar[Capabilities]
    proof_model: ClassVar[type[Proof]]

    @property
    def name(self) -> str:
        """The name from the configuration; unique in the stack."""
        ...

    def check(self) -> tuple[str, ...]:
        """Reach the live thing; return short facts such as "PostgreSQL 15.18".

        Raises UnreachableError or ToolError.
        """
        ...

    def capture(self, sink: Sink, previous: Proof | None = None, *, lenient: bool = False) -> Proof:
        """Put the component's state into `sink`; return what a restore must equal.

        `previous` is the proof of the last backup: what was full then and is empty now fails.
        `lenient` is for the safety backup of something damaged: parts that are missing (one of
        several configuration files) become warnings. Raises NothingThereError where there is
        nothing at all to capture.
        """
        ...

    def estimate(self, source: Source, proof: Proof, *, in_place: bool) -> StageEstimate:
        """Say what a stage will need; touches nothing."""
        ...

    def stage(
        self,
        source: Source,
        proof: Proof,
        token: str,
        *,
        include: Sequence[str] = (),
        in_place: bool = False,
    ) -> Staged:
        """Build the restored state beside the live one; a half stage of the same token is redone."""
        ...

    def resume(self, token: str, source: Source | None = None) -> Staged:
        """Find the staged state of `token` again after a crash, at whatever step it was.

        `source` is the backup again, for a verify (or an in-place swap) that has to read it;
        undo and discard do without. Finding nothing is no error here: the steps then say so.
        """
        ...

    def sweep(self) -> None:
        """Remove what killed runs left behind, but for the staged state of restores."""
        ...


class PortableComponent(Protocol):
    """A component whose state has a form in the runbook's portable archive."""

    def export_stream(self, source: Source) -> AbstractContextManager[BinaryIO]:
        """Yield the portable form (SQL of the whole cluster; an RDB file)."""
        ...

    def import_stream(self, stream: BinaryIO, sink: Sink) -> Proof:
        """Capture from the portable form by loading it in a sandbox; `stream` is not trusted."""
        ...


class PortableTree(Protocol):
    """A component whose portable form is a file tree."""

    def import_entries(self, entries: Iterable[tuple[Entry, BinaryIO | None]], sink: EntrySink) -> Proof:
        """Capture from an archive's entries; their paths are checked already, nothing else is."""
        ...


def proof_from_json(model: type[Proof], value: dict[str, Any]) -> Proof:
    """Read a proof back from the manifest. Raises pydantic's ValidationError."""
    return model.model_validate(value)
