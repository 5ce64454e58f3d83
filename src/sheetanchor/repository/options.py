"""What a user may choose about how a repository is used; nothing here changes the format."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sheetanchor.repository.codec import Compression


def _processors() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Options:
    """Settings of this run."""

    compression: Compression = Compression.AUTO
    threads: int = field(default_factory=_processors)
    """Threads that hash, compress and seal, or open and check; all processors by default."""
