"""What a prune will do: which packs go, which are written anew, and what that frees.

restic's policy (internal/repository/prune.go): packs without a used blob go; tree packs and mixed
packs with waste are written anew, and of the data packs those with the most waste until what is
left unused is within the limit; small packs are merged once there are several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index import Index
from sheetanchor.repository.model import PrunePlan
from sheetanchor.repository.pack import PackedBlob, entry_size, pack_size
from sheetanchor.repository.prune_used import UsedBlobs

DEFAULT_MAX_UNUSED = 0.05
SMALL_PACK = 16 * 1024 * 1024 // 5
"""Bytes; smaller packs are worth merging."""
SMALL_PACKS_WORTH_MERGING = 10
_SHOWN = 3


class PackUse(NamedTuple):
    """How much of a stored, indexed pack is in use; bytes of blobs with their header entries."""

    pack_id: Id
    number: int
    """Its place in the index."""
    size: int
    used_bytes: int
    unused_bytes: int
    used_blobs: int
    unused_blobs: int
    only_data: bool
    mixed: bool


def make_plan(
    index: Index, used: UsedBlobs, stored: Mapping[Id, int], snapshots: int, max_unused: float
) -> PrunePlan:
    """Decide what becomes of every pack; gives each used blob its home in `used`.

    `stored` holds the sizes of all packs in the storage. `max_unused` is the share of the
    repository, 0 up to but not including 1, that may stay unused. Raises DamagedRepositoryError
    when a used blob is in no pack that is there with its right size: nothing may be removed then.
    """
    usable, lost, cut = _count_copies(index, used, stored)
    _refuse_missing(used, lost, cut)
    uses = _judge_packs(index, used, stored, usable)
    if sum(use.used_blobs for use in uses) != len(used):
        raise RepositoryError("the plan does not cover every used blob: nothing was removed")
    delete = [use for use in uses if use.used_blobs == 0]
    repack = _choose_repack([use for use in uses if use.used_blobs], max_unused)
    going = {use.pack_id for use in delete} | {use.pack_id for use in repack}
    kept = [use for use in uses if use.pack_id not in going]
    indexed = set(index.pack_ids())
    return PrunePlan(
        snapshots=snapshots,
        blobs_used=len(used),
        blobs_unused=sum(use.unused_blobs for use in uses),
        packs_kept=len(kept),
        bytes_before=sum(stored.values()),
        bytes_after=sum(use.size for use in kept) + sum(use.used_bytes for use in repack),
        bytes_to_repack=sum(use.used_bytes for use in repack),
        bytes_unused_left=sum(use.unused_bytes for use in kept),
        unreferenced=tuple(sorted(stored.keys() - indexed)),
        delete=tuple(use.pack_id for use in delete) + cut,
        repack=tuple(use.pack_id for use in repack),
        lost=lost,
    )


def _count_copies(
    index: Index, used: UsedBlobs, stored: Mapping[Id, int]
) -> tuple[bytearray, tuple[Id, ...], tuple[Id, ...]]:
    """Count in which usable packs the used blobs are, in one pass over the index.

    Returns a flag per pack number (usable or not), the packs that are lost, those of a wrong size.
    """
    usable = bytearray()
    lost: list[Id] = []
    cut: list[Id] = []
    for number, (pack_id, blobs) in enumerate(index.packs()):
        size = stored.get(pack_id)
        usable.append(size == pack_size(blobs))
        if size is None:
            lost.append(pack_id)
        elif not usable[-1]:
            cut.append(pack_id)
        else:
            _count(used, blobs, number)
    return usable, tuple(lost), tuple(cut)


def _count(used: UsedBlobs, blobs: list[PackedBlob], number: int) -> None:
    for blob in blobs:
        table = used.of(blob.type)
        position = table.find(blob.id)
        if position >= 0:
            table.count_copy(position, number)


def _refuse_missing(used: UsedBlobs, lost: tuple[Id, ...], cut: tuple[Id, ...]) -> None:
    missing = [
        f"{kind} blob {blob_id.hex()}" for kind in BlobType for blob_id in used.of(kind).without_copy()
    ]
    if not missing:
        return
    shown = ", ".join(missing[:_SHOWN]) + (
        f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    )
    packs = f"; {len(lost)} packs are missing, {len(cut)} have a wrong size" if lost or cut else ""
    raise DamagedRepositoryError(
        f"{shown}: needed by snapshots, and in no whole pack{packs}; nothing was removed",
        hint="`sheetanchor repository check` tells which snapshots are affected; "
        "a new backup stores again what still exists",
    )


def _judge_packs(index: Index, used: UsedBlobs, stored: Mapping[Id, int], usable: bytearray) -> list[PackUse]:
    """Return the use of every usable pack, each used blob counted in its home only."""
    _settle_copies(index, used, usable)
    return [
        _judge(used, pack_id, number, blobs, stored[pack_id])
        for number, (pack_id, blobs) in enumerate(index.packs())
        if usable[number]
    ]


def _judge(used: UsedBlobs, pack_id: Id, number: int, blobs: list[PackedBlob], size: int) -> PackUse:
    used_bytes = unused_bytes = used_blobs = 0
    kinds: set[BlobType] = set()
    seen: set[tuple[BlobType, Id]] = set()
    for blob in blobs:
        kinds.add(blob.type)
        if is_home(used, blob, number) and blob[:2] not in seen:
            seen.add(blob[:2])
            used_blobs += 1
            used_bytes += blob.length + entry_size(blob)
        else:
            unused_bytes += blob.length + entry_size(blob)
    return PackUse(
        pack_id,
        number,
        size,
        used_bytes,
        unused_bytes,
        used_blobs,
        len(blobs) - used_blobs,
        kinds == {BlobType.DATA},
        len(kinds) > 1,
    )


def is_home(used: UsedBlobs, blob: PackedBlob, number: int) -> bool:
    """Say whether a blob is used and the pack of that number is where it is kept."""
    table = used.of(blob.type)
    position = table.find(blob.id)
    return position >= 0 and table.homes[position] == number


def _settle_copies(index: Index, used: UsedBlobs, usable: bytearray) -> None:
    """Give blobs stored several times a home in the pack that is needed most anyhow."""
    if not any(max(used.of(kind).copies, default=0) > 1 for kind in BlobType):
        return
    with_copies: list[tuple[int, int, Id]] = []
    for number, (pack_id, blobs) in enumerate(index.packs()):
        single, several = _copied_bytes(used, blobs)
        if several and usable[number]:
            with_copies.append((-single, number, pack_id))
    for _, number, pack_id in sorted(with_copies, reverse=True):
        # The pack needed most comes last, and so has the last word.
        for blob in index.pack(pack_id) or ():
            table = used.of(blob.type)
            position = table.find(blob.id)
            if position >= 0:
                table.homes[position] = number


def _copied_bytes(used: UsedBlobs, blobs: list[PackedBlob]) -> tuple[int, int]:
    """Return the bytes of used blobs that only this pack holds, and of those that others hold too."""
    single = several = 0
    for blob in blobs:
        table = used.of(blob.type)
        position = table.find(blob.id)
        if position >= 0 and table.copies[position] == 1:
            single += blob.length
        elif position >= 0:
            several += blob.length
    return single, several


def _choose_repack(uses: list[PackUse], max_unused: float) -> list[PackUse]:
    """Return the packs to write anew, the most wasteful first; `uses` are those with a used blob."""
    limit = max_unused / (1 - max_unused) * sum(use.used_bytes for use in uses)
    left = sum(use.unused_bytes for use in uses)
    chosen: list[PackUse] = []
    taken: set[Id] = set()
    for use in sorted(uses, key=_waste_first):
        must = use.mixed or (not use.only_data and use.unused_bytes)
        if must or (use.unused_bytes and left > limit):
            chosen.append(use)
            taken.add(use.pack_id)
            left -= use.unused_bytes
    for only_data in (True, False):
        small = [use for use in uses if use.only_data == only_data and use.size < SMALL_PACK]
        if len(small) >= SMALL_PACKS_WORTH_MERGING:
            chosen += [use for use in small if use.pack_id not in taken]
    return chosen


def _waste_first(use: PackUse) -> tuple[bool, bool, float, Id]:
    return (not use.mixed, use.only_data, -use.unused_bytes / use.size, use.pack_id)
