"""Every JSON document that an attacker could write: each part replaced by each hostile value.

Random bytes seldom get past the first check of a parser. These begin with a document that is
right, put something hostile in the place of a part of it, and accept only the documented errors.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sheetanchor.clock import moment
from sheetanchor.errors import DamagedRepositoryError
from sheetanchor.operations.manifest import Manifest, ManifestComponent, decode_manifest
from sheetanchor.repository import gojson
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.crypto import OVERHEAD, MasterKey
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.index_file import decode_index, encode_index
from sheetanchor.repository.keys import KeyFile, decode_key, encode_key
from sheetanchor.repository.lock_file import LockFile, decode_lock, encode_lock
from sheetanchor.repository.node import Node, NodeType, decode_tree, encode_tree
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.prune_used import references
from sheetanchor.repository.scrypt import ScryptParameters, derive
from sheetanchor.repository.settings import Settings, decode_settings
from sheetanchor.repository.snapshot import Snapshot, Summary, decode_snapshot, encode_snapshot
from sheetanchor.secret import Secret
from support.repositories import create, open_repository

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
    "tree for prune": (encode_tree([NODE]), lambda data: references(ID, data)),
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
    with pytest.raises(DamagedRepositoryError):
        references(ID, f'{{"nodes":[{{"type":"file","content":["{"00 " * 21}0"]}}]}}'.encode())
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


def test_a_forged_key_file_keeps_nobody_out() -> None:
    """Key files have no seal: one with a cost that the library refuses is passed over for the right one."""
    backend = MemoryBackend()
    created = create(backend)
    good = json.loads(backend.get(Kind.KEYS, next(iter(backend.list(Kind.KEYS))).name))
    for number in range(8):  # some of them come before the good one, whatever the order
        forged = json.dumps({**good, "N": 1 << 16, "r": 1, "username": str(number)}).encode()
        backend.put(Kind.KEYS, digest(forged).hex(), forged)
    repository = open_repository(backend)
    assert repository.id == created.id
    assert len(repository.check().errors) == 8
