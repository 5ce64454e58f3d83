"""Background work of the server that a restart depends on: BGSAVE and the AOF rewrite."""

from __future__ import annotations

from sheetanchor.clock import Clock
from sheetanchor.components.redis.server import information
from sheetanchor.components.redis.wire import RefusedCommandError, Wire
from sheetanchor.errors import ComponentError

POLL_SECONDS = 0.05


def save_in_background(wire: Wire, clock: Clock) -> None:
    """Have the server write its RDB file, begun after this call. Raises ComponentError.

    A save or rewrite that is in progress is waited for: it began before the call, so it may
    lack what was just written.
    """
    while True:
        _wait_until_idle(wire, clock)
        try:
            wire.call("BGSAVE")
        except RefusedCommandError as error:
            if "in progress" in error.message:
                continue
            raise
        break
    _wait_until_idle(wire, clock)
    if information(wire, "persistence").get("rdb_last_bgsave_status") != "ok":
        raise ComponentError(
            f"{wire.address}: BGSAVE failed",
            hint="the server's log tells why; often a full disk or no memory",
        )


def settle_append_only_file(wire: Wire, clock: Clock) -> None:
    """Wait until the append-only file holds all data, where one is kept. Raises ComponentError."""
    if information(wire, "persistence").get("aof_enabled") != "1":
        return
    _wait_until_idle(wire, clock)
    told = information(wire, "persistence")
    if told.get("aof_last_bgrewrite_status") != "ok" or told.get("aof_last_write_status") != "ok":
        raise ComponentError(
            f"{wire.address}: the append-only file could not be written",
            hint="the data is live but a restart would not have it; the server's log tells why",
        )


def _wait_until_idle(wire: Wire, clock: Clock) -> None:
    busy = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    while any(information(wire, "persistence").get(name) == "1" for name in busy):
        clock.sleep(POLL_SECONDS)
