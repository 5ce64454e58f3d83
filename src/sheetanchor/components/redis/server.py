"""What a Redis or Valkey server says about itself: product, version, role, settings."""

from __future__ import annotations

from dataclasses import dataclass

from sheetanchor.components.redis.wire import RefusedCommandError, Wire, as_byte_list, as_bytes
from sheetanchor.errors import ComponentError, ToolError, UnreachableError

OLDEST_SUPPORTED = (7, 0)
"""Functions and PEXPIRETIME came with Redis 7.0; Valkey began at 7.2."""


@dataclass(frozen=True)
class Version:
    """A product ("redis" or "valkey") and its version."""

    product: str
    text: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor number: what decides about file formats and commands."""
        major, minor = self.text.split(".")[:2]
        return int(major), int(minor)

    @property
    def has_field_expiry(self) -> bool:
        """Whether single fields of a hash can expire (Redis 7.4, Valkey 9.0)."""
        return self.release >= ((9, 0) if self.product == "valkey" else (7, 4))

    def __str__(self) -> str:
        return f"{self.product.capitalize()} {self.text}"


@dataclass(frozen=True)
class ServerFacts:
    """The server's state at one moment."""

    version: Version
    role: str
    """master or slave, as the server says it."""
    replicas: int
    cluster: bool
    loading: bool
    appendonly: bool
    memory_bytes: int
    max_memory_bytes: int
    run_id: str
    """Changes with every start of the server."""
    replication_id: str
    previous_replication_id: str
    link_up: bool
    """For a replica: connected to its master and in step with it."""
    master: str
    """For a replica: host:port of its master; empty otherwise."""


def information(wire: Wire, section: str = "everything") -> dict[str, str]:
    """Return INFO as name and value. Raises RefusedCommandError, UnreachableError."""
    lines = as_bytes(wire.call("INFO", section)).decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def facts(wire: Wire) -> ServerFacts:
    """Ask the server about itself. Raises UnreachableError when it may not be asked."""
    try:
        told = information(wire)
    except RefusedCommandError as error:
        hint = "the user needs the commands INFO, PSYNC and REPLCONF"
        raise UnreachableError(f"{wire.address}: {error.message}", hint=hint) from error
    master = f"{told['master_host']}:{told['master_port']}" if "master_host" in told else ""
    return ServerFacts(
        version=_version(told),
        role=told.get("role", "master"),
        replicas=int(told.get("connected_slaves", 0)),
        cluster=told.get("cluster_enabled") == "1" or told.get("redis_mode") == "cluster",
        loading=told.get("loading") == "1",
        appendonly=told.get("aof_enabled") == "1",
        memory_bytes=int(told.get("used_memory_dataset", 0)),
        max_memory_bytes=int(told.get("maxmemory", 0)),
        run_id=told.get("run_id", ""),
        replication_id=told.get("master_replid", ""),
        previous_replication_id=told.get("master_replid2", ""),
        link_up=told.get("master_link_status") == "up" and told.get("master_sync_in_progress") == "0",
        master=master,
    )


def usable_facts(wire: Wire) -> ServerFacts:
    """Return the facts of a server that can be captured and restored.

    Raises ToolError for a version or mode that is not supported, UnreachableError while the
    server is still loading its data.
    """
    told = facts(wire)
    if told.version.release < OLDEST_SUPPORTED:
        raise ToolError(f"{wire.address}: {told.version} is older than 7.0, the oldest that is supported")
    if told.cluster:
        raise ToolError(
            f"{wire.address}: runs in cluster mode, which is not supported",
            hint="one node holds only its own slots of the data; nothing was saved",
        )
    if told.loading:
        raise UnreachableError(f"{wire.address}: is still loading its data", hint="try again when it is done")
    return told


def setting(wire: Wire, name: str) -> str | None:
    """Return one setting of the server, None where it has no such setting or may not be asked."""
    try:
        found = as_byte_list(wire.call("CONFIG", "GET", name))
    except RefusedCommandError:
        return None
    return found[1].decode("utf-8", "replace") if len(found) == 2 else None


def key_counts(wire: Wire) -> dict[int, tuple[int, int]]:
    """Return for each database that is not empty its keys and those with an expiry.

    Keys whose time has come and that the server has not removed yet are counted
    (redis.io/docs, INFO, section Keyspace).
    """
    counts: dict[int, tuple[int, int]] = {}
    for name, value in information(wire, "keyspace").items():
        if not name.startswith("db") or not name[2:].isdigit():
            continue
        parts = dict(part.split("=", 1) for part in value.split(","))
        counts[int(name[2:])] = (int(parts["keys"]), int(parts["expires"]))
    return counts


def _version(told: dict[str, str]) -> Version:
    if "valkey_version" in told:
        return Version("valkey", told["valkey_version"])
    if "redis_version" not in told:
        raise ComponentError("the server does not say which version it is")
    return Version("redis", told["redis_version"])
