"""Lock files: what they say, and when one is dead (restic's design, "Locks")."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository import gojson
from sheetanchor.repository.ids import Id
from sheetanchor.repository.process_identity import ProcessIdentity, boot_time_ns, is_alive

STALE_AFTER = timedelta(minutes=30)
"""A holder refreshes its lock every five minutes; restic draws the line here too."""
_BOOT_SLACK_NS = 60_000_000_000


@dataclass(frozen=True)
class LockFile:
    """One lock file's content. `boot_id` and `started` are ours; restic passes over them."""

    time_ns: int
    exclusive: bool
    hostname: str
    username: str
    pid: int
    uid: int = 0
    gid: int = 0
    boot_id: str = ""
    started: int = 0

    def describe(self) -> str:
        """Return who holds it and since when, for people."""
        since = gojson.format_time(self.time_ns // 1_000_000_000 * 1_000_000_000)
        user = f" of {self.username}" if self.username else ""
        return f"process {self.pid}{user} on {self.hostname} (lock of {since})"


@dataclass(frozen=True)
class StoredLock:
    """A lock file with its id; `lock` is None for one that cannot be read."""

    id: Id
    lock: LockFile | None
    received_at: datetime | None


def make_lock(holder: ProcessIdentity, now: datetime, *, exclusive: bool) -> LockFile:
    """Return the lock of `holder` as of `now`."""
    return LockFile(
        time_ns=to_ns(now),
        exclusive=exclusive,
        hostname=holder.hostname,
        username=holder.username,
        pid=holder.pid,
        uid=holder.uid,
        gid=holder.gid,
        boot_id=holder.boot_id,
        started=holder.started,
    )


def encode_lock(lock: LockFile) -> bytes:
    """Return the JSON of a lock file."""
    fields: dict[str, object] = {
        "time": gojson.format_time(lock.time_ns),
        "exclusive": lock.exclusive,
        "hostname": lock.hostname,
        "username": lock.username,
        "pid": lock.pid,
    }
    optional: dict[str, object] = {
        "uid": lock.uid,
        "gid": lock.gid,
        "boot_id": lock.boot_id,
        "started": lock.started,
    }
    return gojson.encode(fields | {key: value for key, value in optional.items() if value}).encode()


def decode_lock(data: bytes) -> LockFile:
    """Read the JSON of a lock file. Raises DamagedRepositoryError."""
    try:
        fields = gojson.decode(data)
        if not isinstance(fields, dict):
            raise ValueError("no object")
        return LockFile(
            time_ns=gojson.parse_time(str(fields.get("time"))),
            exclusive=fields.get("exclusive") is True,
            hostname=str(fields.get("hostname") or ""),
            username=str(fields.get("username") or ""),
            pid=_number(fields.get("pid", 0)),
            uid=_number(fields.get("uid", 0)),
            gid=_number(fields.get("gid", 0)),
            boot_id=str(fields.get("boot_id") or ""),
            started=_number(fields.get("started", 0)),
        )
    except ValueError as error:
        raise DamagedRepositoryError(f"a lock cannot be read: {error}") from error


def why_dead(stored: StoredLock, here: ProcessIdentity, now: datetime) -> str | None:
    """Return why a lock holds nothing any more, None while it has to be respected.

    A lock is dead when it is over 30 minutes old by its own time and by the storage's, or when
    its process ran on this machine and is gone.
    """
    lock = stored.lock
    times_ns = [lock.time_ns] if lock is not None else []
    times_ns += [to_ns(stored.received_at)] if stored.received_at is not None else []
    oldest_valid = to_ns(now - STALE_AFTER)
    if times_ns and all(time_ns < oldest_valid for time_ns in times_ns):
        return "it was not refreshed for over 30 minutes"
    if lock is None or lock.hostname != here.hostname or not lock.boot_id:
        return None
    if lock.boot_id == here.boot_id:
        return None if is_alive(lock.pid, lock.started) else "its process is gone"
    if lock.time_ns + _BOOT_SLACK_NS < boot_time_ns():
        return "this machine was restarted since"
    return None


def to_ns(time: datetime) -> int:
    """Return an aware time as nanoseconds since 1970."""
    return (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a number is wrong")
    return value
