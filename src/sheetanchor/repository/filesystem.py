"""Reading files and their metadata as they are: numeric owners, nanoseconds, raw bytes as names.

Everything is reached through descriptors of directories and never through a symbolic link, so
that a tree which changes while it is read cannot lead the reader elsewhere. FIFOs, devices and
sockets are never opened.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

from sheetanchor.repository.filemode import NodeType, mode_from_stat, type_from_stat
from sheetanchor.repository.node import Node

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS = frozenset({errno.ENOTSUP, errno.EPERM, errno.ENODATA})

_WITH_LINKS = frozenset({NodeType.FILE, NodeType.SYMLINK, NodeType.DEVICE, NodeType.CHARACTER_DEVICE})
_DEVICES = frozenset({NodeType.DEVICE, NodeType.CHARACTER_DEVICE})


class Owners:
    """Names of users and groups, each looked up once; "" for a number without a name."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        """Return the user's name."""
        name = self._users.get(uid)
        if name is None:
            try:
                name = pwd.getpwuid(uid).pw_name
            except KeyError:
                name = ""
            self._users[uid] = name
        return name

    def group(self, gid: int) -> str:
        """Return the group's name."""
        name = self._groups.get(gid)
        if name is None:
            try:
                name = grp.getgrgid(gid).gr_name
            except KeyError:
                name = ""
            self._groups[gid] = name
        return name


def open_root(path: str | os.PathLike[str]) -> int:
    """Open the directory a walk starts from; this one may be reached by a symbolic link."""
    return os.open(path, _DIRECTORY_FLAGS)


def open_directory(name: bytes, parent: int) -> int:
    """Open a directory below `parent`; a symbolic link is refused by the kernel."""
    return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)


def open_file(name: bytes, parent: int) -> tuple[int, os.stat_result]:
    """Open a regular file below `parent` for reading; return it with its status.

    The access time is left alone if that is allowed.
    Raises OSError, also when the name has become something else than a regular file.
    """
    try:
        fd = os.open(name, _FILE_FLAGS | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        fd = os.open(name, _FILE_FLAGS, dir_fd=parent)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.ESTALE, "is no regular file any more")
    return fd, status


def names(directory: int) -> list[bytes]:
    """Return the raw names in an open directory, sorted as trees are."""
    return sorted(os.fsencode(name) for name in os.listdir(directory))


def lstat(name: bytes, parent: int) -> os.stat_result:
    """Return the status of a name itself."""
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def xattrs_of(target: int | bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the extended attributes (ACLs and capabilities among them) of a descriptor or path.

    A path is not followed when it is a symbolic link. A file system without extended
    attributes has none.
    """
    follow = isinstance(target, int)
    try:
        keys = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    found: list[tuple[str, bytes]] = []
    for key in keys:
        try:
            found.append((key, os.getxattr(target, key, follow_symlinks=follow)))
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
    return tuple(found)


def path_by_descriptor(name: bytes, parent: int) -> bytes:
    """Return a path to `name` through the open directory, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%s" % (parent, name)


def read_metadata(name: bytes, parent: int, status: os.stat_result, owners: Owners) -> Node:
    """Return the node of anything but a regular file or a directory. Raises OSError."""
    node = node_from_status(name, status, owners)
    node.xattrs = xattrs_of(path_by_descriptor(name, parent))
    if node.type is NodeType.SYMLINK:
        node.link_target = os.readlink(name, dir_fd=parent)
    return node


def node_from_status(name: bytes, status: os.stat_result, owners: Owners) -> Node:
    """Return a node with what `status` says; xattrs, content and link target are not in it.

    The access time is stored as the modification time, as restic does: reading a file would
    otherwise make a new tree.
    """
    kind = type_from_stat(status.st_mode)
    return Node(
        name=name,
        type=kind,
        mode=mode_from_stat(status.st_mode),
        mtime_ns=status.st_mtime_ns,
        atime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        user=owners.user(status.st_uid),
        group=owners.group(status.st_gid),
        inode=status.st_ino,
        device_id=status.st_dev,
        size=status.st_size if kind is NodeType.FILE else 0,
        links=status.st_nlink if kind in _WITH_LINKS else 0,
        device=status.st_rdev if kind in _DEVICES else 0,
    )


_STAT_TYPES = {
    NodeType.FILE: stat.S_IFREG,
    NodeType.DIRECTORY: stat.S_IFDIR,
    NodeType.SYMLINK: stat.S_IFLNK,
    NodeType.DEVICE: stat.S_IFBLK,
    NodeType.CHARACTER_DEVICE: stat.S_IFCHR,
    NodeType.FIFO: stat.S_IFIFO,
    NodeType.SOCKET: stat.S_IFSOCK,
}


def stat_type(kind: NodeType) -> int:
    """Return the S_IFMT bits of a node type. Raises KeyError for `irregular`."""
    return _STAT_TYPES[kind]
