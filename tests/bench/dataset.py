"""The volume that is backed up: SQL-like text, random bytes and many small files, from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEED = 20260101
LARGE_FILES = 8
PIECE_BYTES = 1 << 20
SMALL_FILE_BYTES = (1 << 10, 16 << 10)
FILES_PER_DIRECTORY = 100
LEAST_ROW_BYTES = 40
POOL = 50_000
STATUSES = ("new", "paid", "packed", "shipped", "returned")
WORDS = ("anchor", "harbour", "tide", "cable", "deck", "helm", "keel", "mast", "sail", "chart", "wind", "bow")


@dataclass(frozen=True)
class Dataset:
    """What was made."""

    directory: Path
    files: int
    num_bytes: int


def make_dataset(directory: Path, size: int, small_files: int) -> Dataset:
    """Fill `directory` with `size` bytes of large files (half text, half random) and small files.

    The small ones come on top: half of them text, half random, 1 to 16 KiB each. The same
    arguments make the same bytes.
    """
    source = random.Random(SEED)
    rows = _Rows(source)
    total = 0
    for number in range(LARGE_FILES):
        is_text = number % 2 == 0
        path = directory / "large" / f"{number}.{'sql' if is_text else 'bin'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        total += _write_large(path, size // LARGE_FILES, rows.take if is_text else source.randbytes)
    for number in range(small_files):
        path = directory / "small" / f"{number // FILES_PER_DIRECTORY:04}" / f"{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = source.randint(*SMALL_FILE_BYTES)
        path.write_bytes(rows.take(length) if number % 2 else source.randbytes(length))
        total += length
    return Dataset(directory, LARGE_FILES + small_files, total)


def make_dump(path: Path, size: int) -> Dataset:
    """Write one dump of `size` bytes of rows."""
    path.parent.mkdir(parents=True)
    total = _write_large(path, size, _Rows(random.Random(SEED)).take)
    return Dataset(path.parent, 1, total)


def change_dump(path: Path, share: float, *, scattered: bool) -> None:
    """Replace this share of a dump's rows, in one run in the middle or spread evenly.

    Every new row is one byte longer than the old one, so that all that follows moves.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    count = int(len(lines) * share)
    step = len(lines) // count if scattered else 1
    start = step // 2 if scattered else (len(lines) - count) // 2
    for number in range(start, start + count * step, step):
        lines[number] = lines[number][:-1][::-1] + b"x\n"
    path.write_bytes(b"".join(lines))


def _write_large(path: Path, size: int, take: Callable[[int], bytes]) -> int:
    with path.open("wb") as file:
        left = size
        while left > 0:
            left -= file.write(take(min(left, PIECE_BYTES)))
    return size


class _Rows:
    """Rows as pg_dump writes them for COPY: a serial, words, an address, a state, money, a time."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._serial = 0
        pick, number = source.choice, source.randrange
        self._columns = (
            [f"{pick(WORDS)} {pick(WORDS)} {pick(WORDS)}" for _ in range(POOL)],
            [f"{pick(WORDS)}.{number(10**6)}@example.org" for _ in range(POOL)],
            [*STATUSES],
            [f"{number(10**6) / 100:.2f}" for _ in range(POOL)],
            [f"2026-01-{number(1, 29):02} {number(24):02}:{number(60):02}:00" for _ in range(POOL)],
        )

    def take(self, length: int) -> bytes:
        """Return `length` bytes of rows that were not there before."""
        count = length // LEAST_ROW_BYTES + 1
        serials = [str(number) for number in range(self._serial, self._serial + count)]
        self._serial += count
        columns = (self._source.choices(column, k=count) for column in self._columns)
        return "\n".join(map("\t".join, zip(serials, *columns, strict=True))).encode()[: length - 1] + b"\n"
