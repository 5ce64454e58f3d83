"""Reading a share of the packs at a time, so that in a known number of runs every pack is read.

Packs fall into 256 groups by the first byte of their ids. A sealed object remembers in which run
and when each group was read last; a run takes the groups that were read longest ago.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sheetanchor.clock import Clock
from sheetanchor.errors import BackendError, DamagedRepositoryError, ObjectAbsentError
from sheetanchor.repository.ids import Id
from sheetanchor.repository.objects import SealedObjects

GROUPS = 256
KIND, NAME = "state", "verify-rotation"
_FORMAT = 1
_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class Rotation:
    """Which groups were read when. `run[g]` is the number of the run that read group g last, 0 for
    none; `at[g]` the second since 1970 when it did.
    """

    runs: int
    run: tuple[int, ...]
    at: tuple[int, ...]

    @classmethod
    def fresh(cls) -> Rotation:
        """Return a rotation before its first run."""
        return cls(0, (0,) * GROUPS, (0,) * GROUPS)

    def choose(self, groups: Collection[int], share: float) -> frozenset[int]:
        """Return a share (0..1) of `groups`, those read longest ago; among equals by chance."""
        order = list(groups)
        random.SystemRandom().shuffle(order)
        order.sort(key=lambda group: self.run[group])
        return frozenset(order[: math.ceil(len(order) * share)])

    def after(self, groups: Collection[int], now: datetime) -> Rotation:
        """Return the rotation after one more run, which read `groups`."""
        runs, second = self.runs + 1, int(now.timestamp())
        return Rotation(
            runs,
            tuple(runs if group in groups else run for group, run in enumerate(self.run)),
            tuple(second if group in groups else at for group, at in enumerate(self.at)),
        )

    def encode(self) -> bytes:
        """Return the state as JSON."""
        fields = {"format": _FORMAT, "runs": self.runs, "run": self.run, "at": self.at}
        return json.dumps(fields, separators=(",", ":")).encode()


def decode_rotation(data: bytes) -> Rotation:
    """Read what `Rotation.encode` wrote. Raises DamagedRepositoryError for anything else."""
    try:
        match json.loads(data):
            case {"format": int(version), "runs": int(runs), "run": list(run), "at": list(at)} if (
                version == _FORMAT
                and len(run) == len(at) == GROUPS
                and all(type(one) is int and one >= 0 for one in (*run, *at))
                and max(run) <= runs
            ):
                return Rotation(runs, tuple(run), tuple(at))
    except ValueError as error:
        raise DamagedRepositoryError(f"the record of earlier readings cannot be read: {error}") from error
    raise DamagedRepositoryError("the record of earlier readings is of another format")


class Rotator:
    """Chooses packs for one run, and records that they were read."""

    def __init__(self, objects: SealedObjects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._rotation = Rotation.fresh()
        self._all: frozenset[int] = frozenset()
        self._chosen: frozenset[int] = frozenset()
        self._share = 1.0
        self._notes: list[str] = []

    def choose(self, packs: Collection[Id], share: float) -> list[Id]:
        """Return the packs to read in this run. A record that cannot be read is begun anew."""
        try:
            self._rotation = decode_rotation(self._objects.get(KIND, NAME))
        except ObjectAbsentError:
            pass
        except (DamagedRepositoryError, BackendError) as error:
            self._notes.append(
                f"which packs were read before is not known, a new record begins: {error.message}"
            )
        self._share = share
        self._all = frozenset(pack[0] for pack in packs)
        self._chosen = self._rotation.choose(self._all, share)
        return [pack for pack in packs if pack[0] in self._chosen]

    def finish(self) -> list[str]:
        """Record the run; return what to say about which packs were read when."""
        now = self._clock.now()
        rotation = self._rotation.after(self._chosen, now)
        try:
            self._objects.put(KIND, NAME, rotation.encode())
        except BackendError as error:
            self._notes.append(f"which packs were read cannot be recorded: {error.message}")
            return self._notes
        return [*self._notes, *self._told(rotation, now)]

    def _told(self, rotation: Rotation, now: datetime) -> list[str]:
        if not self._all:
            return []
        never = sum(rotation.run[group] == 0 for group in self._all)
        if never:
            left = math.ceil(never / math.ceil(len(self._all) * self._share))
            part = 100 * (len(self._all) - never) // len(self._all)
            more = "1 more such run reads" if left == 1 else f"{left} more such runs read"
            return [f"{part} % of the groups of packs have been read so far; {more} the rest"]
        oldest = min(self._all, key=lambda group: rotation.run[group])
        since = datetime.fromtimestamp(rotation.at[oldest], UTC)
        return [
            f"every pack that was there at {since:%Y-%m-%d %H:%M} UTC was read within the last "
            f"{rotation.runs - rotation.run[oldest] + 1} runs ({_ago((now - since).total_seconds())})"
        ]


def _ago(seconds: float) -> str:
    if seconds >= 2 * _DAY:
        return f"{seconds / _DAY:.0f} days"
    return f"{seconds / _HOUR:.0f} hours" if seconds >= 2 * _HOUR else f"{seconds / 60:.0f} minutes"
