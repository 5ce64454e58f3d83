"""The repairs of one repository, planned first and carried out when told to; its copy to a new key."""

from __future__ import annotations

from collections.abc import Collection

from sheetanchor.repository.ids import Id
from sheetanchor.repository.rekey import Rekeyer, RekeyReport
from sheetanchor.repository.repair_index import IndexRepair, IndexRepairer
from sheetanchor.repository.repair_packs import PackRepairer, PacksRepair
from sheetanchor.repository.repair_place import RepairPlace
from sheetanchor.repository.repair_recover import OrphanTrees, find_orphans
from sheetanchor.repository.repair_snapshots import SnapshotRepairer, SnapshotsRepair


class RepairAids:
    """All repairs; the caller holds an exclusive lock. With `dry_run` nothing is changed.

    The order that always works: index, packs, snapshots. A repair that is cut off can be run again.
    """

    def __init__(self, place: RepairPlace) -> None:
        self._place = place

    def index(self, *, read_headers: bool = False, dry_run: bool = False) -> IndexRepair:
        """Rebuild what is damaged or missing in the index; see `IndexRepairer`."""
        repairer = IndexRepairer(self._place)
        plan = repairer.plan(read_headers=read_headers)
        if not dry_run:
            repairer.execute(plan)
        return plan

    def packs(
        self, prefixes: Collection[str] = (), *, read_data: bool = False, dry_run: bool = False
    ) -> PacksRepair:
        """Replace damaged packs by what can be read of them; see `PackRepairer`.

        Raises DamagedRepositoryError when the index has to be repaired first.
        """
        repairer = PackRepairer(self._place)
        plan = repairer.plan(prefixes, read_data=read_data)
        if not dry_run:
            repairer.execute(plan)
        return plan

    def snapshots(
        self, mark: tuple[str, ...], *, forget: bool = False, dry_run: bool = False
    ) -> SnapshotsRepair:
        """Copy damaged snapshots without what is lost; see `SnapshotRepairer`.

        Raises DamagedRepositoryError when the index has to be repaired first.
        """
        repairer = SnapshotRepairer(self._place, mark)
        plan = repairer.plan()
        if not dry_run:
            repairer.execute(plan, forget=forget)
        return plan

    def copy_to(self, target: RepairAids) -> RekeyReport:
        """Copy everything into another repository; see `rekey.Rekeyer`. Shared locks on both will do.

        Raises RepositoryError when it is the same repository, or a copy with the same key.
        """
        return Rekeyer(self._place, target._place).run()

    def orphans(self, used: Collection[Id]) -> OrphanTrees:
        """Find the trees of snapshots whose files are gone; see `find_orphans`."""
        return find_orphans(self._place, used)
