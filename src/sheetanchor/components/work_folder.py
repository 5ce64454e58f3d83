"""The hidden folder in which a restore keeps what is staged, what was live, and its journal.

It is on the file system of what is restored, so that everything in it is one rename away.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sheetanchor.components.disk import sync_directory, write_durably
from sheetanchor.errors import ComponentError

_FORMAT = 1
_RESERVED_BYTES = 64 * 1024


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

    @property
    def reserve(self) -> Path:
        """Room that is held for the journal, so that a full disk does not stop the way back."""
        return self.path / "reserve"

    def make(self) -> None:
        """Make the folder, with its reserve; one that exists is no error."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        if not self.reserve.exists():
            write_durably(self.reserve, b"\x01" * _RESERVED_BYTES)
        sync_directory(self.path.parent)

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
        data = json.dumps({"format": _FORMAT, **fields}, indent=1).encode("ascii") + b"\n"
        try:
            write_durably(self.file, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.reserve.exists():
                raise
            self.reserve.unlink()
            write_durably(self.file, data)

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
