"""Types and modes of files in Go's terms, in which restic stores them (os.FileMode)."""

from __future__ import annotations

import stat
from enum import StrEnum


class NodeType(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "symlink"
    DEVICE = "dev"
    CHARACTER_DEVICE = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"
    IRREGULAR = "irregular"


_GO_DIRECTORY = 1 << 31
_GO_SYMLINK = 1 << 27
_GO_DEVICE = 1 << 26
_GO_FIFO = 1 << 25
_GO_SOCKET = 1 << 24
_GO_SETUID = 1 << 23
_GO_SETGID = 1 << 22
_GO_CHARACTER_DEVICE = 1 << 21
_GO_STICKY = 1 << 20
_GO_IRREGULAR = 1 << 19

_GO_TYPES = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: _GO_DIRECTORY,
    stat.S_IFLNK: _GO_SYMLINK,
    stat.S_IFBLK: _GO_DEVICE,
    stat.S_IFCHR: _GO_DEVICE | _GO_CHARACTER_DEVICE,
    stat.S_IFIFO: _GO_FIFO,
    stat.S_IFSOCK: _GO_SOCKET,
}
_GO_SPECIAL = ((stat.S_ISUID, _GO_SETUID), (stat.S_ISGID, _GO_SETGID), (stat.S_ISVTX, _GO_STICKY))
_NODE_TYPES = {
    stat.S_IFREG: NodeType.FILE,
    stat.S_IFDIR: NodeType.DIRECTORY,
    stat.S_IFLNK: NodeType.SYMLINK,
    stat.S_IFBLK: NodeType.DEVICE,
    stat.S_IFCHR: NodeType.CHARACTER_DEVICE,
    stat.S_IFIFO: NodeType.FIFO,
    stat.S_IFSOCK: NodeType.SOCKET,
}


def type_from_stat(st_mode: int) -> NodeType:
    """Return the node type of an st_mode."""
    return _NODE_TYPES.get(stat.S_IFMT(st_mode), NodeType.IRREGULAR)


def mode_from_stat(st_mode: int) -> int:
    """Return Go's os.FileMode bits of an st_mode."""
    mode = (st_mode & 0o777) | _GO_TYPES.get(stat.S_IFMT(st_mode), _GO_IRREGULAR)
    if st_mode & 0o7000:
        for bit, go_bit in _GO_SPECIAL:
            if st_mode & bit:
                mode |= go_bit
    return mode


def permissions(mode: int) -> int:
    """Return the 07777 bits (setuid, setgid, sticky, permissions) of Go's os.FileMode bits."""
    bits = mode & 0o777
    for bit, go_bit in _GO_SPECIAL:
        if mode & go_bit:
            bits |= bit
    return bits
