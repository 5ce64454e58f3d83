"""An archive on disk, in whatever form, as one sequence of members."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from sheetanchor.archive import tar_format
from sheetanchor.archive.authentication import MAX_MAC_FILE_BYTES, MacFile, open_mac_file
from sheetanchor.archive.encryption import DecryptingReader
from sheetanchor.archive.gzip_stream import GzipReader
from sheetanchor.archive.layout import CHECKSUMS, MANIFEST, ArchivePaths, check_archive_name, check_member
from sheetanchor.archive.limits import ExpansionLimit, LimitedSource
from sheetanchor.archive.old_layout import OldDecryptingReader
from sheetanchor.archive.streams import CHUNK_BYTES, ByteSource, HashingSource
from sheetanchor.archive.tar_reader import read_members
from sheetanchor.archive.volume_reader import safe_path
from sheetanchor.errors import ArchiveError, HostileArchiveError, WrongKeyError
from sheetanchor.secret import Secret

Member = tuple[str, ByteSource]


class ArchiveInput(Protocol):
    """One form of archive; can be gone through more than once."""

    @property
    def what(self) -> str:
        """The archive, for messages."""
        ...

    @property
    def authenticated(self) -> bool:
        """Whether somebody with the key wrote it just so."""
        ...

    @property
    def size(self) -> int:
        """Bytes on disk."""
        ...

    def members(self, limit: ExpansionLimit) -> Iterator[Member]:
        """Yield members in order; the content is read before the next one is asked for."""
        ...


class FolderInput:
    """The plain folder."""

    authenticated = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.what = str(path)
        self.name = check_archive_name(path.name)
        self._members = sorted(self._list(), key=_folder_order)
        self.size = sum((path / member).stat().st_size for member in self._members)

    def members(self, limit: ExpansionLimit) -> Iterator[Member]:
        """Yield the files, the manifest first."""
        for member in self._members:
            with _open_regular(self._path / member) as file:
                yield member, LimitedSource(file, limit)

    def _list(self) -> Iterator[str]:
        def fail(error: OSError) -> None:
            raise ArchiveError(f"{error.filename}: {error.strerror}") from error

        for parent, directories, files in os.walk(self._path, onerror=fail):
            relative = os.path.relpath(parent, self._path)
            for name in (*directories, *files):
                place = os.path.join(parent, name)
                mode = os.lstat(place).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise HostileArchiveError(f"{place}: neither a file nor a directory")
                if stat.S_ISREG(mode):
                    yield check_member(os.path.normpath(os.path.join(relative, name)))


class FileInput:
    """A `.tar.gz` or `.tar.gz.enc` file."""

    def __init__(self, path: Path, key: Secret | None, *, encrypted: bool, trust: bool) -> None:
        self._path = path
        self._key = key
        self._encrypted = encrypted
        self.what = str(path)
        self.name = ""
        self.sha256 = ""
        """Of the whole file, known after it was gone through."""
        with _open_regular(path) as file:
            self.size = os.fstat(file.fileno()).st_size
        self._macs = self._open_macs(trust) if encrypted else None
        self.authenticated = self._macs is not None

    def members(self, limit: ExpansionLimit) -> Iterator[Member]:
        """Yield the members of the tar."""
        with _open_regular(self._path) as file:
            raw = HashingSource(file)
            plain = LimitedSource(GzipReader(self._decrypted(raw), self.what), limit)
            yield from self._inner(plain)
            while raw.read(CHUNK_BYTES):
                pass
            self.sha256 = raw.sha256

    def _inner(self, plain: ByteSource) -> Iterator[Member]:
        """Yield members without the name of the folder that all of them are in."""
        seen: set[str] = set()
        for member in read_members(plain, self.what):
            path = safe_path(member.header.name, self.what).decode("utf-8", "surrogateescape")
            folder, _, name = path.partition("/")
            if not self.name:
                self.name = check_archive_name(folder)
            if folder != self.name:
                raise HostileArchiveError(f"{self.what}: holds more than one folder")
            if member.header.kind == tar_format.DIRECTORY:
                continue
            if member.content is None or member.header.kind == tar_format.HARD_LINK:
                raise HostileArchiveError(f"{self.what}: {name[:120]!r} is neither a file nor a directory")
            if name in seen:
                raise HostileArchiveError(f"{self.what}: two members named {name[:120]!r}")
            seen.add(name)
            yield check_member(name), member.content

    def _decrypted(self, raw: ByteSource) -> ByteSource:
        if not self._encrypted:
            return raw
        assert self._key is not None
        if self._macs is None:
            return OldDecryptingReader(raw, self._key, self.what)
        return DecryptingReader(raw, self._key, self._macs, self.what)

    def _open_macs(self, trust: bool) -> MacFile | None:
        if self._key is None or not self._key.reveal():
            raise WrongKeyError(
                f"{self.what}: is encrypted and no key was given",
                hint="set ENCRYPTION_KEY or ENCRYPTION_KEY_FILE",
            )
        path = Path(f"{self._path}.hmac")
        if not path.exists():
            if trust:
                return None
            raise ArchiveError(
                f"{self.what}: {path.name} is not beside it, so a changed byte would go unseen",
                hint=f"put {path.name} beside it; an archive of the old scripts needs --trust-archive",
            )
        with _open_regular(path) as file:
            data = file.read(MAX_MAC_FILE_BYTES)
        macs = open_mac_file(data, self._key, str(path))
        if macs.length != self.size:
            how = "truncated" if self.size < macs.length else "longer than it was when it was written"
            raise HostileArchiveError(f"{self.what}: {how} ({self.size} bytes, not {macs.length})")
        return macs


def find_input(path: Path, key: Secret | None, *, trust: bool) -> FolderInput | FileInput:
    """Open the archive at `path`; without a suffix the form that exists is taken.

    Raises ArchiveError when there is none.
    """
    paths = ArchivePaths(path.parent, path.name)
    if path.is_dir():
        return FolderInput(path)
    if path.exists():
        return FileInput(path, key, encrypted=path.name.endswith(".enc"), trust=trust)
    if paths.tar.exists():
        return FileInput(paths.tar, key, encrypted=False, trust=trust)
    if paths.encrypted.exists():
        return FileInput(paths.encrypted, key, encrypted=True, trust=trust)
    raise ArchiveError(f"{path}: no archive of that name, as folder, .tar.gz or .tar.gz.enc")


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error
    with cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0)) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArchiveError(f"{path}: not a regular file")
        yield file


def _folder_order(member: str) -> tuple[bool, bool, str]:
    return member != MANIFEST, member == CHECKSUMS, member
