"""Regular files as JSON, straight from their status: what small and unmodified files cost most.

The same bytes as `node.encode_node` makes of a node, which a test holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from sheetanchor.repository import gojson
from sheetanchor.repository.filemode import mode_from_stat
from sheetanchor.repository.filesystem import Owners
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import Fields, name_text


class Times(NamedTuple):
    """A file's times as trees hold them."""

    modified: str
    changed: str


def times_of(status: os.stat_result) -> Times:
    """Return the times in RFC 3339."""
    modified_ns, changed_ns = status.st_mtime_ns, status.st_ctime_ns
    modified = gojson.format_time(modified_ns)
    return Times(modified, modified if changed_ns == modified_ns else gojson.format_time(changed_ns))


class FileTexts:
    """Writes the fields of regular files; looks every owner and mode up once."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._owner_texts: dict[tuple[int, int], str] = {}
        self._mode_texts: dict[int, str] = {}

    def head(self, name: bytes, status: os.stat_result, times: Times, size: int) -> str:
        """Return all fields before the extended attributes; `size` is that of what was read."""
        modified, changed = times
        owner = self._owner_texts.get((status.st_uid, status.st_gid))
        if owner is None:
            owner = self._owner_text(status.st_uid, status.st_gid)
        mode = self._mode_texts.get(status.st_mode)
        if mode is None:
            mode = self._mode_text(status.st_mode)
        inode = f',"inode":{status.st_ino}' if status.st_ino else ""
        device = f',"device_id":{status.st_dev}' if status.st_dev else ""
        length = f',"size":{size}' if size else ""
        links = f',"links":{status.st_nlink}' if status.st_nlink else ""
        return (
            f'{{"name":{name_text(name)},"type":"file",{mode}"mtime":"{modified}","atime":"{modified}",'
            f'"ctime":"{changed}",{owner}{inode}{device}{length}{links}'
        )

    def _owner_text(self, uid: int, gid: int) -> str:
        text = f'"uid":{uid},"gid":{gid}'
        user, group = self._owners.user(uid), self._owners.group(gid)
        text += f',"user":{gojson.encode_string(user)}' if user else ""
        text += f',"group":{gojson.encode_string(group)}' if group else ""
        self._owner_texts[uid, gid] = text
        return text

    def _mode_text(self, st_mode: int) -> str:
        assert stat.S_ISREG(st_mode)
        mode = mode_from_stat(st_mode)
        text = f'"mode":{mode},' if mode else ""
        self._mode_texts[st_mode] = text
        return text


def tail(content: Sequence[Id]) -> str:
    """Return the field of the content and the end of the entry."""
    return tail_of_hex([blob_id.hex() for blob_id in content])


def tail_of_hex(content: Sequence[str]) -> str:
    """Return the same for ids in hex."""
    return ',"content":["' + '","'.join(content) + '"]}' if content else ',"content":[]}'


def is_unmodified(before: Fields, status: os.stat_result, times: Times) -> bool:
    """Say whether an entry of an earlier tree is a file with this size, inode and these times.

    Raises ValueError for a time that is none. Other writers give times with another offset.
    """
    if (
        before.get("type") != "file"
        or before.get("size", 0) != status.st_size
        or before.get("inode", 0) != status.st_ino
    ):
        return False
    modified, changed = before.get("mtime"), before.get("ctime")
    return (changed == times.changed or _time(changed) == status.st_ctime_ns) and (
        modified == times.modified or _time(modified) == status.st_mtime_ns
    )


def _time(value: object) -> int:
    return gojson.parse_time(value) if isinstance(value, str) and value else 0
