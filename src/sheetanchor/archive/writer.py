"""Writes one archive in every form asked for, in one pass.

With only the encrypted form asked, nothing plain is ever on disk: members wait for their size in
a nameless file encrypted under a key held in memory. Nothing appears under its name before all
of it is written and durable.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.layout import (
    CHECKSUM_SUFFIX,
    CHECKSUMS,
    MAC_SUFFIX,
    MANIFEST,
    ArchiveForms,
    ArchivePaths,
    check_archive_name,
    check_member,
    volume_member,
)
from sheetanchor.archive.publication import Publication, taken
from sheetanchor.archive.spool import FolderFile, HiddenFile, Spool, open_new, write_all
from sheetanchor.archive.streams import CHUNK_BYTES, HashingSink
from sheetanchor.archive.tar_gz_output import OutputFile, TarGzOutput, secret_output
from sheetanchor.archive.tar_writer import TarWriter, TreeEntry, TreeWritten
from sheetanchor.clock import Clock
from sheetanchor.errors import ArchiveError, UsageError
from sheetanchor.events import Listener
from sheetanchor.secret import Secret


@dataclass(frozen=True)
class MemberWritten:
    """A member that has reached the archive."""

    member: str
    size: int
    """Bytes of the member's file."""
    sha256: str
    tree: TreeWritten | None = None
    """What a volume's tar holds."""


@dataclass(frozen=True)
class FileWritten:
    """A file or folder of the archive as it stands on disk."""

    path: Path
    size: int
    """Bytes; of all files together for the folder."""
    sha256: str
    """Of a single file; of its SHA256SUMS for the folder."""


@dataclass(frozen=True)
class ArchiveWritten:
    """A finished archive."""

    files: tuple[FileWritten, ...]
    members: tuple[MemberWritten, ...]

    @property
    def content_bytes(self) -> int:
        """What was to be kept before any compression: members, of volumes the files in them."""
        return sum(member.tree.num_bytes if member.tree else member.size for member in self.members)

    @property
    def archive_bytes(self) -> int:
        """What one copy takes: of the smallest form that was written."""
        beside = (MAC_SUFFIX, CHECKSUM_SUFFIX)
        sizes = [file.size for file in self.files if not file.path.name.endswith(beside)]
        return min(sizes)


class ArchiveWriter:
    """A context manager: leaving it without `finish` leaves nothing behind."""

    def __init__(
        self,
        directory: Path,
        name: str,
        forms: ArchiveForms,
        key: Secret | None,
        clock: Clock,
        listener: Listener,
        spool_directory: Path | None = None,
    ) -> None:
        """Prepare to write archive `name` below `directory`.

        `spool_directory` holds members until their size is known when no folder is written;
        `directory` itself without it. Raises UsageError when no form is asked for, or the
        encrypted one without a key.
        """
        if not (forms.folder or forms.tar or forms.enc):
            raise UsageError("no form of archive is asked for", hint="give at least one of folder, tar, enc")
        if forms.enc and (key is None or not key.reveal()):
            raise UsageError(
                "an encrypted archive needs a key",
                hint="set ENCRYPTION_KEY or ENCRYPTION_KEY_FILE, or give --key-file",
            )
        self._name = check_archive_name(name)
        self._directory = directory
        self._forms = forms
        self._key = key
        self._clock = clock
        self._listener = listener
        self._spool_directory = spool_directory or directory
        self._publication = Publication(directory, name)
        self._members: list[MemberWritten] = []
        self._stack = ExitStack()
        self._plain: OutputFile | None = None
        self._sealed: OutputFile | None = None
        self._output: TarGzOutput | None = None

    def __enter__(self) -> ArchiveWriter:
        self._check_free()
        with ExitStack() as stack:
            work = ArchivePaths(stack.enter_context(self._publication).work, self._name)
            if self._forms.folder:
                work.folder.mkdir(mode=0o700)
            sealing = None
            if self._forms.tar:
                self._plain = OutputFile(work.tar)
                stack.callback(self._plain.abandon)
            if self._forms.enc and self._key:
                self._sealed, sealing = secret_output(work.encrypted, self._key)
                stack.callback(self._sealed.abandon)
            if self._forms.tar or self._forms.enc:
                mtime = int(self._clock.now().timestamp())
                self._output = TarGzOutput(self._name, mtime, self._plain, sealing)
                stack.callback(self._output.abort)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add_stream(self, member: str, source: BinaryIO) -> MemberWritten:
        """Add `source`, read to its end, as `member`."""
        self._check_new(member)
        self._listener.started(member)
        spool = self._spool(member)
        try:
            written = self._take_stream(member, source, spool)
        finally:
            spool.close()
            self._listener.finished(member)
        self._members.append(written)
        return written

    def add_bytes(self, member: str, data: bytes) -> MemberWritten:
        """Add a small member."""
        return self.add_stream(member, io.BytesIO(data))

    def add_volume(self, name: str, entries: Iterator[TreeEntry]) -> MemberWritten:
        """Add a file tree as `volumes/<name>.tar.gz`.

        The function beside a FILE entry opens its content; large files are opened twice, since
        the map of a file's holes stands before its content.
        """
        member = self._check_new(volume_member(name))
        self._listener.started(member)
        spool = self._spool(member)
        try:
            compressed = HashingSink(spool.write)
            with GzipWriter(compressed.write) as gzip:
                tree = TarWriter(self._counting(member, gzip)).add_all(entries)
            if self._output:
                self._output.add(member, compressed.size, spool.chunks(), compressed=False, stored=True)
        finally:
            spool.close()
            self._listener.finished(member)
        if tree.skipped_sockets:
            self._listener.warning(member, f"{tree.skipped_sockets} sockets left out: tar cannot hold them")
        written = MemberWritten(member, compressed.size, compressed.sha256, tree)
        self._members.append(written)
        return written

    def finish(self) -> ArchiveWritten:
        """Write SHA256SUMS, end all files and give them their names."""
        if MANIFEST not in {member.member for member in self._members}:
            raise ArchiveError(f"archive {self._name}: no {MANIFEST} was added")
        lines = "".join(f"{member.sha256}  {member.member}\n" for member in self._members)
        sums = self.add_bytes(CHECKSUMS, lines.encode("utf-8", "surrogateescape"))
        mac = self._output.finish() if self._output else None
        work, target = (
            ArchivePaths(self._publication.work, self._name),
            ArchivePaths(self._directory, self._name),
        )
        files: list[FileWritten] = []
        parts: list[Path] = []
        if self._forms.folder:
            files.append(
                FileWritten(target.folder, sum(member.size for member in self._members), sums.sha256)
            )
            parts.append(work.folder)
        for output in (self._plain, self._sealed):
            if output:
                output.close()
                files.append(FileWritten(self._directory / output.path.name, output.size, output.sha256))
        parts = [*self._write_side_files(work, files, mac), *parts]
        parts += [output.path for output in (self._plain, self._sealed) if output]
        self._publication.publish(parts, replace=[work.checksum])
        return ArchiveWritten(tuple(files), tuple(self._members))

    def _take_stream(self, member: str, source: BinaryIO, spool: Spool) -> MemberWritten:
        """Stage a stream, plain in the folder or else compressed, and add it to the outer tar."""
        compress = not self._forms.folder and not member.endswith(".gz")
        with ExitStack() as stack:
            if compress:
                gzip = stack.enter_context(GzipWriter(spool.write))
                plain = HashingSink(gzip.write)
            else:
                plain = HashingSink(spool.write)
            while data := source.read(CHUNK_BYTES):
                plain.write(data)
                self._listener.advanced(member, len(data))
        if self._output:
            stored = member.endswith(".gz")
            self._output.add(member, plain.size, spool.chunks(), compressed=compress, stored=stored)
        return MemberWritten(member, plain.size, plain.sha256)

    def _spool(self, member: str) -> Spool:
        if self._forms.folder:
            return FolderFile(ArchivePaths(self._publication.work, self._name).folder / member)
        return HiddenFile(self._spool_directory, None if self._forms.tar else os.urandom)

    def _counting(self, member: str, gzip: GzipWriter) -> Callable[[bytes], None]:
        def write(data: bytes) -> None:
            gzip.write(data)
            self._listener.advanced(member, len(data))

        return write

    def _check_new(self, member: str) -> str:
        check_member(member)
        if member in {written.member for written in self._members}:
            raise ArchiveError(f"archive {self._name}: two members named {member}")
        return member

    def _check_free(self) -> None:
        """Refuse now what could not be published after hours of work."""
        target = ArchivePaths(self._directory, self._name)
        wanted = (
            (target.folder, self._forms.folder),
            (target.tar, self._forms.tar),
            (target.encrypted, self._forms.enc),
            (target.mac, self._forms.enc),
        )
        for path, asked in wanted:
            if asked and os.path.lexists(path):
                raise taken(path)

    def _write_side_files(
        self, work: ArchivePaths, files: list[FileWritten], mac: bytes | None
    ) -> list[Path]:
        """Write `.hmac` and `.sha256`; the latter keeps what an earlier export of other forms wrote."""
        parts = []
        target = ArchivePaths(self._directory, self._name)
        if mac is not None:
            _write_file(work.mac, mac)
            files.append(FileWritten(target.mac, len(mac), hashlib.sha256(mac).hexdigest()))
            parts.append(work.mac)
        lines = {file.path.name: file.sha256 for file in files if file.path != target.folder}
        if lines:
            text = "".join(
                f"{digest}  {name}\n" for name, digest in {**_old_checksums(target), **lines}.items()
            )
            _write_file(work.checksum, text.encode("ascii"))
            parts.append(work.checksum)
        return parts


def _old_checksums(target: ArchivePaths) -> dict[str, str]:
    try:
        lines = target.checksum.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs if (target.directory / name).exists()}


def _write_file(path: Path, data: bytes) -> None:
    file = open_new(path)
    try:
        write_all(file, data, path)
    finally:
        file.close()
