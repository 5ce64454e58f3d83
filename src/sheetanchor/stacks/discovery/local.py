"""What there is to protect on this machine, for `init`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sheetanchor.stacks.base import Inventory
from sheetanchor.stacks.discovery import compose, postgres, redis


def discover(directory: Path, environment: Mapping[str, str]) -> Inventory:
    """Look at databases and caches that answer, and at the compose files in `directory`."""
    return Inventory((*postgres.find(environment), *redis.find(environment), *compose.find(directory)))
