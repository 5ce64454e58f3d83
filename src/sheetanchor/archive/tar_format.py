"""The tar format on the level of bytes: ustar headers and pax records (POSIX.1-2017, pax, "ustar
Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar Format").

Names and values stay bytes throughout: a volume's file names need not be UTF-8, and extended
attributes never are text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sheetanchor.errors import HostileArchiveError

RECORD = 512
END = bytes(2 * RECORD)
REGULAR, REGULAR_OLD, HARD_LINK, SYMLINK = b"0", b"\0", b"1", b"2"
CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO, CONTIGUOUS = b"3", b"4", b"5", b"6", b"7"
PAX_NEXT, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK = b"x", b"g", b"L", b"K"
XATTR_PREFIX = b"SCHILY.xattr."

_MAX_OCTAL_SIZE = 0o77777777777
_MAX_OCTAL_ID = 0o7777777
_MAX_DEVICE_NUMBER = 0xFFFFF
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,9}) ")
_PAX_NAME = b"./PaxHeaders/entry"


@dataclass(frozen=True)
class Header:
    """One ustar header block, as its fields say it."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    link: bytes = b""
    major: int = 0
    minor: int = 0


def padding(size: int) -> bytes:
    """Return the zeros that fill content of `size` bytes up to whole records."""
    return bytes(-size % RECORD)


def encode(header: Header, records: dict[bytes, bytes]) -> bytes:
    """Return the blocks that stand before an entry's content.

    What does not fit the ustar fields (long or odd names, large numbers, times before 1970) is
    added to `records`, which become a pax header.
    """
    records = dict(records)
    name = _fitting(header.name, b"path", records)
    link = _fitting(header.link, b"linkpath", records)
    size = _fitting_number(header.size, _MAX_OCTAL_SIZE, b"size", records)
    uid = _fitting_number(header.uid, _MAX_OCTAL_ID, b"uid", records)
    gid = _fitting_number(header.gid, _MAX_OCTAL_ID, b"gid", records)
    mtime = header.mtime if 0 <= header.mtime <= _MAX_OCTAL_SIZE else 0
    if mtime != header.mtime:
        records.setdefault(b"mtime", b"%d" % header.mtime)
    block = _block(
        Header(name, header.mode, uid, gid, size, mtime, header.kind, link, header.major, header.minor)
    )
    if not records:
        return block
    data = b"".join(pax_record(key, value) for key, value in records.items())
    pax = _block(Header(_PAX_NAME, 0o600, 0, 0, len(data), 0, PAX_NEXT))
    return pax + data + padding(len(data)) + block


def pax_record(key: bytes, value: bytes) -> bytes:
    """Return one record; its length counts its own digits."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(b"%d" % length):
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


def parse_pax(data: bytes, what: str) -> dict[bytes, bytes]:
    """Read pax records; a later one replaces an earlier one. Raises HostileArchiveError."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        match = _PAX_RECORD.match(data, position)
        if match is None:
            raise HostileArchiveError(f"{what}: damaged pax header")
        end = position + int(match[1])
        key, separator, value = data[match.end() : end - 1].partition(b"=")
        if not separator or end > len(data) or data[end - 1 : end] != b"\n":
            raise HostileArchiveError(f"{what}: damaged pax header")
        records[key] = value
        position = end
    return records


def decode(block: bytes, what: str) -> Header:
    """Read a header block. Raises HostileArchiveError when its checksum or a number is wrong."""
    stored = parse_number(block[148:156], what)
    if stored != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
        raise HostileArchiveError(f"{what}: not a tar archive, or damaged (header checksum)")
    name = _text(block[0:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return Header(
        name=prefix + b"/" + name if prefix else name,
        mode=parse_number(block[100:108], what) & 0o7777,
        uid=parse_number(block[108:116], what),
        gid=parse_number(block[116:124], what),
        size=parse_number(block[124:136], what),
        mtime=parse_number(block[136:148], what, signed=True),
        kind=block[156:157],
        link=_text(block[157:257]),
        major=_device_number(block[329:337], what),
        minor=_device_number(block[337:345], what),
    )


def parse_number(field: bytes, what: str, *, signed: bool = False) -> int:
    """Read an octal or (GNU) base-256 number field. Raises HostileArchiveError."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
    else:
        digits = field.partition(b"\0")[0].strip(b" ")
        if not re.fullmatch(rb"[0-7]*", digits):
            raise HostileArchiveError(f"{what}: damaged tar header (number)")
        value = int(digits or b"0", 8)
    if value < 0 and not signed:
        raise HostileArchiveError(f"{what}: damaged tar header (negative number)")
    return value


def xattr_key(name: bytes) -> bytes:
    """Return the record key of an extended attribute; "=" and "%" are escaped as GNU tar does."""
    return XATTR_PREFIX + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def xattr_name(key: bytes) -> bytes:
    """Return the extended attribute's name from its record key."""
    return key.removeprefix(XATTR_PREFIX).replace(b"%3D", b"=").replace(b"%25", b"%")


def _device_number(field: bytes, what: str) -> int:
    value = parse_number(field, what)
    if value > _MAX_DEVICE_NUMBER:
        raise HostileArchiveError(f"{what}: a device number out of range")
    return value


def _fitting(value: bytes, key: bytes, records: dict[bytes, bytes]) -> bytes:
    if len(value) <= 100 and (key == b"linkpath" or not value.endswith(b" ")):
        return value
    records.setdefault(key, value)
    return value[:100]


def _fitting_number(value: int, largest: int, key: bytes, records: dict[bytes, bytes]) -> int:
    if value <= largest:
        return value
    records.setdefault(key, b"%d" % value)
    return 0


def _block(header: Header) -> bytes:
    fields = (
        header.name.ljust(100, b"\0")
        + b"%07o\0%07o\0%07o\0" % (header.mode, header.uid, header.gid)
        + b"%011o\0%011o\0" % (header.size, header.mtime)
        + b"        "
        + header.kind
        + header.link.ljust(100, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + b"%07o\0%07o\0" % (header.major, header.minor)
    ).ljust(RECORD, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
