"""Taking locks: shared for who adds or reads, exclusive for who removes (restic's design, "Locks").

A lock is a file, so taking one is: look, write, wait, look again. Nobody is asked to be fair;
a conflict takes back what was written and reports the other holder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sheetanchor.clock import Clock
from sheetanchor.errors import (
    BackendError,
    DamagedRepositoryError,
    ObjectAbsentError,
    ReadOnlyBackendError,
    RepositoryLockedError,
)
from sheetanchor.repository.backend.base import Backend, Kind, StoredObject
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.held_lock import SETTLE_SECONDS, HeldLock, LockStore
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.lock_file import StoredLock, decode_lock, why_dead
from sheetanchor.repository.process_identity import ProcessIdentity
from sheetanchor.repository.unpacked import load

_UNREADABLE_PAUSES = (5.0, 10.0, 20.0)
_FIRST_WAIT = 5.0
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Locker:
    """Takes locks in one repository for one process."""

    backend: Backend
    sealer: Sealer
    version: int
    holder: ProcessIdentity
    clock: Clock
    on_cleared: Callable[[str], None]
    """Told of every dead lock that was removed."""

    def acquire(self, *, exclusive: bool, retry_for: float = 0.0) -> HeldLock:
        """Take a lock, waiting up to `retry_for` seconds for others; use it as a context manager.

        Locks of dead holders are removed. Raises RepositoryLockedError naming a live one,
        DamagedRepositoryError for a lock that stays unreadable, ReadOnlyBackendError where no lock
        can be written or removed, and what else the backend raises.
        """
        deadline = self.clock.monotonic() + retry_for
        wait = _FIRST_WAIT
        while True:
            try:
                return self._try(exclusive)
            except RepositoryLockedError:
                left = deadline - self.clock.monotonic()
                if left <= 0:
                    raise
            self.clock.sleep(min(wait, left))
            wait = min(2 * wait, _LONGEST_WAIT)

    def stored_locks(self) -> list[StoredLock]:
        """Return all locks, those that cannot be read included."""
        found = (self._stored(listed) for listed in self.backend.list(Kind.LOCKS) if listed.size)
        return [stored for stored in found if stored is not None]

    def clear_dead(self) -> list[StoredLock]:
        """Remove the locks of dead holders and return them."""
        now = self.clock.now()
        cleared: list[StoredLock] = []
        for stored in self.stored_locks():
            reason = why_dead(stored, self.holder, now)
            if reason is not None:
                self._clear(stored, reason)
                cleared.append(stored)
        return cleared

    def remove_all(self) -> int:
        """Remove every lock, also of live holders, which stop then; return how many."""
        locks = list(self.backend.list(Kind.LOCKS))
        for listed in locks:
            self.backend.delete(Kind.LOCKS, listed.name)
        return len(locks)

    def _try(self, exclusive: bool) -> HeldLock:
        self._refuse_conflicts(exclusive, own=None)
        store = LockStore(self.backend, self.sealer, self.version, self.holder, exclusive)
        held = HeldLock(store, self.clock, lambda own: self._refuse_conflicts(exclusive, own))
        try:
            self.clock.sleep(SETTLE_SECONDS)
            self._refuse_conflicts(exclusive, own=held.id)
        except BaseException:
            held.release()
            raise
        held.start()
        return held

    def _refuse_conflicts(self, exclusive: bool, own: Id | None) -> None:
        now = self.clock.now()
        for listed in list(self.backend.list(Kind.LOCKS)):
            if listed.size == 0 or (own is not None and listed.name == own.hex()):
                continue
            stored = self._stored_patiently(listed)
            if stored is None:
                continue
            reason = why_dead(stored, self.holder, now)
            if reason is not None:
                self._clear(stored, reason)
            elif stored.lock is None:
                raise DamagedRepositoryError(
                    f"{self.backend.location}: lock {listed.name} cannot be read",
                    hint="if nobody uses the repository, `sheetanchor repository unlock --all` removes it",
                )
            elif exclusive or stored.lock.exclusive:
                how = "exclusively " if stored.lock.exclusive else ""
                raise RepositoryLockedError(
                    f"{self.backend.location} is locked {how}by {stored.lock.describe()}",
                    hint="wait for it; if it is gone, `sheetanchor repository unlock` removes its lock",
                )

    def _stored_patiently(self, listed: StoredObject) -> StoredLock | None:
        """Read a lock, with pauses while it cannot be read: some storage shows files half written."""
        stored = self._stored(listed)
        for pause in _UNREADABLE_PAUSES:
            if stored is None or stored.lock is not None:
                return stored
            if why_dead(stored, self.holder, self.clock.now()) is not None:
                return stored
            self.clock.sleep(pause)
            stored = self._stored(listed)
        return stored

    def _stored(self, listed: StoredObject) -> StoredLock | None:
        lock_id = parse_id(listed.name)
        try:
            data = load(self.backend, self.sealer, self.version, Kind.LOCKS, lock_id)
            return StoredLock(lock_id, decode_lock(data), listed.received_at)
        except ObjectAbsentError:
            return None
        except DamagedRepositoryError:
            return StoredLock(lock_id, None, listed.received_at)

    def _clear(self, stored: StoredLock, reason: str) -> None:
        who = stored.lock.describe() if stored.lock is not None else f"{stored.id.hex()[:16]} (unreadable)"
        try:
            self.backend.delete(Kind.LOCKS, stored.id.hex())
        except ReadOnlyBackendError:
            raise
        except BackendError as error:
            raise RepositoryLockedError(
                f"the lock of {who} is dead ({reason}) but cannot be removed: {error.message}",
                hint=error.hint,
            ) from error
        self.on_cleared(f"removed the lock of {who}: {reason}")
