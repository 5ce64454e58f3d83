"""One call of the program: what its commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sheetanchor.cli.options import separated
from sheetanchor.cli.output import Output

if TYPE_CHECKING:
    from sheetanchor.app import Application
    from sheetanchor.operations.environment import Selection
    from sheetanchor.secret import Secret


@dataclass
class Invocation:
    """The output, and the options that stand before the command."""

    output: Output
    config: Path | None = None

    @contextmanager
    def application(self) -> Iterator[Application]:
        """Yield the application of the configuration; its progress is shown until the block ends."""
        from sheetanchor.app import Application, World

        with self.output.watching() as listener:
            ask = self._ask_password if self.output.interactive else None
            yield Application.load(self.config, World(listener, ask_password=ask))

    def _ask_password(self) -> Secret:
        return ask_secret("password of the repository: ")


def ask_secret(prompt: str) -> Secret:
    """Ask at the terminal, without echo. Raises ConfigError for an empty answer."""
    import getpass

    from sheetanchor.errors import ConfigError
    from sheetanchor.secret import Secret

    answer = getpass.getpass(prompt)
    if not answer:
        raise ConfigError("the password must not be empty")
    return Secret(answer)


def selection(
    only: list[str] | None, skip: list[str] | None, skip_type: list[str] | None = None
) -> Selection:
    """Return what `--only`, `--skip` and `--skip-type` choose. Raises UsageError for an unknown type."""
    import difflib

    from sheetanchor.errors import UsageError
    from sheetanchor.operations.environment import Selection

    types = ("postgres", "redis", "volume", "configs")
    for name in separated(skip_type):
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"--skip-type: {name!r} is no type", hint=f"{meant}there are: {', '.join(types)}"
            )
    return Selection(separated(only), separated(skip), separated(skip_type))


def result_fields(result: Any) -> dict[str, object]:
    """Return a result model as plain JSON values; the names are public API."""
    fields: dict[str, object] = result.model_dump(mode="json")
    return fields
