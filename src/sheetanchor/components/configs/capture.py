"""Reads configured paths into a sink, with a digest of exactly what was stored."""

from __future__ import annotations

from pathlib import Path

from sheetanchor.components.base import IncompleteCaptureError, Sink
from sheetanchor.components.configs.paths import live_path, proof_path, stored_path
from sheetanchor.components.configs.proof import ConfigsProof, DirectoryProof, FileProof
from sheetanchor.components.configs.staged import file_digest
from sheetanchor.components.disk import shown
from sheetanchor.errors import ComponentError


class Capture:
    """Collects the proof of one run."""

    def __init__(self, name: str, sink: Sink, *, lenient: bool) -> None:
        self._name = name
        self._sink = sink
        self._lenient = lenient
        self._files: list[FileProof] = []
        self._trees: list[DirectoryProof] = []
        self._warnings: list[str] = []
        self._failures: list[str] = []

    def add(self, path: Path) -> None:
        """Store one path. Raises ComponentError for what is neither file nor directory."""
        live = live_path(path)
        if live.is_dir():
            self._add_directory(path, live)
        elif live.is_file():
            self._files.append(self._add_file(path, live))
        else:
            raise ComponentError(f"{self._name}: {shown(path)} is neither a file nor a directory")

    def proof(self, missing: list[str]) -> ConfigsProof:
        """Return the proof. Raises IncompleteCaptureError when files could not be read."""
        lost = [*missing, *(self._failures if self._lenient else ())]
        proof = ConfigsProof(
            warnings=(*self._warnings, *lost), files=tuple(self._files), trees=tuple(self._trees)
        )
        if self._failures and not self._lenient:
            raise IncompleteCaptureError(
                f"{self._name}: could not be read: {'; '.join(self._failures)}", proof=proof
            )
        return proof

    def _add_directory(self, path: Path, live: Path) -> None:
        saved = self._sink.write_tree(stored_path(path), live)
        self._warnings += saved.warnings
        self._failures += saved.failures
        self._trees.append(
            DirectoryProof(
                path=proof_path(path),
                files=saved.files,
                directories=saved.directories,
                others=saved.others,
                num_bytes=saved.num_bytes,
            )
        )

    def _add_file(self, path: Path, live: Path) -> FileProof:
        """Store a file that is the same before and after: the sink has what the proof says."""
        before = _look_at(path, live)
        self._sink.write_file(stored_path(path), live)
        if _look_at(path, live) != before:
            raise ComponentError(
                f"{self._name}: {shown(path)} changed while it was read", hint="run the backup again"
            )
        return before


def _look_at(path: Path, live: Path) -> FileProof:
    digest = file_digest(live)
    found = live.stat()
    return FileProof(
        path=proof_path(path),
        sha256=digest,
        size=found.st_size,
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
    )
