"""What a restore will need, what the operator should know, and what forbids it."""

from __future__ import annotations

import os
from pathlib import Path

from sheetanchor.components.base import Context, StageEstimate
from sheetanchor.components.redis.address import address_of
from sheetanchor.components.redis.programs import can_read, find_program
from sheetanchor.components.redis.proof import RedisProof
from sheetanchor.components.redis.server import ServerFacts, Version, setting, usable_facts
from sheetanchor.components.redis.wire import RefusedCommandError, Wire, as_bytes
from sheetanchor.config.models import RedisConfig
from sheetanchor.errors import ToolError

KEYS_PER_SECOND = 50_000
"""Small keys that are read and compared in a second by one core."""


def estimate(config: RedisConfig, context: Context, proof: RedisProof) -> StageEstimate:
    """Look at the live server and at this machine; touches nothing.

    Raises UnreachableError, ToolError.
    """
    written_by = Version(proof.product, proof.version)
    with Wire(address_of(config)) as wire:
        told = usable_facts(wire)
        refusals = [*_refusals(wire, told, proof, written_by)]
        notes = _notes(told, proof)
    for version in (written_by, told.version):
        try:
            find_program(version, config.server_program, context.processes)
        except ToolError as error:
            refusals.append(error.message)
    return StageEstimate(
        needed_bytes=proof.rdb_bytes + told.memory_bytes,
        free_bytes=_free_bytes(context.work_directory),
        notes=tuple(notes),
        refusals=tuple(dict.fromkeys(refusals)),
    )


def _refusals(wire: Wire, told: ServerFacts, proof: RedisProof, written_by: Version) -> list[str]:
    address = wire.address
    found = []
    if told.role != "master":
        found.append(f"{address} is a replica of {told.master}: restore to its master, replicas follow")
    if not wire.is_local:
        found.append(
            f"{address} is not on this machine, and has to fetch the data from 127.0.0.1 of this machine: "
            "run the restore where the server runs"
        )
    if not can_read(told.version, written_by):
        found.append(f"{address} runs {told.version} and cannot read the data of {written_by}")
    if told.max_memory_bytes and proof.memory_bytes > told.max_memory_bytes:
        found.append(
            f"{address} may use {told.max_memory_bytes:,} bytes (maxmemory), "
            f"the data takes {proof.memory_bytes:,}: keys would be evicted, or writes refused"
        )
    if setting(wire, "masterauth") is None:
        found.append(f"{address} does not let the user run CONFIG GET and CONFIG SET")
    if _has_sentinel(wire):
        found.append(f"{address} is watched by Sentinel, which would interfere: stop the Sentinels first")
    return found


def _notes(told: ServerFacts, proof: RedisProof) -> list[str]:
    seconds = 1 + proof.keys // KEYS_PER_SECOND
    notes = [
        f"writes are held while the data is exchanged and compared, for about {seconds} s; "
        "blocked commands such as BLPOP are cut off"
    ]
    if told.replicas:
        notes.append(f"{told.replicas} replicas will follow by a full synchronisation")
    available = _memory_available()
    if available is not None and proof.memory_bytes > available:
        notes.append(
            f"a scratch server needs about {proof.memory_bytes:,} bytes of memory, "
            f"{available:,} are available"
        )
    return notes


def _has_sentinel(wire: Wire) -> bool:
    """Sentinels name their connections (redis.io/docs, "High availability with Redis Sentinel")."""
    try:
        return b" name=sentinel-" in as_bytes(wire.call("CLIENT", "LIST"))
    except RefusedCommandError:
        return False


def _memory_available() -> int | None:
    """Return MemAvailable in bytes (proc(5))."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _free_bytes(directory: Path) -> int:
    while not directory.exists():
        directory = directory.parent
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
