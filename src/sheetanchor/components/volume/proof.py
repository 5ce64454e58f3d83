"""What a restored volume must equal."""

from __future__ import annotations

from typing import Any

from sheetanchor.components.base import Proof


class VolumeProof(Proof):
    """Counts and the Merkle root of one directory tree."""

    tree: str
    """Hex id of the stored tree: covers every name, attribute and content."""
    files: int
    """Names of regular files; a file with three hard links counts three times."""
    directories: int
    others: int
    """Symbolic links, devices and FIFOs."""
    num_bytes: int
    skipped_sockets: int = 0
    """Sockets belong to a running process and are not saved."""
    mount_point: bool = False
    """Whether a file system was mounted at the volume's path."""

    def summary(self) -> str:
        """Return files and bytes, such as "1,204 files, 3.2 GiB"."""
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        return f"{files}, {human_bytes(self.num_bytes)}"

    def content(self) -> dict[str, Any]:
        """Return the counts; the tree's id covers inode numbers too and differs between places."""
        return self.model_dump(include={"files", "directories", "others", "num_bytes"})

    @property
    def empty(self) -> bool:
        """Nothing but the root directory itself was there."""
        return self.files == 0 and self.others == 0 and self.directories <= 1


def human_bytes(count: int) -> str:
    """Return a size in B, KiB, MiB, GiB or TiB with at most one decimal."""
    if count < 1024:
        return f"{count} B"
    size = count / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
