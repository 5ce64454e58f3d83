"""The demonstration's volume: thousands of files, with everything a file system can hold."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path

MODIFIED_NS = 1_700_000_000_123_456_789
SPARSE_BYTES = 64 << 20
DIRECTORIES = 60
FILES = 3000
_PIECE_BYTES = 1 << 20


def fill(root: Path, seed: int) -> None:
    """Make the tree, about 45 MB. `root` must not exist."""
    dice = random.Random(seed)
    root.mkdir(parents=True)
    directories = [root / f"customer {number:03}" / "pictures" for number in range(DIRECTORIES)]
    words = [dice.randbytes(6).hex() for _ in range(500)]
    for directory in directories:
        directory.mkdir(parents=True)
    for number in range(FILES):
        _fill_file(
            directories[number % DIRECTORIES] / f"{number:05}.{'jpg' if number % 2 else 'txt'}", dice, words
        )
    _fill_oddities(root, dice)
    _set_times(root)


def _fill_file(file: Path, dice: random.Random, words: list[str]) -> None:
    size = min(int(dice.lognormvariate(8.8, 1.1)), 2 << 20)
    if file.suffix == ".jpg":
        file.write_bytes(dice.randbytes(size))
    else:
        file.write_text(" ".join(dice.choices(words, k=size // 13)), encoding="ascii")
    if dice.random() < 0.1:
        file.chmod(dice.choice([0o600, 0o640, 0o755, 0o444]))


def _fill_oddities(root: Path, dice: random.Random) -> None:
    first = root / "customer 000" / "pictures" / "00000.txt"
    for number in range(20):
        os.link(first, root / f"same file {number}.txt")
        (root / f"link {number}").symlink_to(first.relative_to(root))
    (root / "dangling").symlink_to("../somewhere/else")
    (root / "empty").mkdir(mode=0o750)
    (root / "empty.txt").touch()
    (root / "Grüße 大輔\n.txt").write_text("a name with everything", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(root) + b"/latin \xe9.txt")).write_bytes(b"not UTF-8")
    os.mkfifo(root / "queue", 0o620)
    with (root / "sparse.img").open("wb") as sparse:
        sparse.write(dice.randbytes(4096))
        sparse.seek(SPARSE_BYTES // 2)
        sparse.write(dice.randbytes(4096))
        sparse.truncate(SPARSE_BYTES)
    _set_attributes(first)
    if os.geteuid() == 0:
        os.chown(root / "empty.txt", 1234, 4321)


def _set_attributes(file: Path) -> None:
    try:
        os.setxattr(file, "user.description", b"the first file\x00")
    except OSError:
        return  # this file system keeps no extended attributes


def _set_times(root: Path) -> None:
    for number, (directory, _, files) in enumerate(os.walk(root, topdown=False)):
        for place, name in enumerate(files):
            _set_time(os.path.join(directory, name), number * 1000 + place)
        _set_time(directory, number)


def _set_time(path: str, number: int) -> None:
    when = MODIFIED_NS + number * 1_000_000_007
    os.utime(path, ns=(when, when), follow_symlinks=False)


def fingerprint(root: Path) -> dict[str, str]:
    """Describe the tree: names, types, modes, owners, times, links, attributes, contents."""
    if not root.is_dir():
        return {"uploads": "no such directory"}
    lines: list[bytes] = []
    counts = {"files": 0, "directories": 0, "symbolic links": 0, "others": 0}
    names: dict[int, str] = {}
    size = disk = 0
    for path in sorted([str(root), *_below(root)], key=os.fsencode):
        found = os.lstat(path)
        counts[_sort(found)] += 1
        relative = os.path.relpath(path, root)
        # A hard link is the same file under each of its names.
        first = names.setdefault(found.st_ino, relative) if stat.S_ISREG(found.st_mode) else relative
        if first == relative and stat.S_ISREG(found.st_mode):
            size += found.st_size
            disk += found.st_blocks * 512
        lines.append(_line(path, relative, first, found))
    digest = hashlib.sha256(b"\n".join(lines)).hexdigest()[:10]
    described = {what: f"{count:,}" for what, count in counts.items()}
    described["contents"] = f"{size / (1 << 20):,.1f} MiB"
    described["sparse file"] = "sparse" if disk < size - SPARSE_BYTES // 2 else "filled up"
    described["names, metadata, contents"] = digest
    return described


def _below(root: Path) -> list[str]:
    return [
        os.path.join(directory, name)
        for directory, below, files in os.walk(root)
        for name in (*below, *files)
    ]


def _sort(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        return "files"
    if stat.S_ISDIR(found.st_mode):
        return "directories"
    return "symbolic links" if stat.S_ISLNK(found.st_mode) else "others"


def _line(path: str, relative: str, first: str, found: os.stat_result) -> bytes:
    facts = [relative, first, found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns]
    if stat.S_ISLNK(found.st_mode):
        facts.append(os.readlink(path))
    if stat.S_ISREG(found.st_mode):
        facts += [found.st_size, _sha256(path)]
    facts += [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(_attributes(path))]
    return repr(facts).encode("utf-8", "surrogateescape")


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []  # this file system keeps no extended attributes


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
