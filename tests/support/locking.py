"""A repository in memory with lockers of several holders, for tests of locks."""

from __future__ import annotations

from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.lock_file import encode_lock, make_lock
from sheetanchor.repository.locks import Locker
from sheetanchor.repository.process_identity import ProcessIdentity, current_process
from sheetanchor.repository.unpacked import save
from support.fake_clock import FakeClock

SEALER = Sealer(MasterKey.generate())
ELSEWHERE = ProcessIdentity("elsewhere-0123456789ab", "operator", 4711, 0, 0, "boot", 99)


class Place:
    """A repository with lockers of several holders and a clock moved by hand."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.clock = FakeClock()
        self.memory = MemoryBackend(self.clock)
        self.backend = backend or self.memory
        self.cleared: list[str] = []

    def locker(self, holder: ProcessIdentity | None = None) -> Locker:
        """Return a locker of this process, or of `holder`."""
        return Locker(self.backend, SEALER, 2, holder or current_process(), self.clock, self.cleared.append)

    def leave_lock(self, holder: ProcessIdentity, *, exclusive: bool = True) -> None:
        """Store a lock as a process that was killed leaves it."""
        lock = make_lock(holder, self.clock.now(), exclusive=exclusive)
        save(self.backend, SEALER, 2, Kind.LOCKS, encode_lock(lock))

    def names(self) -> list[str]:
        """Return the names of all lock files."""
        return [found.name for found in self.memory.list(Kind.LOCKS)]
