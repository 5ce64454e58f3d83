"""Every name that a capture or a restore makes up."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

IDENTIFIER_BYTES = 63
GLOBALS_PATH = "globals.sql"
_OURS = re.compile(r"sheetanchor_[0-9a-f]{12}(_(new|old)_\d+_.*)?", re.DOTALL)


def dump_path(database: str) -> str:
    """Return where a database's dump is kept; characters that no path may hold are percent-encoded."""
    encoded = quote(database, safe=" !#$&'()+,;=@[]{}~")
    return f"{'%2E' + encoded[1:] if encoded.startswith('.') else encoded}.dump"


def hub_name(token: str) -> str:
    """Return the name of the database that holds a restore's journal."""
    return f"sheetanchor_{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def staged_name(token: str, number: int, database: str) -> str:
    """Return the name of the restored database before the swap (and after an undo)."""
    return _cut(f"{hub_name(token)}_new_{number}_{database}")


def replaced_name(token: str, number: int, database: str) -> str:
    """Return the name of the database that was live, after the swap."""
    return _cut(f"{hub_name(token)}_old_{number}_{database}")


def is_ours(database: str) -> bool:
    """Say whether a restore made this database up."""
    return _OURS.fullmatch(database) is not None


def _cut(name: str) -> str:
    return name.encode()[:IDENTIFIER_BYTES].decode("utf-8", "ignore")
