"""Index files: which blobs are in which packs, so that nobody has to read all pack headers.

restic's design, "Indexing". Blobs come in any order; unknown keys (`supersedes`) are passed over.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.repository import gojson
from sheetanchor.repository.backend.base import Backend, Kind
from sheetanchor.repository.crypto import OVERHEAD, Sealer
from sheetanchor.repository.ids import BlobType, Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.pack import MAX_BLOB, PackedBlob
from sheetanchor.repository.unpacked import load, save

IndexedPack = tuple[Id, list[PackedBlob]]
"""A pack's id and what it holds."""

_READ_AHEAD = 4
"""Files fetched before their turn; each may be 10 MB."""
_PLAIN_START = b'{"packs":['
_PLAIN_END = b"]}"
_PLAIN_PACK = re.compile(r'(,?)\{"id":"([0-9a-f]{64})","blobs":\[([^\]]*)\]\}')
_ENTRY = (
    r'\{"id":"([0-9a-f]{64})","type":"(data|tree)","offset":(0|[1-9]\d{0,9}),"length":(0|[1-9]\d{0,9})'
    r'(?:,"uncompressed_length":(0|[1-9]\d{0,9}))?\}'
)
_PLAIN_BLOB = re.compile(_ENTRY, re.ASCII)
_PLAIN_BLOBS = re.compile(f"{_ENTRY}(?:,{_ENTRY})*+", re.ASCII)
_BLOB_TYPES = {"data": BlobType.DATA, "tree": BlobType.TREE}


def encode_index(packs: Iterable[tuple[Id, Sequence[PackedBlob]]]) -> bytes:
    """Return the JSON of an index file."""
    texts = (
        f'{{"id":"{pack_id.hex()}","blobs":[{",".join([_encode_blob(blob) for blob in blobs])}]}}'
        for pack_id, blobs in packs
    )
    return f'{{"packs":[{",".join(texts)}]}}\n'.encode()


def decode_index(data: bytes) -> list[IndexedPack]:
    """Read the JSON of an index file. Raises DamagedRepositoryError."""
    plain = decode_plain(data)
    return plain if plain is not None else decode_any(data)


def decode_any(data: bytes) -> list[IndexedPack]:
    """Read an index file in whatever form JSON allows. Raises DamagedRepositoryError."""
    try:
        match gojson.decode(data):
            case {"packs": list(packs)}:
                return [_decode_pack(pack) for pack in packs]
            case {"packs": None}:
                return []
        raise ValueError("no list of packs")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRepositoryError(f"an index cannot be read: {error}") from error


def decode_plain(data: bytes) -> list[IndexedPack] | None:
    """Read an index in the form that we and restic write; None for any other, and for a wrong one.

    Objects for a million blobs take three times as long, and much memory, to make and to take
    apart again. Matches have to cover every byte: nothing is passed over.
    """
    if not (data.startswith(_PLAIN_START) and data.rstrip().endswith(_PLAIN_END)):
        return None
    body = data.rstrip()[len(_PLAIN_START) : -len(_PLAIN_END)].decode("ascii", "replace")
    packs: list[IndexedPack] = []
    position = 0
    for match in _PLAIN_PACK.finditer(body):
        blobs = _plain_blobs(match[3])
        if blobs is None or match.start() != position or match[1] != ("," if packs else ""):
            return None
        packs.append((Id(bytes.fromhex(match[2])), blobs))
        position = match.end()
    return packs if packs and position == len(body) else None


def _plain_blobs(text: str) -> list[PackedBlob] | None:
    if _PLAIN_BLOBS.fullmatch(text) is None:
        return None
    ids, types, offsets, lengths, uncompressed = zip(*_PLAIN_BLOB.findall(text), strict=True)
    blobs = list(
        map(
            PackedBlob,
            [_BLOB_TYPES[name] for name in types],
            [Id(bytes.fromhex(blob_id)) for blob_id in ids],
            map(int, offsets),
            map(int, lengths),
            [int(length) if length else 0 for length in uncompressed],
        )
    )
    return blobs if all(map(_is_possible, blobs)) else None


def save_index(
    backend: Backend, sealer: Sealer, version: int, packs: Iterable[tuple[Id, Sequence[PackedBlob]]]
) -> Id:
    """Store an index file durably; its packs must be durable before."""
    return save(backend, sealer, version, Kind.INDEX, encode_index(packs))


def load_index(backend: Backend, sealer: Sealer, version: int, index_id: Id) -> list[IndexedPack]:
    """Read one index file. Raises ObjectAbsentError, DamagedRepositoryError."""
    return decode_index(load(backend, sealer, version, Kind.INDEX, index_id))


def load_all(backend: Backend, sealer: Sealer, version: int) -> Index:
    """Read all index files of a repository.

    List the snapshots before (restic's design, "Read and Write Ordering"): what a snapshot refers
    to is then in the index. Raises DamagedRepositoryError, and what the backend raises.
    """
    index = Index()
    names = [parse_id(stored.name) for stored in backend.list(Kind.INDEX)]
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="index") as threads:
        for name in names:
            waiting.append(threads.submit(load, backend, sealer, version, Kind.INDEX, name))
            if len(waiting) == _READ_AHEAD:
                _add(index, waiting.popleft().result())
        while waiting:
            _add(index, waiting.popleft().result())
    return index


def _add(index: Index, data: bytes) -> None:
    for pack_id, blobs in decode_index(data):
        index.add_pack(pack_id, blobs)


def _encode_blob(blob: PackedBlob) -> str:
    tail = f',"uncompressed_length":{blob.uncompressed_length}' if blob.uncompressed_length else ""
    return (
        f'{{"id":"{blob.id.hex()}","type":"{blob.type}","offset":{blob.offset},"length":{blob.length}{tail}}}'
    )


def _decode_pack(pack: dict[str, object]) -> IndexedPack:
    blobs = pack["blobs"]
    if not isinstance(blobs, list):
        raise ValueError("a pack has no list of blobs")
    return parse_id(str(pack["id"])), [_decode_blob(blob) for blob in blobs]


def _decode_blob(blob: dict[str, object]) -> PackedBlob:
    offset, length = blob["offset"], blob["length"]
    uncompressed = blob.get("uncompressed_length", 0)
    hex_id = blob["id"]
    if not (type(offset) is int and type(length) is int and type(uncompressed) is int):
        raise ValueError("an offset or length is no number")
    if not isinstance(hex_id, str) or len(hex_id) != 64:
        raise ValueError("a blob has no id")
    raw_id = bytes.fromhex(hex_id)
    if len(raw_id) != 32:
        raise ValueError("a blob's id has spaces in it")
    decoded = PackedBlob(_BLOB_TYPES[str(blob["type"])], Id(raw_id), offset, length, uncompressed)
    if not _is_possible(decoded):
        raise ValueError("a blob lies outside of any pack, or has an impossible length")
    return decoded


def _is_possible(blob: PackedBlob) -> bool:
    _, _, offset, length, uncompressed = blob
    return (
        offset >= 0 and length >= OVERHEAD and offset + length <= MAX_BLOB and 0 <= uncompressed <= MAX_BLOB
    )
