"""A tree with everything a Linux file system can hold, and an exact description of any tree."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
from pathlib import Path

OLD = 946_684_800_123_456_789
"""A time in 2000, in nanoseconds."""


def make(root: Path, *, seed: int = 7) -> None:
    """Fill `root` (made if need be); needs root for owners and devices."""
    source = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    base = os.fsencode(root)
    _contents(base, source)
    _names(base)
    _special(base)
    _metadata(base)
    os.utime(base + b"/deep", ns=(OLD, OLD))
    os.utime(base, ns=(OLD + 5, OLD + 5))


def _contents(base: bytes, source: random.Random) -> None:
    big = source.randbytes(3 << 20)
    _write(base + b"/big.bin", big + b"shifted" + big)
    _write(base + b"/empty", b"")
    _write(base + b"/one byte", b"x")
    _write(base + b"/medium.txt", b"the same line again\n" * 20_000)
    with open(base + b"/sparse.img", "wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(12 << 20)
    os.makedirs(base + b"/deep/" + b"/".join([b"d"] * 30))
    _write(base + b"/deep/" + b"/".join([b"d"] * 30) + b"/leaf", b"leaf")
    os.mkdir(base + b"/many")
    for number in range(150):
        _write(b"%s/many/%03d" % (base, number), source.randbytes(source.randrange(1, 9000)))


def _names(base: bytes) -> None:
    os.mkdir(base + b"/names")
    for name in (b"\xff\xfe not utf-8", b"new\nline", b'quo"te', b"back\\slash", b"\x01\x7f", b"<&>", b" "):
        _write(base + b"/names/" + name, name)
    for text in ("ünïcode", "日本", "\u2028\u00ad", "\U0001f600", "x" * 255):
        _write(base + b"/names/" + text.encode(), text.encode())


def _special(base: bytes) -> None:
    os.symlink(b"big.bin", base + b"/link")
    os.symlink(b"/nowhere/\xff\xfe", base + b"/dangling")
    os.symlink(b"deep", base + b"/link to a directory")
    os.link(base + b"/one byte", base + b"/deep/another name")
    os.link(base + b"/one byte", base + b"/many/a third name")
    os.mkfifo(base + b"/fifo", 0o640)
    os.mkdir(base + b"/empty directory", 0o511)
    if os.geteuid() == 0:
        os.mknod(base + b"/character", stat.S_IFCHR | 0o622, os.makedev(1, 3))
        os.mknod(base + b"/block", stat.S_IFBLK | 0o660, os.makedev(7, 200))


def _metadata(base: bytes) -> None:
    _write(base + b"/setuid", b"#!/bin/true\n")
    if os.geteuid() == 0:
        os.chown(base + b"/setuid", 12345, 54321)
        os.lchown(base + b"/dangling", 777, 778)
        capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
        os.setxattr(base + b"/one byte", "security.capability", capability)
        os.setxattr(base + b"/medium.txt", "trusted.mark", b"\x00\x01")
    os.chmod(base + b"/setuid", 0o6755)  # noqa: S103 - setuid is the point
    os.mkdir(base + b"/sticky")
    os.chmod(base + b"/sticky", 0o3777)  # noqa: S103 - sticky is the point
    os.setxattr(base + b"/medium.txt", "user.note", "größe".encode())
    os.setxattr(base + b"/sticky", "user.empty", b"")
    os.setxattr(base + b"/medium.txt", "system.posix_acl_access", _acl(4242))
    os.setxattr(base + b"/deep", "system.posix_acl_default", _acl(4243))
    os.utime(base + b"/empty", ns=(OLD, OLD))
    os.utime(base + b"/dangling", ns=(OLD + 1, OLD + 1), follow_symlinks=False)
    os.utime(base + b"/fifo", ns=(OLD + 2, OLD + 2))
    os.utime(base + b"/one byte", ns=(OLD, -1_000_000_001))


def _acl(user: int) -> bytes:
    """Return a POSIX ACL in the form of its xattr: user::rw-, user:N:r--, group::r--, mask, other."""
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 4, user), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything that a restore has to bring back, by relative path (b"" is the root)."""
    base = os.fsencode(root)
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[tuple[int, int], bytes] = {}
    stack = [b""]
    while stack:
        path = stack.pop()
        full = base + b"/" + path if path else base
        found[path] = _describe(full, path, first_names)
        if stat.S_ISDIR(os.lstat(full).st_mode):
            names = sorted(os.listdir(full), reverse=True)
            stack += [path + b"/" + name if path else name for name in names]
    return found


def _describe(full: bytes, path: bytes, first_names: dict[tuple[int, int], bytes]) -> tuple[object, ...]:
    status = os.lstat(full)
    is_directory = stat.S_ISDIR(status.st_mode)
    content: object = None
    if stat.S_ISREG(status.st_mode):
        with open(full, "rb") as file:
            content = (status.st_size, hashlib.file_digest(file, "sha256").hexdigest())
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(full)
    elif not is_directory:
        content = status.st_rdev
    names = os.listxattr(full, follow_symlinks=False)
    xattrs = tuple(sorted((name, os.getxattr(full, name, follow_symlinks=False)) for name in names))
    same_file = None
    if not is_directory and status.st_nlink > 1:
        same_file = first_names.setdefault((status.st_ino, status.st_dev), path)
    return (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs, same_file)
