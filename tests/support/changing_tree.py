"""A small directory that changes at random, as live data does between two backups."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

MOST_ENTRIES = 12
_NAMES = ("a", "b b", "ü", "sub/c", "sub/deep/d", "other/e", "x" * 200)
_LARGE = 1_300_000
"""Bytes of the largest files: more than one chunk."""


class ChangingTree:
    """The directory `root`; every choice comes from `chance`."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self._chance = chance
        root.mkdir()

    def change(self) -> None:
        """Make one to four changes."""
        for _ in range(self._chance.randint(1, 4)):
            self._change_one()

    def _change_one(self) -> None:
        files = sorted(path for path in self.root.rglob("*") if not path.is_dir() or path.is_symlink())
        if len(files) >= MOST_ENTRIES:
            self._remove(files)
        elif not files:
            self._write()
        else:
            changes = (self._write, self._write, self._write, self._link)
            others = (self._append, self._move, self._remove)
            number = self._chance.randrange(7)
            if number < len(changes):
                changes[number]()
            else:
                others[number - len(changes)](files)

    def _new_path(self) -> Path:
        path = self.root / f"{self._chance.choice(_NAMES)}{self._chance.randrange(4)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def _write(self) -> None:
        """Write a file: empty, small, of words that compress, with a hole, or of several chunks."""
        path = self._new_path()
        content = self._chance.choices(
            (
                b"",
                self._chance.randbytes(self._chance.randrange(1, 5000)),
                b"the same words " * self._chance.randrange(1, 3000),
                bytes(200_000) + b"end",
                random.Random(self._chance.randrange(3)).randbytes(_LARGE) + self._chance.randbytes(10),
            ),
            weights=(1, 6, 3, 1, 1),
        )[0]
        path.write_bytes(content)
        path.chmod(self._chance.choice((0o644, 0o600, 0o4755)))

    def _link(self) -> None:
        os.symlink(self._chance.choice((b"a0", b"/nowhere", b"../\xff")), self._new_path())

    def _append(self, files: list[Path]) -> None:
        path = self._chance.choice(files)
        if not path.is_symlink():
            with path.open("ab") as file:
                file.write(self._chance.randbytes(100))

    def _move(self, files: list[Path]) -> None:
        path = self._chance.choice(files)
        target = self._new_path()
        if path.is_symlink() or path.exists():
            path.rename(target)

    def _remove(self, files: list[Path]) -> None:
        path = self._chance.choice(files)
        if path.parent != self.root and self._chance.randrange(3) == 0:
            shutil.rmtree(path.parent)
        else:
            path.unlink()
