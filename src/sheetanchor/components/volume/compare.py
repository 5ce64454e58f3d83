"""Holds a tree on disk against the backup, and the backup against the manifest's proof."""

from __future__ import annotations

from pathlib import Path

from sheetanchor.components.base import Difference, EntryType, Source
from sheetanchor.components.volume.proof import VolumeProof, human_bytes
from sheetanchor.components.volume.selection import compare_selected, selected
from sheetanchor.errors import ProofMismatchError
from sheetanchor.patterns import Patterns

_NAMED = 5
"""How many differences an error names before it only counts them."""


def compare_volume(
    name: str,
    source: Source,
    place: Path,
    proof: VolumeProof,
    *,
    include: tuple[str, ...],
    ignored: tuple[str, ...],
) -> tuple[str, ...]:
    """Compare the (selected) tree at `place` with the backup; return what was compared.

    `ignored` are paths that may be there without being in the backup. Raises
    ProofMismatchError.
    """
    if include:
        entries = selected(source, Patterns(include))
        raise_if_different(name, compare_selected(source, entries, place))
        return (f"{len(entries):,} selected entries equal in name, metadata and content",)
    _compare_counts(name, source, proof)
    differences = source.compare_tree("", place)
    raise_if_different(name, [one for one in differences if not _within(one.path, ignored)])
    return (
        f"{proof.files:,} files, {proof.directories:,} directories and {proof.others:,} others"
        " equal in name, owner, mode, time and xattrs",
        f"{human_bytes(proof.num_bytes)} equal in content",
    )


def raise_if_different(name: str, differences: list[Difference]) -> None:
    """Raise ProofMismatchError that names the first of `differences`, if there are any."""
    if not differences:
        return
    named = "; ".join(f"{one.path}: {one.what}" for one in differences[:_NAMED])
    more = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    raise ProofMismatchError(
        f"{name}: not what was saved: {named}{more}",
        hint="`sheetanchor verify --read-data` tells whether the repository or this disk is at fault",
    )


def _compare_counts(name: str, source: Source, proof: VolumeProof) -> None:
    """Show that backup and proof are of one tree."""
    files = directories = others = 0
    for entry in source.walk():
        if entry.type is EntryType.FILE:
            files += 1
        elif entry.type is EntryType.DIRECTORY:
            directories += 1
        else:
            others += 1
    if (files, directories, others) != (proof.files, proof.directories, proof.others):
        raise ProofMismatchError(
            f"{name}: the backup holds {files} files, {directories} directories and {others} others,"
            f" its manifest says {proof.files}, {proof.directories} and {proof.others}"
        )


def _within(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
