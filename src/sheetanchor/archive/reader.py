"""Reads an archive in any form; nothing is handed out before all of it was checked.

The file on disk is gone through twice: once to prove it (HMAC, `.sha256`, gzip and tar structure,
SHA256SUMS, every volume's entries, expansion), once to hand its members out, where each is
compared with what the first pass saw.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sheetanchor.archive.inputs import ArchiveInput, FileInput, FolderInput, find_input
from sheetanchor.archive.layout import CHECKSUMS, MANIFEST, archive_paths, volume_name
from sheetanchor.archive.limits import ExpansionLimit
from sheetanchor.archive.streams import CHUNK_BYTES, ByteSource, HashingSource, as_stream
from sheetanchor.archive.volume_reader import HardLinks, VolumeEntry, read_volume, scan_volume
from sheetanchor.errors import ArchiveError, HostileArchiveError
from sheetanchor.secret import Secret

MAX_MANIFEST_BYTES = 256 << 20
_DEVICE_HINT = (
    "devices are taken from a proven archive only: leave the volume out, and unpack it with tar by hand"
)
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class ArchiveReader:
    """A checked archive. Made by open_archive."""

    def __init__(self, source: FolderInput | FileInput, check: _Check, *, trust: bool) -> None:
        self._source = source
        self._check = check
        self._trust = trust
        self._member = ""
        self.name: str = source.name
        self.manifest: bytes | None = check.kept.get(MANIFEST)
        self.proven = check.proven()
        """Every member is what the archive's own checksums and manifest say; False for old archives."""
        self.authenticated = source.authenticated
        """An HMAC under the operator's key covers it."""

    @property
    def member_names(self) -> tuple[str, ...]:
        """All members but the manifest and SHA256SUMS, in order."""
        return tuple(member for member in self._check.digests if member not in (MANIFEST, CHECKSUMS))

    def members(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and content of all members but the manifest and SHA256SUMS, in order.

        A member is read before the next one is asked for; what is not read is passed over.
        Reading to the end raises HostileArchiveError when the file changed since it was checked.
        """
        for member, content in self._source.members(self._limit()):
            if member not in (MANIFEST, CHECKSUMS):
                self._member = member
                what = f"{self._source.what}: {member}"
                yield member, as_stream(_Unchanged(content, self._check.digests.get(member), what))

    def volume(self, stream: BinaryIO) -> Iterator[VolumeEntry]:
        """Yield the entries of the volume whose member was yielded last; see read_volume."""
        what = f"{self._source.what}: {self._member}"
        links = self._check.links.get(self._member)
        return read_volume(stream, what, links=links, allow_devices=self.proven)

    def _limit(self) -> ExpansionLimit:
        return _limit_of(self._source, trust=self._trust)


@contextmanager
def open_archive(path: Path, *, key: Secret | None, trust: bool) -> Iterator[ArchiveReader]:
    """Check the archive at `path` and yield its reader.

    `path` may be without suffix: folder, `.tar.gz`, `.tar.gz.enc` are tried in this order. `trust`
    admits archives of the old scripts (no manifest, checksums or HMAC) and lifts the limit on
    expansion; it never admits a wrong checksum or a path that leads out.

    Raises ArchiveError, WrongKeyError, HostileArchiveError.
    """
    source = find_input(path, key, trust=trust)
    check = _Check(source, trust=trust)
    check.run()
    yield ArchiveReader(source, check, trust=trust)


class _Check:
    """The first pass."""

    def __init__(self, source: ArchiveInput, *, trust: bool) -> None:
        self._source = source
        self._trust = trust
        self.digests: dict[str, str] = {}
        self.kept: dict[str, bytes] = {}
        self.links: dict[str, HardLinks] = {}
        self._device = ""

    def run(self) -> None:
        limit = _limit_of(self._source, trust=self._trust)
        for member, content in self._source.members(limit):
            hashing = HashingSource(content)
            self._read(member, hashing, limit)
            self.digests[member] = hashing.sha256
        if isinstance(self._source, FileInput):
            self._compare_beside(self._source)
        if CHECKSUMS in self.kept:
            self._compare_sums()

    def proven(self) -> bool:
        """Say whether the archive proves itself. Raises ArchiveError when it does not and has to."""
        missing = [name for name in (MANIFEST, CHECKSUMS) if name not in self.kept]
        if missing and not self._trust:
            raise ArchiveError(
                f"{self._source.what}: has no {' and no '.join(missing)}, so nothing proves it is whole",
                hint="an archive of the old scripts is read with --trust-archive, and marked unproven",
            )
        if missing and self._device:
            raise HostileArchiveError(self._device, hint=_DEVICE_HINT)
        if not self.digests:
            raise ArchiveError(f"{self._source.what}: holds nothing")
        return not missing

    def _read(self, member: str, content: HashingSource, limit: ExpansionLimit) -> None:
        if member in (MANIFEST, CHECKSUMS):
            self.kept[member] = _read_small(content, f"{self._source.what}: {member}")
        elif volume_name(member) is not None:
            self._scan_volume(member, content, limit)
        while content.read(CHUNK_BYTES):
            pass

    def _scan_volume(self, member: str, content: HashingSource, limit: ExpansionLimit) -> None:
        what = f"{self._source.what}: {member}"
        self.links[member], device = scan_volume(content, what, limit)
        if device is not None and not self._device:
            self._device = f"{what}: holds a device, {os.fsdecode(device)!r}"

    def _compare_sums(self) -> None:
        what = f"{self._source.what}: {CHECKSUMS}"
        listed = _parse_sums(self.kept[CHECKSUMS], what)
        for member, digest in self.digests.items():
            if member != CHECKSUMS and listed.get(member) != digest:
                how = "does not match" if member in listed else "is not listed in"
                raise HostileArchiveError(f"{self._source.what}: {member} {how} {CHECKSUMS}")
        absent = sorted(set(listed) - set(self.digests))
        if absent:
            raise HostileArchiveError(
                f"{self._source.what}: {absent[0]} is listed in {CHECKSUMS} but missing"
            )

    def _compare_beside(self, source: FileInput) -> None:
        path = Path(source.what)
        beside = archive_paths(path).checksum
        if not beside.exists():
            return
        listed = _parse_sums(beside.read_bytes(), str(beside))
        if path.name in listed and listed[path.name] != source.sha256:
            raise HostileArchiveError(f"{path}: does not match {beside.name}")


class _Unchanged:
    """Compares a member with what the first pass saw."""

    def __init__(self, source: ByteSource, expected: str | None, what: str) -> None:
        self._source = HashingSource(source)
        self._expected = expected
        self._what = what

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if not data and size and self._source.sha256 != self._expected:
            raise HostileArchiveError(f"{self._what}: changed while it was read")
        return data


def _limit_of(source: ArchiveInput, *, trust: bool) -> ExpansionLimit:
    return ExpansionLimit(None if trust or source.authenticated else source.size, source.what)


def _read_small(content: ByteSource, what: str) -> bytes:
    pieces = []
    left = MAX_MANIFEST_BYTES
    while data := content.read(CHUNK_BYTES):
        left -= len(data)
        if left < 0:
            raise HostileArchiveError(f"{what}: larger than {MAX_MANIFEST_BYTES} bytes")
        pieces.append(data)
    return b"".join(pieces)


def _parse_sums(data: bytes, what: str) -> dict[str, str]:
    sums: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise HostileArchiveError(f"{what}: not a list of checksums")
        sums[match[2]] = match[1]
    return sums
