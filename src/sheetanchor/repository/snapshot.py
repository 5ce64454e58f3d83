"""Snapshot files: which tree, of when, from where, tagged with what (restic's snapshot structure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sheetanchor.errors import DamagedRepositoryError, UnknownBackupError
from sheetanchor.repository import gojson
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.unpacked import load, save

_SHORTEST_PREFIX = 4


@dataclass(frozen=True)
class Summary:
    """What a backup run did; counts, and sizes in bytes."""

    backup_start_ns: int
    backup_end_ns: int
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0


_SUMMARY_COUNTS = tuple(Summary.__dataclass_fields__)[2:]


@dataclass(frozen=True)
class Snapshot:
    """One snapshot file's content."""

    time_ns: int
    """Nanoseconds since 1970."""
    tree: Id
    paths: tuple[str, ...]
    """Absolute."""
    parent: Id | None = None
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    original: Id | None = None
    program_version: str = ""
    summary: Summary | None = None


@dataclass(frozen=True)
class StoredSnapshot:
    """A snapshot with its id, the name of its file."""

    id: Id
    snapshot: Snapshot


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the JSON of a snapshot file."""
    optional: dict[str, object] = {
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "uid": snapshot.uid,
        "gid": snapshot.gid,
        "excludes": snapshot.excludes,
        "tags": snapshot.tags,
        "original": snapshot.original.hex() if snapshot.original else "",
        "program_version": snapshot.program_version,
        "summary": _summary_fields(snapshot.summary) if snapshot.summary else None,
    }
    fields: dict[str, object] = {"time": gojson.format_time(snapshot.time_ns)}
    if snapshot.parent is not None:
        fields["parent"] = snapshot.parent.hex()
    fields["tree"] = snapshot.tree.hex()
    fields["paths"] = snapshot.paths
    fields |= {key: value for key, value in optional.items() if value}
    return gojson.encode(fields).encode()


def decode_snapshot(data: bytes) -> Snapshot:
    """Read the JSON of a snapshot file; unknown fields are passed over.

    Raises DamagedRepositoryError.
    """
    try:
        fields = gojson.decode(data)
        if not isinstance(fields, dict):
            raise ValueError("no object")
        return Snapshot(
            time_ns=gojson.parse_time(_text(fields, "time")),
            tree=parse_id(_text(fields, "tree")),
            paths=_texts(fields, "paths"),
            parent=_id(fields, "parent"),
            hostname=_text(fields, "hostname"),
            username=_text(fields, "username"),
            uid=_number(fields, "uid"),
            gid=_number(fields, "gid"),
            excludes=_texts(fields, "excludes"),
            tags=_texts(fields, "tags"),
            original=_id(fields, "original"),
            program_version=_text(fields, "program_version"),
            summary=_summary(fields.get("summary")),
        )
    except ValueError as error:
        raise DamagedRepositoryError(f"a snapshot cannot be read: {error}") from error


def save_snapshot(backend: Backend, sealer: Sealer, version: int, snapshot: Snapshot) -> Id:
    """Store a snapshot file durably; everything it refers to must be durable before."""
    return save(backend, sealer, version, Kind.SNAPSHOTS, encode_snapshot(snapshot))


def load_snapshot(backend: Backend, sealer: Sealer, version: int, snapshot_id: Id) -> StoredSnapshot:
    """Read one snapshot. Raises ObjectAbsentError, DamagedRepositoryError."""
    return StoredSnapshot(
        snapshot_id, decode_snapshot(load(backend, sealer, version, Kind.SNAPSHOTS, snapshot_id))
    )


def find_by_prefix(ids: Iterable[Id], prefix: str) -> Id:
    """Return the one id that begins with the hex digits `prefix` (at least 4).

    Raises UnknownBackupError when none or several do.
    """
    found = sorted(name for name in ids if name.hex().startswith(prefix.lower()))
    if len(prefix) < _SHORTEST_PREFIX or not found:
        raise UnknownBackupError(
            f"no snapshot has an id that begins with {prefix!r}",
            hint="`sheetanchor list` shows what there is; give at least 4 digits of an id",
        )
    if len(found) > 1:
        names = ", ".join(name.hex()[:16] for name in found[:5])
        raise UnknownBackupError(
            f"{len(found)} snapshots have an id that begins with {prefix!r}: {names}",
            hint="give more digits",
        )
    return found[0]


def _summary_fields(summary: Summary) -> dict[str, object]:
    fields: dict[str, object] = {
        "backup_start": gojson.format_time(summary.backup_start_ns),
        "backup_end": gojson.format_time(summary.backup_end_ns),
    }
    return fields | {name: getattr(summary, name) for name in _SUMMARY_COUNTS}


def _summary(value: object) -> Summary | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("summary is no object")
    return Summary(
        gojson.parse_time(_text(value, "backup_start")),
        gojson.parse_time(_text(value, "backup_end")),
        **{name: _number(value, name) for name in _SUMMARY_COUNTS},
    )


def _text(fields: dict[str, object], key: str) -> str:
    value = fields.get(key) or ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _texts(fields: dict[str, object], key: str) -> tuple[str, ...]:
    value = fields.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} is no list of texts")
    return tuple(value)


def _number(fields: dict[str, object], key: str) -> int:
    value = fields.get(key, 0)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is no number")
    return value


def _id(fields: dict[str, object], key: str) -> Id | None:
    text = _text(fields, key)
    return parse_id(text) if text else None
