"""What restored configuration files must equal."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from sheetanchor.components.base import Proof


class FileProof(BaseModel):
    """One file; a symbolic link in the configuration stands for what it leads to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Absolute; bytes that are not UTF-8 are percent-encoded."""
    sha256: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int


class DirectoryProof(BaseModel):
    """One directory with everything in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    files: int
    directories: int
    others: int
    num_bytes: int


class ConfigsProof(Proof):
    """Every configured path that was there."""

    files: tuple[FileProof, ...] = ()
    trees: tuple[DirectoryProof, ...] = ()

    @property
    def num_bytes(self) -> int:
        """The size of everything in bytes."""
        return sum(file.size for file in self.files) + sum(tree.num_bytes for tree in self.trees)

    @property
    def num_files(self) -> int:
        """All files, those in directories included."""
        return len(self.files) + sum(tree.files for tree in self.trees)

    def summary(self) -> str:
        """Return the number of files, such as "3 files"."""
        return "1 file" if self.num_files == 1 else f"{self.num_files:,} files"

    def content(self) -> dict[str, Any]:
        """Return sizes, digests and counts by path."""
        keys = {"sha256", "size"}
        files = {file.path: file.model_dump(include=keys) for file in self.files}
        trees = {tree.path: tree.model_dump(exclude={"path"}) for tree in self.trees}
        return {"files": files, "trees": trees}
