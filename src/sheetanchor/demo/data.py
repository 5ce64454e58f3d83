"""Realistic data for the demonstration, and descriptions that show whether all of it is there."""

from __future__ import annotations

from pathlib import Path

from sheetanchor.demo import cache, shop, uploads
from sheetanchor.demo.servers import Servers

SEED = 20240101


def fill(servers: Servers, volume: Path, seed: int = SEED) -> None:
    """Fill two new servers and make the tree `volume`; the same seed makes the same data."""
    shop.fill(servers.postgres_url, servers.postgres_programs, seed)
    cache.fill(servers.redis_url, seed)
    uploads.fill(volume, seed)


def fingerprint(servers: Servers, volume: Path) -> dict[str, str]:
    """Describe the whole live state, one entry for each thing: how much there is, and a hash."""
    return {
        **{f"postgres {name}": value for name, value in shop.fingerprint(servers.postgres_url).items()},
        **{f"redis {name}": value for name, value in cache.fingerprint(servers.redis_url).items()},
        **{f"uploads {name}": value for name, value in uploads.fingerprint(volume).items()},
    }
