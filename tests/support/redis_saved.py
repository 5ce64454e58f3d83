"""A live Redis server that was filled, captured and then changed: what restore tests begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sheetanchor.components.redis.proof import RedisProof
from sheetanchor.components.redis.staged import RedisStaged
from support.directory_store import DirectorySink, DirectorySource
from support.redis import LiveServer, component, state
from support.redis_cases import DATABASES, fill

TOKEN = "20240102T030405"


@dataclass
class Saved:
    """A live server that was filled, captured and then changed."""

    server: LiveServer
    directory: Path
    proof: RedisProof
    before: object

    @property
    def source(self) -> DirectorySource:
        """Where the backup is."""
        return DirectorySource(self.directory / "store")

    def stage(self) -> RedisStaged:
        """Stage the backup."""
        return component(self.server, self.directory / "work").stage(self.source, self.proof, TOKEN)

    def resume(self) -> RedisStaged:
        """Find it again."""
        return component(self.server, self.directory / "work").resume(TOKEN, self.source)

    def now(self) -> object:
        """Return every key that is live."""
        return state(self.server, (*DATABASES, 5))


def save(server: LiveServer, directory: Path) -> Saved:
    """Fill, capture, change."""
    fill(server)
    proof = component(server, directory / "work").capture(DirectorySink(directory / "store"))
    saved = Saved(server, directory, proof, None)
    saved.before = saved.now()
    with server.client() as connection:
        connection.flushall()
        connection.set("changed", "since the backup")
    return saved
