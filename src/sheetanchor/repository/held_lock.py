"""A lock that is held: refreshed from a thread, checked by writers, given back at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, TracebackType
from typing import Any

from sheetanchor.clock import Clock
from sheetanchor.errors import BackendError, ObjectAbsentError, RepositoryError, RepositoryLockedError
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import Sealer
from sheetanchor.repository.ids import Id
from sheetanchor.repository.lock_file import encode_lock, make_lock
from sheetanchor.repository.process_identity import ProcessIdentity
from sheetanchor.repository.unpacked import seal_file

SETTLE_SECONDS = 0.2
"""Between writing a lock and looking for others, so that two who write at once both see it."""
REFRESH_EVERY = timedelta(minutes=5)
LOST_AFTER = timedelta(minutes=22, seconds=30)
"""Without a refresh for this long others may soon take the lock for dead: writing has to stop."""
_LOOK_EVERY = timedelta(minutes=1)
"""How often the holder looks whether somebody removed its lock."""
_POLL_SECONDS = 5.0
_JOIN_SECONDS = 30.0
"""How long giving back waits for a refresh that hangs; what is left behind is dead with the process."""
_RETRY_AFTER = timedelta(seconds=20)


@dataclass(frozen=True)
class LockStore:
    """Writes and removes the lock files of one holder."""

    backend: Backend
    sealer: Sealer
    version: int
    holder: ProcessIdentity
    exclusive: bool

    def prepare(self, now: datetime) -> tuple[Id, bytes]:
        """Return a new lock file and its id."""
        json_bytes = encode_lock(make_lock(self.holder, now, exclusive=self.exclusive))
        return seal_file(self.sealer, self.version, Kind.LOCKS, json_bytes)

    def exists(self, lock_id: Id) -> bool:
        """Say whether a lock file is still there."""
        try:
            self.backend.size(Kind.LOCKS, lock_id.hex())
        except ObjectAbsentError:
            return False
        return True


class HeldLock:
    """One lock. `check` before everything that must not happen without it.

    While it is held SIGHUP does nothing: restic tests the holders of locks with that signal.
    """

    def __init__(self, store: LockStore, clock: Clock, refuse_conflicts: Callable[[Id], None]) -> None:
        self._store = store
        self._clock = clock
        self._refuse_conflicts = refuse_conflicts
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost: str | None = None
        self._written: set[Id] = set()
        self._previous_handler: Any = None
        now = clock.now()
        self._refreshed_at = self._looked_at = self._tried_at = now
        try:
            self._id = self._write(now)
        except BaseException:
            self._remove_written()
            raise

    @property
    def id(self) -> Id:
        """Id of the lock file as of now."""
        return self._id

    @property
    def exclusive(self) -> bool:
        """Whether nobody else may use the repository."""
        return self._store.exclusive

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def start(self) -> None:
        """Begin to refresh in a thread, and to pass over SIGHUP."""
        self._ignore_hangup()
        self._thread = threading.Thread(target=self._run, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise RepositoryLockedError once the lock is lost; cheap while it is fresh.

        After a standby of the machine this itself refreshes the lock, or finds it lost.
        """
        if self._lost is None and self._clock.now() - self._refreshed_at > LOST_AFTER:
            self.step()
        if self._lost is not None:
            raise RepositoryLockedError(
                f"the lock on {self._store.backend.location} was lost: {self._lost}",
                hint="nothing was damaged; run the command again once nobody else removes locks",
            )

    def step(self) -> None:
        """Do what is due: look whether the lock is there, refresh it; the thread calls this."""
        with self._mutex:
            if self._lost is not None or self._stop.is_set():
                return
            now = self._clock.now()
            try:
                self._step(now)
            except RepositoryLockedError as error:
                self._lost = error.message
            except (BackendError, RepositoryError) as error:
                if self._clock.now() - self._refreshed_at > LOST_AFTER:
                    self._lost = f"it could not be refreshed: {error.message}"

    def release(self) -> None:
        """Remove the lock; a second call does nothing. Never raises for an unreachable storage."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
        if self._mutex.acquire(timeout=_JOIN_SECONDS):
            try:
                self._remove_written()
            finally:
                self._mutex.release()
        self._restore_hangup()

    def _step(self, now: datetime) -> None:
        age = now - self._refreshed_at
        backwards = now < self._refreshed_at
        due = age >= REFRESH_EVERY or backwards
        tried = timedelta(0) <= now - self._tried_at < _RETRY_AFTER and self._tried_at != self._refreshed_at
        if not due and timedelta(0) <= now - self._looked_at < _LOOK_EVERY:
            return
        if due and tried and age <= LOST_AFTER:
            return
        self._tried_at = now
        if not self._store.exists(self._id):
            self._lost = "somebody removed it"
            return
        self._looked_at = now
        if due:
            self._refresh(now)
        if age > LOST_AFTER:
            # Somebody may have taken this lock for dead and got another one just now.
            self._clock.sleep(SETTLE_SECONDS)
            self._refuse_conflicts(self._id)

    def _refresh(self, now: datetime) -> None:
        new = self._write(now)
        old, self._id = self._id, new
        self._refreshed_at = self._tried_at = now
        self._store.backend.delete(Kind.LOCKS, old.hex())
        self._written.discard(old)

    def _write(self, now: datetime) -> Id:
        lock_id, sealed = self._store.prepare(now)
        self._written.add(lock_id)
        self._store.backend.put(Kind.LOCKS, lock_id.hex(), sealed)
        return lock_id

    def _remove_written(self) -> None:
        for lock_id in sorted(self._written):
            with suppress(BackendError):
                self._store.backend.delete(Kind.LOCKS, lock_id.hex())
                self._written.discard(lock_id)

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self.step()

    def _ignore_hangup(self) -> None:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGHUP)
            if previous is signal.SIG_DFL:
                # A handler of our own, not SIG_IGN: child processes would inherit that.
                signal.signal(signal.SIGHUP, _pass_over)
                self._previous_handler = previous

    def _restore_hangup(self) -> None:
        if self._previous_handler is None or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGHUP) is _pass_over:
            signal.signal(signal.SIGHUP, self._previous_handler)
        self._previous_handler = None


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing."""
