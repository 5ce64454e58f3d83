"""Every parser of what an attacker could write: valid documents, changed in one or more places.

Random bytes seldom get past the first check of a parser. These begin with a document that is
right, put something hostile in the place of a part of it, and accept only the documented errors.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sheetanchor.archive.authentication import PieceMacs, open_mac_file
from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.tar_writer import TarWriter
from sheetanchor.archive.volume_reader import read_volume
from sheetanchor.clock import moment
from sheetanchor.components.base import EntryType
from sheetanchor.errors import ArchiveError, DamagedRepositoryError
from sheetanchor.operations.manifest import Manifest, ManifestComponent, decode_manifest
from sheetanchor.repository import gojson
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.codec import Decompressor, decode_unpacked
from sheetanchor.repository.crypto import OVERHEAD, MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index_file import decode_index, encode_index
from sheetanchor.repository.keys import KeyFile, decode_key, encode_key
from sheetanchor.repository.lock_file import LockFile, decode_lock, encode_lock
from sheetanchor.repository.node import Node, NodeType, decode_tree, encode_tree
from sheetanchor.repository.objects import SealedObjects, derive_key
from sheetanchor.repository.pack import PackedBlob, encode_header, pack_size, parse_header, read_header
from sheetanchor.repository.scrypt import ScryptParameters, derive
from sheetanchor.repository.settings import Settings, decode_settings
from sheetanchor.repository.snapshot import Snapshot, Summary, decode_snapshot, encode_snapshot
from sheetanchor.secret import Secret
from support.archive_cases import KEY, entry, opener

MIB = 1 << 20
MASTER = MasterKey.generate()
ID = Id(bytes(range(32)))
NOW = 1_700_000_000_000_000_000
BLOBS = [
    PackedBlob(BlobType.TREE, ID, 0, 100, 300),
    PackedBlob(BlobType.DATA, Id(bytes(32)), 100, OVERHEAD + 5, 0),
]
NODE = Node(
    name=b"a\xff\n",
    type=NodeType.FILE,
    mtime_ns=NOW,
    xattrs=(("user.a", b"1"),),
    content=(ID,),
    link_target=b"\xff",
)
MANIFEST = Manifest(
    program="1",
    stack="shop",
    backup="backup_20260101_000000",
    tier="daily",
    status="complete",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    finished_at=datetime(2026, 1, 1, tzinfo=UTC),
    components=(
        ManifestComponent(name="db", type="postgres", status="saved", root="/db", proof={"rows": 1}),
    ),
)
DOCUMENTS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "tree": (encode_tree([NODE, Node(name=b"d", type=NodeType.DIRECTORY, subtree=ID)]), decode_tree),
    "index": (encode_index([(ID, BLOBS)]), decode_index),
    "snapshot": (
        encode_snapshot(
            Snapshot(
                NOW, ID, ("/a",), parent=ID, original=ID, tags=("t",), summary=Summary(NOW, NOW, files_new=1)
            )
        ),
        decode_snapshot,
    ),
    "key": (encode_key(KeyFile(NOW, "u", "h", ScryptParameters(), bytes(64), bytes(128))), decode_key),
    "master key": (MASTER.to_json(), MasterKey.from_json),
    "lock": (
        encode_lock(
            LockFile(
                time_ns=NOW,
                exclusive=True,
                hostname="h",
                username="u",
                pid=1,
                uid=1,
                gid=1,
                boot_id="b",
                started=1,
            )
        ),
        decode_lock,
    ),
    "config": (Settings.generate().encode(), decode_settings),
    "manifest": (MANIFEST.encode(), decode_manifest),
}
DEEP = "[" * 900 + "]" * 900
HOSTILE = [
    *(
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "1e999",
        "9" * 5000,
        "9" * 4000,
        str(1 << 64),
        str(1 << 32),
        str(1 << 16),
    ),
    *('""', '"\\ud800"', '"\\u0000"', '"\u00e4"', '"..\\/.."', '"\\\\UFFFFFFFF"', '"\\\\ud800"', '"\\\\x"'),
    *('"0000-01-01T00:00:00Z"', '"9999-12-31T23:59:59-23:59"', '"2026-02-31T00:00:00Z"'),
    *(f'"{"0" * 63} "', f'"{"00 " * 21}0"', f'"{"f" * 64}"', f'"{"A" * 64}"'),
    *("[]", "{}", "[[]]", "[{}]", "[null]", "[0]", '[""]', '{"a":{}}', DEEP, "NaN", "\x00", "]"),
]


def _paths(value: object, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the way to every part of a JSON document, and to one more in each object."""
    yield at
    if isinstance(value, dict):
        yield *at, "of a newer writer"
        for key, item in value.items():
            yield from _paths(item, (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _paths(item, (*at, number))


def _replaced(document: bytes, path: tuple[object, ...], hostile: str) -> bytes:
    """Return the document with the part at `path` replaced by literal text."""
    mark = "@@hostile@@"
    if not path:
        return hostile.encode()
    whole = json.loads(document)
    inner: Any = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = mark
    return json.dumps(whole).replace(f'"{mark}"', hostile).encode()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_with_one_hostile_part(kind: str) -> None:
    """Each part of each document is replaced by each hostile value: read, or refused as documented."""
    document, decode = DOCUMENTS[kind]
    decode(document)
    allowed = ValueError if kind == "master key" else DamagedRepositoryError
    refused = 0
    for path in list(_paths(json.loads(document))):
        for hostile in HOSTILE:
            try:
                decode(_replaced(document, path, hostile))
            except allowed:
                refused += 1
    assert refused > 20


def test_what_was_found_stays_refused() -> None:
    """Inputs that once gave another exception, or an id that is none."""
    with pytest.raises(ValueError, match="no such escape"):
        gojson.unquote_name("\\UFFFFFFFF")
    deep = '{"nodes":[{"name":"a","type":"file","x":' + "[" * 600 + "]" * 600 + "}]}"
    blob = '{"id":"' + "00 " * 21 + '0","type":"data","offset":0,"length":40}'
    for decode, text in (
        (decode_tree, deep),
        (decode_tree, '{"nodes":[{"name":"a","type":"file","content":[1]}]}'),
        (decode_index, f'{{"packs":[{{"id":"{ID.hex()}","blobs":[{blob}]}}]}}'),
    ):
        with pytest.raises(DamagedRepositoryError):
            decode(text.encode())


@given(st.integers(-(10**30), 10**30))
@example(gojson.parse_time("0000-01-01T00:00:00Z"))
@example(gojson.parse_time("9999-12-31T23:59:59.999999999Z"))
@example(gojson.parse_time("9999-12-31T23:59:59-23:59"))
def test_any_stored_time_can_be_shown(time_ns: int) -> None:
    """A forged key file, or a file of the year 0, must not end a listing."""
    shown = moment(time_ns)
    assert 1 <= shown.year <= 9999
    if 1 < shown.year < 9999:
        assert (shown - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == time_ns // 1000


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 64))
def test_scrypt_takes_what_the_check_lets_through(log_n: int, r: int, p: int) -> None:
    """No forged cost that passes the check makes the derivation fail; all others are refused before."""
    parameters = ScryptParameters(1 << log_n, r, p)
    try:
        parameters.check()
    except DamagedRepositoryError:
        return
    if parameters.n * r * p <= 1 << 17:
        assert len(derive(Secret("x"), bytes(64), parameters)) == 64


@pytest.mark.parametrize(("n", "r", "p"), [(1 << 16, 1, 1), (1 << 17, 1, 16)])
def test_scrypt_parameters_against_the_standard(n: int, r: int, p: int) -> None:
    """N of 2 ** (16 r) and more is damage, not an error of the library."""
    with pytest.raises(DamagedRepositoryError, match="impossible scrypt parameters"):
        derive(Secret("x"), bytes(64), ScryptParameters(n, r, p))


def _changed(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with some bytes changed, cut out, doubled or added."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + chance.randrange(1, 40)]
            case 2:
                changed[at:at] = changed[at : at + chance.randrange(1, 40)]
            case _:
                changed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"))
    return bytes(changed)


@contextlib.contextmanager
def _bounded(limit: int) -> Iterator[None]:
    """Fail when more than `limit` bytes are allocated at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= limit, f"{peak} bytes were allocated"


def _hmac_file() -> bytes:
    macs = PieceMacs(KEY, b"s" * 16)
    macs.update(bytes(3000))
    return macs.render()


MACS = _hmac_file()


@given(st.randoms(use_true_random=False))
def test_changed_pack_headers(chance: random.Random) -> None:
    """Sealed again after a change: blobs that fill the pack, or damage."""
    sealer = Sealer(MASTER)
    plain = _changed(sealer.open(encode_header(sealer, BLOBS)[:-4]), chance)
    with contextlib.suppress(DamagedRepositoryError):
        parse_header(plain)
    sealed = sealer.seal(plain)
    pack = bytes(sum(blob.length for blob in BLOBS)) + sealed + len(sealed).to_bytes(4, "little")
    if chance.randrange(2):
        pack = _changed(pack, chance)
    try:
        blobs = read_header(lambda offset, length: pack[offset : offset + length], len(pack), sealer)
    except DamagedRepositoryError:
        return
    assert pack_size(blobs) == len(pack)


FRAMES = [
    zstandard.ZstdCompressor().compress(b"words " * 500),
    zstandard.ZstdCompressor(write_content_size=False).compress(b"words " * 500),
    zstandard.ZstdCompressor(write_checksum=True).compress(random.Random(1).randbytes(3000)),
]


@given(st.randoms(use_true_random=False))
def test_changed_zstd_frames(chance: random.Random) -> None:
    """A changed frame gives exactly the bytes asked for, or damage, and never takes much more memory."""
    frame = _changed(chance.choice(FRAMES), chance)
    with _bounded(2 * MIB):
        with contextlib.suppress(DamagedRepositoryError):
            assert len(Decompressor().decompress(frame, 3000)) == 3000
        with contextlib.suppress(DamagedRepositoryError):
            assert len(decode_unpacked(2, b"\x02" + frame, 5000)) <= 5000


@pytest.mark.parametrize("stated", [True, False])
def test_a_zstd_bomb_stays_small(stated: bool) -> None:
    """256 MiB of zeros in a few KiB: refused at the limit, whether the frame states its size or not."""
    packer = zstandard.ZstdCompressor(write_content_size=stated).compressobj(size=256 * MIB if stated else -1)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush()
    with _bounded(8 * MIB):
        with pytest.raises(DamagedRepositoryError):
            Decompressor().decompress(bomb, 1000)
        with pytest.raises(DamagedRepositoryError):
            decode_unpacked(2, b"\x02" + bomb, MIB)


@given(st.randoms(use_true_random=False))
def test_changed_sealed_objects(chance: random.Random) -> None:
    """An object changed inside of its seal is what was stored, or damage."""
    backend = MemoryBackend()
    objects = SealedObjects(backend, MASTER)
    content = b"content " * 50
    objects.put("state", "a/b", content, compress=bool(chance.randrange(2)))
    sealer = Sealer(derive_key(MASTER))
    plain = sealer.open(backend.get(Kind.OBJECTS, "state/a/b"))
    backend.put(Kind.OBJECTS, "state/a/b", sealer.seal(_changed(plain, chance)))
    with _bounded(MIB), contextlib.suppress(DamagedRepositoryError):
        assert objects.get("state", "a/b") == content


def _tar() -> bytes:
    packed = io.BytesIO()
    content = b"x" * 700
    one = entry(b"d\xff/" + b"n" * 120, size=700, xattrs=(("user.a", b"1"),))
    with GzipWriter(packed.write, threads=1) as compressed:
        TarWriter(compressed.write).add_all(
            iter([(entry(b"d\xff", EntryType.DIRECTORY), None), (one, opener(content)), (SYMLINK, None)])
        )
    return gzip.decompress(packed.getvalue())


SYMLINK = entry(b"link", EntryType.SYMLINK, link_target=b"../" * 40)
TAR = _tar()


def _read_volume(data: bytes) -> None:
    """Read all of a volume's entries, and no more content than a changed one can have."""
    for _, stream in read_volume(io.BytesIO(data), "test"):
        left = MIB
        while stream is not None and left > 0 and (piece := stream.read(65536)):
            left -= len(piece)


def _with_checksums(tar: bytes) -> bytes:
    """Return a tar whose blocks that look like headers have the right checksum."""
    blocks = [tar[at : at + 512] for at in range(0, len(tar), 512)]
    for number, block in enumerate(blocks):
        if b"ustar" in block[250:270] and len(block) == 512:
            total = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
            blocks[number] = block[:148] + b"%06o\0 " % total + block[156:]
    return b"".join(blocks)


@given(st.randoms(use_true_random=False))
def test_changed_volumes(chance: random.Random) -> None:
    """A tar changed inside of its gzip, checksums right, or the gzip changed: read or refused."""
    tar = gzip.compress(_with_checksums(_changed(TAR, chance)), 1)
    if chance.randrange(3) == 0:
        tar = _changed(tar, chance)
    with _bounded(16 * MIB), contextlib.suppress(ArchiveError):
        _read_volume(tar)


def test_the_volume_that_is_changed_is_right() -> None:
    """The ground of the test above."""
    assert _with_checksums(TAR) == TAR
    _read_volume(gzip.compress(TAR))


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_changed_hmac_files(chance: random.Random) -> None:
    """Every change of an `.hmac` file is refused (each try costs 600,000 rounds of PBKDF2)."""
    changed = _changed(MACS, chance)
    if changed == MACS:
        return
    with _bounded(MIB), pytest.raises(ArchiveError):
        open_mac_file(changed, KEY, "test")


def test_the_hmac_file_that_is_changed_is_right() -> None:
    """The ground of the test above."""
    assert open_mac_file(MACS, KEY, "test").length == 3000
