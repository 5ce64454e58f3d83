"""Replacing damaged packs: what still opens goes into new packs, the index forgets the old ones.

What is lost with a pack is then no longer in the index, so the next backup stores it again wherever
it still exists, and the older snapshots that need it are whole again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sheetanchor.errors import BackendError, DamagedRepositoryError, UsageError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.check_packs import PackChecker
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.pack import PackedBlob, pack_size
from sheetanchor.repository.repair_place import RepairPlace
from sheetanchor.repository.salvage import Salvager
from sheetanchor.repository.writer import Account

_UNKNOWN = "is in no index, and its header cannot be read"
TASK = "look for damaged packs"


@dataclass(frozen=True)
class DamagedPack:
    """One damaged pack and what is left of it, in blobs."""

    id: Id
    reason: str
    readable: int
    lost: int
    """Unreadable here and in every other pack."""


@dataclass(frozen=True)
class PacksRepair:
    """What a repair of packs does or did."""

    damaged: tuple[DamagedPack, ...]
    intact: tuple[Id, ...]
    """Packs that were asked for and that nothing is wrong with; they are left alone."""
    unknown: tuple[Id, ...]
    """Packs in no index whose header cannot be read: what they hold is not known. They are left alone,
    and the next prune removes them."""
    looked_at: int

    @property
    def lost_blobs(self) -> int:
        """Blobs that no pack holds any more."""
        return sum(pack.lost for pack in self.damaged)


class PackRepairer:
    """Plans and carries out one repair of packs."""

    def __init__(self, place: RepairPlace) -> None:
        self._place = place
        self._salvager = Salvager(place.backend, place.sealer)
        self._checker = PackChecker(place.backend, place.sealer)
        self._names = place.index_names()
        self._index = place.load_index(self._names)
        self._stored = place.stored_packs()

    def plan(self, prefixes: Collection[str] = (), *, read_data: bool = False) -> PacksRepair:
        """Look at the packs whose ids begin with `prefixes`; without any, at all packs.

        All packs are compared by size, and with `read_data` read whole. Changes nothing. Raises
        UsageError for a prefix that fits no pack or several, and what the backend raises.
        """
        known = set(self._index.pack_ids()) | set(self._stored)
        chosen = sorted({self._named(prefix, known) for prefix in prefixes}) or sorted(known)
        deep = read_data or bool(prefixes)
        self._place.listener.started(TASK)
        reasons: dict[Id, str] = {}
        for pack_id, reason in self._place.in_threads(lambda one: self._reason(one, deep), chosen):
            self._place.listener.advanced(TASK, self._stored.get(pack_id, 0), 1)
            if reason is not None:
                reasons[pack_id] = reason
        self._place.listener.finished(TASK)
        unknown = tuple(pack_id for pack_id, reason in reasons.items() if reason is _UNKNOWN)
        for pack_id in unknown:
            del reasons[pack_id]
        others = BlobReader(self._place.backend, self._place.sealer, self._without(set(reasons)))
        damaged = tuple(self._assess(pack_id, reason, others) for pack_id, reason in reasons.items())
        intact = [pack_id for pack_id in chosen if pack_id not in reasons and pack_id not in unknown]
        return PacksRepair(damaged, tuple(intact) if prefixes else (), unknown, len(chosen))

    def execute(self, plan: PacksRepair) -> None:
        """Carry out what `plan` returned: store what is readable, forget the packs, remove them.

        A crash leaves blobs stored twice, or a damaged pack that the index no longer names.
        """
        damaged = {pack.id for pack in plan.damaged}
        if not damaged:
            return
        account = Account()
        with self._place.writer(Index()) as writer:
            for pack_id in sorted(damaged):
                salvage = self._salvager.read(pack_id, self._index.pack(pack_id) or ())
                for blob, plain in self._salvager.plain(salvage):
                    writer.save(blob.type, plain, account)
            writer.flush()
        self._forget(damaged)
        for pack_id in sorted(damaged):
            self._place.check_lock()
            self._place.backend.delete(Kind.DATA, pack_id.hex())

    def _named(self, prefix: str, known: Iterable[Id]) -> Id:
        found = [pack_id for pack_id in known if pack_id.hex().startswith(prefix.lower())]
        if len(found) != 1 or len(prefix) < 4:
            what = "no pack has" if not found else f"{len(found)} packs have"
            raise UsageError(
                f"{what} an id that begins with {prefix!r}",
                hint="`sheetanchor repository check --read-data` names the damaged packs",
            )
        return found[0]

    def _reason(self, pack_id: Id, deep: bool) -> str | None:
        """Return what is wrong with a pack, None when nothing is."""
        blobs = self._index.pack(pack_id)
        size = self._stored.get(pack_id)
        if size is None:
            return "is gone"
        if blobs is not None and pack_size(blobs) != size:
            return f"has {size} bytes instead of {pack_size(blobs)}"
        if not deep:
            return None
        if blobs is None:
            blobs = list(self._salvager.read(pack_id, ()).readable)
            if not blobs:
                return _UNKNOWN
        errors = self._checker.check(pack_id, blobs)
        return errors[0][0] if errors else None

    def _assess(self, pack_id: Id, reason: str, others: BlobReader) -> DamagedPack:
        salvage = self._salvager.read(pack_id, self._index.pack(pack_id) or ())
        lost = [blob for blob in salvage.unreadable if not _holds(others, blob)]
        return DamagedPack(pack_id, reason, len(salvage.readable), len(lost))

    def _without(self, packs: set[Id]) -> Index:
        kept = Index()
        for pack_id, blobs in self._index.packs():
            if pack_id not in packs:
                kept.add_pack(pack_id, blobs)
        return kept

    def _forget(self, packs: set[Id]) -> None:
        """Make the index files that existed at the plan forget packs."""
        load = self._place.load_index_file
        naming = [name for name in self._names if any(pack_id in packs for pack_id, _ in load(name))]
        kept = (entry for name in naming for entry in load(name) if entry[0] not in packs)
        self._place.replace_index_files(naming, kept)


def _holds(reader: BlobReader, blob: PackedBlob) -> bool:
    """Say whether a blob can be read elsewhere: by reading it."""
    kind: BlobType = blob.type
    try:
        reader.load(kind, blob.id)
    except (DamagedRepositoryError, BackendError):
        return False
    return True
