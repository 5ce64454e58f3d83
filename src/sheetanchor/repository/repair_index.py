"""Rebuilding the index: what index files say where they can be read, pack headers for the rest.

The index is a cache of what stands in the packs' headers (restic's design, "Indexing"), so
nothing is lost with it. Good index files stay as they are. An entry of a pack that is there is
never dropped: a pack with a damaged header is readable through its entry alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sheetanchor.errors import DamagedRepositoryError, FinalBackendError, ObjectAbsentError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import IndexedPack
from sheetanchor.repository.pack import PackedBlob, pack_size, read_header
from sheetanchor.repository.repair_place import RepairPlace

TASK = "read pack headers"


@dataclass(frozen=True)
class IndexRepair:
    """What is wrong with the index, and what a repair does or did about it."""

    files: int
    damaged_files: tuple[Id, ...]
    replaced_files: tuple[Id, ...]
    """Index files that go: the damaged ones, and those that name what is not so."""
    added_packs: tuple[Id, ...]
    """Packs that were in no readable index file, found by their headers."""
    corrected_packs: tuple[Id, ...]
    """Packs whose header says something else than the index did."""
    missing_packs: tuple[Id, ...]
    """Packs that the index names and that are gone."""
    damaged_packs: tuple[Id, ...]
    """Packs that are there and whose header or size is wrong: work for `repair packs`."""
    lost_blobs: int
    """Blobs of the missing packs that no other pack holds."""

    @property
    def needed(self) -> bool:
        """Say whether there is anything to change."""
        return bool(self.replaced_files or self.added_packs)


@dataclass
class _Survey:
    """What the index files say, before the packs are asked."""

    index: Index = field(default_factory=Index)
    packs_of: dict[Id, list[Id]] = field(default_factory=dict)
    damaged: list[Id] = field(default_factory=list)
    missing: set[Id] = field(default_factory=set)
    conflicting: set[Id] = field(default_factory=set)
    lost: set[tuple[BlobType, Id]] = field(default_factory=set)


class IndexRepairer:
    """Plans and carries out one repair of the index."""

    def __init__(self, place: RepairPlace) -> None:
        self._place = place
        self._survey = _Survey()
        self._headers = Index()
        """Packs that go by their header: those without a good entry."""

    def plan(self, *, read_headers: bool = False) -> IndexRepair:
        """Compare index files and packs; `read_headers` reads the header of every pack, not only of
        those that are in doubt. Changes nothing. Raises what the backend raises.
        """
        stored = self._place.stored_packs()
        names = self._place.index_names()
        for name in names:
            self._read_file(name, stored)
        index = self._survey.index
        known = set(index.pack_ids())
        wrong_size = {
            pack for pack, blobs in index.packs() if pack_size(blobs) != stored[pack]
        } | self._survey.conflicting
        asked = {
            pack: stored[pack] for pack in stored if read_headers or pack not in known or pack in wrong_size
        }
        added, corrected, damaged = self._ask(asked, known, wrong_size)
        bad = self._survey.missing | self._survey.conflicting | set(corrected)
        naming = [name for name, packs in self._survey.packs_of.items() if not bad.isdisjoint(packs)]
        return IndexRepair(
            files=len(names),
            damaged_files=tuple(self._survey.damaged),
            replaced_files=tuple(sorted({*self._survey.damaged, *naming})),
            added_packs=tuple(added),
            corrected_packs=tuple(corrected),
            missing_packs=tuple(sorted(self._survey.missing)),
            damaged_packs=tuple(damaged),
            lost_blobs=sum(not index.has(*key) and not self._headers.has(*key) for key in self._survey.lost),
        )

    def execute(self, plan: IndexRepair) -> None:
        """Carry out what `plan` returned. A crash leaves entries twice, never too few."""
        if plan.needed:
            self._place.replace_index_files(plan.replaced_files, self._entries(plan))

    def _read_file(self, name: Id, stored: dict[Id, int]) -> None:
        survey = self._survey
        try:
            packs = self._place.load_index_file(name)
        except DamagedRepositoryError:
            survey.damaged.append(name)
            return
        except ObjectAbsentError:
            return
        survey.packs_of[name] = [pack_id for pack_id, _ in packs]
        for pack_id, blobs in packs:
            if pack_id not in stored:
                survey.missing.add(pack_id)
                survey.lost.update((blob.type, blob.id) for blob in blobs)
                continue
            try:
                survey.index.add_pack(pack_id, blobs)
            except DamagedRepositoryError:
                survey.conflicting.add(pack_id)

    def _ask(
        self, packs: dict[Id, int], known: set[Id], doubtful: set[Id]
    ) -> tuple[list[Id], list[Id], list[Id]]:
        """Read headers; return the packs that are new, corrected and damaged."""
        added: list[Id] = []
        corrected: list[Id] = []
        damaged: list[Id] = []
        listener = self._place.listener
        listener.started(TASK)
        for (pack_id, _), header in self._place.in_threads(self._header, sorted(packs.items())):
            listener.advanced(TASK, 0, 1)
            if header is None:
                damaged.append(pack_id)
                continue
            if pack_id not in known:
                added.append(pack_id)
            elif header != self._survey.index.pack(pack_id):
                corrected.append(pack_id)
            elif pack_id not in doubtful:
                continue
            self._headers.add_pack(pack_id, header)
        listener.finished(TASK)
        return added, corrected, damaged

    def _header(self, pack: tuple[Id, int]) -> list[PackedBlob] | None:
        """Return what a pack's header says, None when it cannot be read."""
        pack_id, size = pack
        try:
            return read_header(
                lambda at, length: self._place.backend.get(Kind.DATA, pack_id.hex(), at, length),
                size,
                self._place.sealer,
            )
        except (DamagedRepositoryError, FinalBackendError, ObjectAbsentError):
            return None

    def _entries(self, plan: IndexRepair) -> Iterator[IndexedPack]:
        """Yield what the new index files say: all of the old ones that holds, and what was found."""
        gone = set(plan.replaced_files)
        told = {pack for name, packs in self._survey.packs_of.items() if name not in gone for pack in packs}
        for name in plan.replaced_files:
            for pack_id in self._survey.packs_of.get(name, ()):
                if pack_id not in told and pack_id not in self._survey.missing:
                    told.add(pack_id)
                    yield pack_id, self._headers.pack(pack_id) or self._survey.index.pack(pack_id) or []
        for pack_id in plan.added_packs:
            yield pack_id, self._headers.pack(pack_id) or []
