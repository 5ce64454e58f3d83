"""Takes configuration files from a portable archive, with the proof of what came."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from sheetanchor.components.base import Entry, EntrySink, EntryType
from sheetanchor.components.configs.paths import proof_path, stored_path
from sheetanchor.components.configs.proof import ConfigsProof, DirectoryProof, FileProof
from sheetanchor.errors import ComponentError


class _DigestingStream:
    """Passes a stream on and keeps the digest of what went by."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, count: int = -1) -> bytes:
        """Read on."""
        piece = self._source.read(count)
        self._digest.update(piece)
        self.size += len(piece)
        return piece

    def hexdigest(self) -> str:
        """Return the SHA-256 of all that was read."""
        return self._digest.hexdigest()


def proof_of_entries(
    name: str,
    paths: tuple[Path, ...],
    entries: Iterable[tuple[Entry, BinaryIO | None]],
    sink: EntrySink,
) -> ConfigsProof:
    """Store the entries at or below (or above) `paths` and return their proof.

    Raises ComponentError when there is none.
    """
    tallies = {stored_path(path): _Tally() for path in paths}
    sink.write_entries("", _watched(tallies, entries))
    files, trees = [], []
    for stored, tally in tallies.items():
        label = proof_path(Path("/") / stored)
        if tally.file is not None:
            files.append(tally.file_proof(label))
        elif tally.directories:
            trees.append(tally.directory_proof(label))
    if not files and not trees:
        raise ComponentError(f"{name}: the archive holds none of the paths listed here")
    return ConfigsProof(files=tuple(files), trees=tuple(trees))


class _Tally:
    """What an archive holds of one configured path."""

    def __init__(self) -> None:
        self.file: Entry | None = None
        self.content: _DigestingStream | None = None
        self.files = 0
        self.directories = 0
        self.others = 0
        self.contents: list[_DigestingStream] = []

    def file_proof(self, path: str) -> FileProof:
        """Return the proof of a single file."""
        entry, content = self.file, self.content
        assert entry is not None
        assert content is not None
        return FileProof(
            path=path,
            sha256=content.hexdigest(),
            size=content.size,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime_ns=entry.mtime_ns,
        )

    def directory_proof(self, path: str) -> DirectoryProof:
        """Return the proof of a directory."""
        return DirectoryProof(
            path=path,
            files=self.files,
            directories=self.directories,
            others=self.others,
            num_bytes=sum(content.size for content in self.contents),
        )


def _watched(
    tallies: dict[str, _Tally], entries: Iterable[tuple[Entry, BinaryIO | None]]
) -> Iterator[tuple[Entry, BinaryIO | None]]:
    for entry, source in entries:
        path = os.fsdecode(entry.path)
        inside = next((root for root in tallies if path == root or path.startswith(f"{root}/")), None)
        if inside is None:
            if any(root.startswith(f"{path}/") for root in tallies) or not path:
                yield entry, source
            continue
        if entry.type is EntryType.FILE and source is None:
            raise ComponentError(f"/{path}: the archive has no content for it")
        content = _DigestingStream(source) if source is not None else None
        _count(tallies[inside], entry, content, exact=path == inside)
        yield entry, cast("BinaryIO | None", content)


def _count(tally: _Tally, entry: Entry, content: _DigestingStream | None, *, exact: bool) -> None:
    if entry.type is EntryType.DIRECTORY:
        tally.directories += 1
    elif entry.type is EntryType.FILE:
        tally.files += 1
        if content is not None:
            tally.contents.append(content)
        if exact:
            tally.file, tally.content = entry, content
    else:
        tally.others += 1
