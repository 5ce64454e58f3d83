"""Content-defined chunking: where a long file is cut into blobs.

FastCDC (Xia et al., 2020) by the compiled part of `pyfastcdc`. Cuts are the writer's own choice
in the restic format: nothing that reads depends on them. The gear table is varied by a number
derived from the master key, so that chunk sizes tell an outsider nothing about known files.
"""

from __future__ import annotations

import os
from typing import Any

from sheetanchor.errors import RepositoryError

KIB = 1024
MIB = 1024 * KIB
MIN_SIZE = 512 * KIB
"""Bytes; a file that is shorter is one blob."""
AVERAGE_SIZE = 1 * MIB
MAX_SIZE = 8 * MIB

_SEED_INFO = b"sheetanchor chunker seed v1"
_SEED_BITS = 62


def derive_seed(key: bytes) -> int:
    """Return the chunker's seed, in 1..2**62, for the repository's key bytes (HKDF, RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=8, salt=None, info=_SEED_INFO).derive(key)
    return int.from_bytes(derived, "big") % (1 << _SEED_BITS) + 1


class Chunker:
    """Finds cuts in buffers. Not safe for use by two threads at once: make one per stream."""

    def __init__(self, seed: int) -> None:
        """Raise RepositoryError when only the slow pure-Python chunker is there."""
        self._fastcdc = _compiled_class()(AVERAGE_SIZE, min_size=MIN_SIZE, max_size=MAX_SIZE, seed=seed)

    def cut(self, data: memoryview, *, final: bool) -> list[int]:
        """Return the lengths of the whole chunks at the start of `data`.

        Unless `final`, bytes after the last cut belong to a chunk that is not complete yet: the
        caller puts them before what comes next. With `final` the lengths sum up to all of `data`.
        """
        lengths = [chunk.length for chunk in self._fastcdc.cut_buf(data)]
        if final or not lengths:
            return lengths
        if lengths[-1] < MAX_SIZE:
            lengths.pop()
        return lengths


def _compiled_class() -> Any:
    os.environ["PYFASTCDC_REQUIRE_CYTHON"] = "1"
    try:
        import pyfastcdc
    except ImportError as error:
        raise RepositoryError(
            f"the compiled chunker cannot be loaded: {error}",
            hint="install a pyfastcdc wheel for this platform; its Python fallback is 200 times slower",
        ) from error
    if not pyfastcdc.FastCDC.__module__.startswith("pyfastcdc.cy"):
        raise RepositoryError(
            "pyfastcdc was loaded without its compiled part",
            hint="install a pyfastcdc wheel for this platform; its Python fallback is 200 times slower",
        )
    return pyfastcdc.FastCDC
