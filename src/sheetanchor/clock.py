"""Time as an injected dependency, so that schedules, locks and retries are testable."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall clock (aware, UTC), monotonic seconds, and sleep."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)


def moment(time_ns: int) -> datetime:
    """Return nanoseconds since 1970, of any year, as a time of the years 1 to 9999.

    Times that were stored may be forged, and file systems hold years that `datetime` does not.
    """
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if time_ns < 0 else datetime.max.replace(tzinfo=UTC)
