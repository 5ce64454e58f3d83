"""POSIX ACLs between the kernel's form and the text that tar keeps.

The kernel hands out `system.posix_acl_access` and `..._default` as a version and packed entries
(linux/posix_acl_xattr.h); GNU tar and star keep `SCHILY.acl.access` and `.default` as the text of
acl(5), with `user:NAME:rwx:UID` where names are known. Only numbers are written and believed.
"""

from __future__ import annotations

import re
import struct

from sheetanchor.errors import HostileArchiveError

ACCESS_XATTR = "system.posix_acl_access"
DEFAULT_XATTR = "system.posix_acl_default"

_VERSION = 2
_HEADER = struct.Struct("<L")
_ENTRY = struct.Struct("<HHL")
_UNDEFINED_ID = 0xFFFFFFFF
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TEXT_TAGS = {
    _USER_OBJ: "user",
    _USER: "user",
    _GROUP_OBJ: "group",
    _GROUP: "group",
    _MASK: "mask",
    _OTHER: "other",
}
_LINE = re.compile(r"(user|group|mask|other):([^:]*):([r-][w-][x-])(?::([0-9]{1,10}))?")
_PLAIN_TAGS = {"user": _USER_OBJ, "group": _GROUP_OBJ, "mask": _MASK, "other": _OTHER}
_NAMED_TAGS = {"user": _USER, "group": _GROUP}


def acl_to_text(value: bytes) -> str | None:
    """Return the text of a kernel ACL, None for a form this does not know."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        return None
    if _HEADER.unpack_from(value)[0] != _VERSION:
        return None
    lines = []
    for tag, permissions, who in _ENTRY.iter_unpack(value[_HEADER.size :]):
        if tag not in _TEXT_TAGS or permissions > 7:
            return None
        name = str(who) if tag in (_USER, _GROUP) else ""
        rights = "".join(
            letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))
        )
        lines.append(f"{_TEXT_TAGS[tag]}:{name}:{rights}")
    return "\n".join(lines) + "\n"


def acl_from_text(text: str) -> bytes:
    """Return the kernel's form of an ACL text.

    Raises HostileArchiveError for a text that is none, or that names users without numbers: a
    name may mean somebody else on this machine.
    """
    entries = []
    for line in re.split(r"[\n,]", text):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise HostileArchiveError(f"not an ACL entry: {line[:80]!r}")
        entries.append(_entry(*match.groups()))
    entries.sort()
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def says_no_more_than_mode(value: bytes) -> bool:
    """Say whether an access ACL (kernel's form) has the mode's three entries only.

    GNU tar stores such a one for directories with a default ACL; the kernel keeps none.
    """
    return {tag for tag, _, _ in _ENTRY.iter_unpack(value[_HEADER.size :])} == {_USER_OBJ, _GROUP_OBJ, _OTHER}


def _entry(kind: str, name: str, rights: str, number: str | None) -> tuple[int, int, int]:
    permissions = sum(bit for letter, bit in zip(rights, (4, 2, 1), strict=True) if letter != "-")
    if not name:
        return _PLAIN_TAGS[kind], permissions, _UNDEFINED_ID
    who = number or name
    if kind not in _NAMED_TAGS or not who.isdecimal() or int(who) >= _UNDEFINED_ID:
        raise HostileArchiveError(f"ACL entry for {kind} {name[:40]!r} has no number")
    return _NAMED_TAGS[kind], permissions, int(who)
