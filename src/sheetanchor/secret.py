"""A wrapper that keeps a secret out of logs, tracebacks and `repr`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secret:
    """A value that is never shown: `reveal()` is the only way to it."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the secret itself; call it only where the value is used."""
        return self._value

    def __str__(self) -> str:
        return "********"

    def __repr__(self) -> str:
        return "Secret(********)"
