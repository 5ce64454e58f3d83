"""Names and tags: how a backup's snapshots find one another in a repository.

Every snapshot of a backup carries `stack=…`, `backup=…`, `tier=…`; a component's also
`component=…` and `type=…`; the manifest's carries `manifest=complete` or `manifest=partial`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

SAFETY_TIER = "safety"
MANUAL_TIER = "manual"
IMPORTED_TIER = "imported"

_NAME = re.compile(r"backup_(\d{8}_\d{6})")


def backup_name(moment: datetime) -> str:
    """Return `backup_YYYYMMDD_HHMMSS` in UTC."""
    return f"backup_{moment.astimezone(UTC):%Y%m%d_%H%M%S}"


def backup_time(name: str) -> datetime | None:
    """Return the moment in a backup's name, or None if it is not such a name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match.group(1), "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True)
class Tags:
    """The tags of one snapshot, read."""

    stack: str
    backup: str
    tier: str
    component: str | None = None
    type: str | None = None
    manifest: str | None = None
    status: str | None = None
    """"failed" on what is left of a component that could not be saved whole."""
    others: tuple[str, ...] = ()

    def encode(self) -> tuple[str, ...]:
        """Return the tags as restic keeps them."""
        pairs = [("stack", self.stack), ("backup", self.backup), ("tier", self.tier)]
        optional = [("component", self.component), ("type", self.type), ("manifest", self.manifest)]
        optional.append(("status", self.status))
        pairs += [(key, value) for key, value in optional if value is not None]
        return tuple(f"{key}={value}" for key, value in pairs) + self.others


def read_tags(tags: Iterable[str]) -> Tags | None:
    """Return the tags of a snapshot of ours, None for a snapshot of others."""
    known: dict[str, str] = {}
    others: list[str] = []
    for tag in tags:
        key, separator, value = tag.partition("=")
        if separator and key in {"stack", "backup", "tier", "component", "type", "manifest", "status"}:
            known[key] = value
        else:
            others.append(tag)
    if "stack" not in known or "backup" not in known:
        return None
    return Tags(
        stack=known["stack"],
        backup=known["backup"],
        tier=known.get("tier", MANUAL_TIER),
        component=known.get("component"),
        type=known.get("type"),
        manifest=known.get("manifest"),
        status=known.get("status"),
        others=tuple(others),
    )


def component_root(kind: str, name: str) -> str:
    """Return where a component's files are inside its snapshot (public layout)."""
    if kind == "configs":
        return "/configs"
    plural = {"volume": "volumes", "bucket": "buckets"}.get(kind, kind)
    return f"/{plural}/{name}"
