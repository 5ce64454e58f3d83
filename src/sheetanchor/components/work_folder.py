"""The hidden folder in which a restore keeps what is staged, what was live, and its journal.

It is on the file system of what is restored, so that everything in it is one rename away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheetanchor.components.disk import write_durably
from sheetanchor.errors import ComponentError

_FORMAT = 1


@dataclass(frozen=True)
class WorkFolder:
    """The folder of one run for one file or directory."""

    path: Path

    @property
    def new(self) -> Path:
        """What is staged, or what an undo took back."""
        return self.path / "new"

    @property
    def old(self) -> Path:
        """What was live before."""
        return self.path / "old"

    @property
    def file(self) -> Path:
        """The journal."""
        return self.path / "journal"

    def read(self) -> dict[str, Any] | None:
        """Return the journal's fields, None where there is no journal. Raises ComponentError."""
        try:
            value = json.loads(self.file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise self.broken() from error
        if not isinstance(value, dict) or value.pop("format", None) != _FORMAT:
            raise self.broken()
        return value

    def write(self, fields: dict[str, Any]) -> None:
        """Replace the journal, durably. Names that are not UTF-8 are kept (surrogateescape)."""
        text = json.dumps({"format": _FORMAT, **fields}, indent=1)
        write_durably(self.file, text.encode("ascii") + b"\n")

    def broken(self) -> ComponentError:
        """Build the error of a journal that this program did not write."""
        return ComponentError(
            f"{self.file}: not a journal of this version of the program",
            hint=f"see what is in {self.path}, then move it away",
        )


def work_folder_beside(live: Path, token: str) -> Path:
    """Return where the work folder of `token` for `live` is, when it is beside it."""
    return live.parent / f"{sibling_prefix(live)}{token}"


def sibling_prefix(live: Path) -> str:
    """Return how the names of all work folders beside `live` begin."""
    return f".{live.name}.sheetanchor-"
