"""Nodes and trees: one directory's entries with all metadata, byte for byte as restic stores them.

restic's design, "Trees and Data"; field order and omission rules as in its node structure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sheetanchor.errors import DamagedRepositoryError, RepositoryError
from sheetanchor.repository import gojson
from sheetanchor.repository.filemode import NodeType, mode_from_stat, permissions, type_from_stat
from sheetanchor.repository.ids import Id, parse_id

__all__ = [
    "Node",
    "NodeType",
    "decode_tree",
    "encode_node",
    "encode_tree",
    "mode_from_stat",
    "permissions",
    "type_from_stat",
]


@dataclass(slots=True)
class Node:
    """One entry of a directory."""

    name: bytes
    type: NodeType
    mode: int = 0
    """Go's os.FileMode bits, see `mode_from_stat`."""
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    """st_dev of the file system the entry was on; with `inode` it pairs hard links."""
    size: int = 0
    """Bytes; files only."""
    links: int = 0
    link_target: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    generic_attributes: str = ""
    """JSON of what other systems add (windows.*), kept as it came."""
    device: int = 0
    """st_rdev of a device."""
    content: tuple[Id, ...] | None = None
    """Data blobs of a file (empty for an empty file), None for everything else."""
    subtree: Id | None = None
    """Tree blob of a directory."""
    error: str = ""
    unknown: tuple[tuple[str, str], ...] = ()
    """Fields of newer writers: name and JSON."""


Fields = dict[str, object]
"""One entry of a tree as JSON gives it."""

_PLAIN_NAME = re.compile(rb"[ !#-%'-;=?-\[\]-~]+")
"""Names that neither quoting nor JSON changes."""
_FORBIDDEN_NAMES = (b"", b".", b"..")


def encode_tree(nodes: Sequence[Node]) -> bytes:
    """Return the tree blob of a directory's entries, sorted by their raw names.

    Raises RepositoryError for two entries of one name and for names no directory can hold.
    """
    return encode_entries([(node.name, node) for node in nodes])


def encode_entries(entries: Sequence[tuple[bytes, Node | str]]) -> bytes:
    """Return the tree blob of named entries, some of which are JSON already; see `encode_tree`."""
    previous = b""
    parts: list[str] = []
    for name, entry in sorted(entries, key=_by_name):
        if name == previous or name in _FORBIDDEN_NAMES or b"/" in name or b"\0" in name:
            raise RepositoryError(f"a directory cannot hold the name {gojson.quote_name(name)!r} (again)")
        previous = name
        parts.append(entry if isinstance(entry, str) else encode_node(entry))
    return f'{{"nodes":[{",".join(parts)}]}}\n'.encode()


def _by_name(entry: tuple[bytes, object]) -> bytes:
    return entry[0]


def name_text(name: bytes) -> str:
    """Return a file name as JSON, quotes included."""
    if _PLAIN_NAME.fullmatch(name) is not None:
        return f'"{name.decode("ascii")}"'
    return gojson.encode_string(gojson.quote_name(name))


def encode_node(node: Node) -> str:
    """Return one node's JSON."""
    mode = f'"mode":{node.mode},' if node.mode else ""
    content = node.content
    if content is None:
        blobs = "null"
    elif content:
        blobs = '["' + '","'.join([blob.hex() for blob in content]) + '"]'
    else:
        blobs = "[]"
    time = gojson.format_time
    return (
        f'{{"name":{name_text(node.name)},"type":"{node.type}",{mode}"mtime":"{time(node.mtime_ns)}",'
        f'"atime":"{time(node.atime_ns)}","ctime":"{time(node.ctime_ns)}",'
        f'"uid":{node.uid},"gid":{node.gid}{_optional(node)},"content":{blobs}{_last(node)}}}'
    )


def _optional(node: Node) -> str:
    """Return the fields between gid and content, each omitted when it is zero or empty."""
    text = f',"user":{gojson.encode_string(node.user)}' if node.user else ""
    if node.group:
        text += f',"group":{gojson.encode_string(node.group)}'
    if node.inode:
        text += f',"inode":{node.inode}'
    if node.device_id:
        text += f',"device_id":{node.device_id}'
    if node.size:
        text += f',"size":{node.size}'
    if node.links:
        text += f',"links":{node.links}'
    if node.link_target or node.xattrs or node.generic_attributes or node.device:
        text += _rare(node)
    return text


def _rare(node: Node) -> str:
    text = ""
    if node.link_target:
        target = node.link_target.decode("utf-8", "surrogateescape")
        text += f',"linktarget":{gojson.encode_string(target)}'
        if not target.isascii() and any("\udc80" <= character <= "\udcff" for character in target):
            text += f',"linktarget_raw":"{base64.b64encode(node.link_target).decode()}"'
    text += xattrs_text(node.xattrs)
    if node.generic_attributes:
        text += f',"generic_attributes":{node.generic_attributes}'
    if node.device:
        text += f',"device":{node.device}'
    return text


def xattrs_text(xattrs: tuple[tuple[str, bytes], ...]) -> str:
    """Return the field of the extended attributes with a comma before it, "" when there are none."""
    if not xattrs:
        return ""
    pairs = (
        f'{{"name":{gojson.encode_string(name)},"value":"{base64.b64encode(value).decode()}"}}'
        for name, value in xattrs
    )
    return f',"extended_attributes":[{",".join(pairs)}]'


def _last(node: Node) -> str:
    text = f',"subtree":"{node.subtree.hex()}"' if node.subtree is not None else ""
    if node.error:
        text += f',"error":{gojson.encode_string(node.error)}'
    for name, value in node.unknown:
        text += f",{gojson.encode_string(name)}:{value}"
    return text


_NUMBER_KEYS = ("mode", "uid", "gid", "inode", "device_id", "size", "links")
_NUMBER_END = 1 << 64
_COMMON = frozenset((*_NUMBER_KEYS, "name", "type", "mtime", "atime", "ctime", "user", "group", "content"))
_KNOWN = _COMMON | {
    *("linktarget", "linktarget_raw", "extended_attributes", "generic_attributes"),
    *("device", "subtree", "error"),
}


def tree_fields(data: bytes) -> list[Fields]:
    """Return the entries of a tree blob as they stand, none of them looked at.

    Raises DamagedRepositoryError for anything that is no list of entries.
    """
    try:
        match gojson.decode(data):
            case {"nodes": list(items)} if all(isinstance(item, dict) for item in items):
                return items
            case {"nodes": None}:
                return []
        raise ValueError("no list of nodes")
    except ValueError as error:
        raise DamagedRepositoryError(f"a tree cannot be read: {error}") from error


def decode_tree(data: bytes) -> list[Node]:
    """Return the nodes of a tree blob, strictly ascending by name; unknown keys are kept.

    Raises DamagedRepositoryError for anything that is no tree, and for names that would
    lead out of the directory.
    """
    try:
        nodes = [decode_node(fields) for fields in tree_fields(data)]
    except ValueError as error:
        raise DamagedRepositoryError(f"a tree cannot be read: {error}") from error
    previous = b""
    for node in nodes:
        name = node.name
        if name in _FORBIDDEN_NAMES or b"/" in name or b"\0" in name:
            raise DamagedRepositoryError(f"a tree holds the forbidden name {gojson.quote_name(name)!r}")
        if name <= previous:
            raise DamagedRepositoryError(f"a tree is out of order at {gojson.quote_name(name)!r}")
        previous = name
    return nodes


def decode_node(fields: Fields) -> Node:
    """Return one entry of a tree. Raises ValueError for what is no node."""
    get = fields.get
    mode, uid, gid, inode, device_id, size, links = _numbers(fields)
    mtime, atime, ctime = get("mtime"), get("atime"), get("ctime")
    modified = _time(mtime)
    node = Node(
        gojson.unquote_name(_text(fields, "name")),
        NodeType(_text(fields, "type")),
        mode,
        modified,
        modified if atime == mtime else _time(atime),
        modified if ctime == mtime else _time(ctime),
        uid,
        gid,
        _text(fields, "user"),
        _text(fields, "group"),
        inode,
        device_id,
        size,
        links,
        content=_content(get("content")),
    )
    if not _COMMON.issuperset(fields):
        _decode_rare(node, fields)
    return node


def _decode_rare(node: Node, fields: Fields) -> None:
    """Fill in what most files lack; looking for each of it in every entry takes time."""
    raw_target = fields.get("linktarget_raw")
    node.link_target = _base64(raw_target) if raw_target else _text(fields, "linktarget").encode()
    node.xattrs = _xattrs(fields.get("extended_attributes"))
    node.generic_attributes = _json(fields.get("generic_attributes"))
    node.device = _number(fields, "device")
    node.subtree = _subtree(fields.get("subtree"))
    node.error = _text(fields, "error")
    node.unknown = _unknown(fields)


def _unknown(fields: dict[str, object]) -> tuple[tuple[str, str], ...]:
    if _KNOWN.issuperset(fields):
        return ()
    return tuple((key, _encoded(value)) for key, value in fields.items() if key not in _KNOWN)


def _text(fields: dict[str, object], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _numbers(fields: Fields) -> list[int]:
    """Return the numbers of an entry in the order of `_NUMBER_KEYS`."""
    values = [fields.get(key, 0) for key in _NUMBER_KEYS]
    for key, value in zip(_NUMBER_KEYS, values, strict=True):
        if type(value) is not int or not 0 <= value < _NUMBER_END:
            raise ValueError(f"{key} is no number")
    return cast("list[int]", values)


def _number(fields: Fields, key: str) -> int:
    value = fields.get(key, 0)
    if type(value) is not int or not 0 <= value < _NUMBER_END:
        raise ValueError(f"{key} is no number")
    return value


def _time(text: object) -> int:
    if text is None or text == "":
        return 0
    if not isinstance(text, str):
        raise ValueError("a time is no text")
    return gojson.parse_time(text)


def _base64(value: object) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise ValueError("a value is no base64 text")
    return base64.b64decode(value, validate=True)


def _json(value: object) -> str:
    return "" if value is None else _encoded(value)


def _encoded(value: object) -> str:
    try:
        return gojson.encode(value)
    except RecursionError as error:
        # The parser goes deeper than an encoder written in Python can.
        raise ValueError("a field is nested too deeply") from error


def _content(value: object) -> tuple[Id, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError("content is no list")
    try:
        return tuple([parse_id(item) for item in value])
    except TypeError as error:
        raise ValueError("content is no list of ids") from error


def _subtree(value: object) -> Id | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("subtree is no id")
    return parse_id(value)


def _xattrs(value: object) -> tuple[tuple[str, bytes], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("extended_attributes is no list")
    pairs: list[tuple[str, bytes]] = []
    for item in value:
        match item:
            case {"name": str(name), "value": encoded}:
                pairs.append((name, _base64(encoded)))
            case _:
                raise ValueError("an extended attribute has no name or value")
    return tuple(pairs)
