"""What the repository's facade returns: plain records, equal in shape to what components see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sheetanchor.repository.ids import Id


@dataclass(frozen=True)
class StreamSaved:
    """A stream that is stored whole: its length in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class TreeSaved:
    """A file tree that is stored; counts leave out what an exclude pattern matched."""

    tree: Id
    """Id of the directory's own tree; for one file, what the id of a tree of just this file would be."""
    files: int
    directories: int
    others: int
    """Symbolic links, devices and FIFOs."""
    num_bytes: int
    skipped_sockets: int
    unmodified: int
    """Files taken over from the parent without being opened."""
    warnings: tuple[str, ...]
    """Files that changed or vanished while they were read, one line each."""
    failures: tuple[str, ...]
    """What could not be read at all, one line each."""


@dataclass(frozen=True)
class TreeRestored:
    """A file tree that stands on disk."""

    files: int
    directories: int
    others: int
    num_bytes: int
    warnings: tuple[str, ...]
    """What could not be put back and costs no data (an owner, without root)."""


@dataclass(frozen=True)
class Difference:
    """One way in which files on disk are not what was saved."""

    path: str
    what: str


@dataclass(frozen=True)
class Statistics:
    """What a write session did so far; all in bytes or blobs."""

    bytes_read: int
    data_blobs_new: int
    tree_blobs_new: int
    blobs_known: int
    bytes_new: int
    """Plain bytes of the new blobs."""
    bytes_added: int
    """Bytes that went into packs: after deduplication, compression and encryption."""
    packs: int


class EntryLike(Protocol):
    """An entry from elsewhere (an archive) with all its metadata."""

    @property
    def path(self) -> bytes:
        """Relative, "/" between parts."""
        ...

    @property
    def type(self) -> str:
        """One of the words of `node.NodeType`."""
        ...

    @property
    def mode(self) -> int:
        """The 07777 bits."""
        ...

    @property
    def uid(self) -> int:
        """Numeric owner."""
        ...

    @property
    def gid(self) -> int:
        """Numeric group."""
        ...

    @property
    def user(self) -> str:
        """Name of the owner, or ""."""
        ...

    @property
    def group(self) -> str:
        """Name of the group, or ""."""
        ...

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    @property
    def link_target(self) -> bytes:
        """Where a symbolic link leads."""
        ...

    @property
    def device(self) -> int:
        """st_rdev of a device."""
        ...

    @property
    def links(self) -> int:
        """How many names the file has."""
        ...

    @property
    def hardlink_key(self) -> tuple[int, int] | None:
        """(inode, device id), equal for all names of one file."""
        ...

    @property
    def xattrs(self) -> tuple[tuple[str, bytes], ...]:
        """Extended attributes."""
        ...


@dataclass(frozen=True)
class PrunePlan:
    """What a prune will do, in figures (bytes as stored) and in packs."""

    snapshots: int
    blobs_used: int
    blobs_unused: int
    """Entries in packs that nobody needs, further copies of needed blobs included."""
    packs_kept: int
    bytes_before: int
    bytes_after: int
    """An estimate: headers of the new packs are counted as those of the old."""
    bytes_to_repack: int
    """What is read and written anew."""
    bytes_unused_left: int
    unreferenced: tuple[Id, ...]
    """Stored, but in no index: left by runs that were cut off."""
    delete: tuple[Id, ...]
    """Indexed, nothing in them is used."""
    repack: tuple[Id, ...]
    """Partly used, or small: their used blobs go to new packs. In the order of what is gained."""
    lost: tuple[Id, ...]
    """Indexed but not stored, and not needed: they leave the index."""

    @property
    def bytes_to_free(self) -> int:
        """Return by how much the repository gets smaller."""
        return self.bytes_before - self.bytes_after

    @property
    def nothing_to_do(self) -> bool:
        """Say whether the repository stays as it is."""
        return not (self.unreferenced or self.delete or self.repack or self.lost)


@dataclass(frozen=True)
class PruneOutcome:
    """What a prune did; bytes as stored."""

    packs_removed: int
    packs_repacked: int
    packs_left: int
    """Packs to be written anew that were not, for want of time or because of damage."""
    bytes_freed: int
    index_files_replaced: int
    damaged: tuple[str, ...] = ()
    """What could not be read; those packs stay as they are."""
