"""Codecs of the repository format: whatever goes in comes out, and hostile input is an expected error."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from sheetanchor.errors import DamagedRepositoryError, SheetanchorError
from sheetanchor.repository import gojson
from sheetanchor.repository.codec import (
    Compression,
    Compressor,
    Decompressor,
    decode_unpacked,
    encode_unpacked,
)
from sheetanchor.repository.crypto import OVERHEAD, MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.index_file import decode_index, encode_index
from sheetanchor.repository.keys import decode_key
from sheetanchor.repository.lock_file import decode_lock
from sheetanchor.repository.node import Node, NodeType, decode_tree, encode_tree, mode_from_stat, permissions
from sheetanchor.repository.pack import PackedBlob, encode_header, pack_size, read_header
from sheetanchor.repository.settings import decode_settings
from sheetanchor.repository.snapshot import Snapshot, Summary, decode_snapshot, encode_snapshot

SEALER = Sealer(MasterKey.generate())
IDS = st.binary(min_size=32, max_size=32).map(Id)
NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)
TIMES = st.integers(-62135596800, 253402300799).flatmap(
    lambda second: st.integers(0, 999_999_999).map(lambda fraction: second * 10**9 + fraction)
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
U64 = st.integers(0, 2**64 - 1)
NODES = st.builds(
    Node,
    name=NAMES,
    type=st.sampled_from(NodeType),
    mode=st.integers(0, 2**32 - 1),
    mtime_ns=TIMES,
    atime_ns=TIMES,
    ctime_ns=TIMES,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    user=WORDS,
    group=WORDS,
    inode=U64,
    device_id=U64,
    size=U64,
    links=U64,
    link_target=st.binary(max_size=40),
    xattrs=st.lists(st.tuples(WORDS, st.binary(max_size=20)), max_size=3).map(tuple),
    generic_attributes=st.sampled_from(["", '{"windows.created":123}']),
    device=U64,
    content=st.none() | st.lists(IDS, max_size=3).map(tuple),
    subtree=st.none() | IDS,
    error=WORDS,
    unknown=st.sampled_from([(), (("newer", "[1,{}]"),)]),
)


@given(st.binary(min_size=1, max_size=200))
@example(bytes(range(1, 256)))
@example("ü\u00ad\u2028\ufffd\U0001f600\U000e0001".encode())
@example(b"\xed\xa0\x80 a surrogate, \xf4\x90\x80\x80 too big, \xe2\x82 cut")
def test_names_survive_quoting(name: bytes) -> None:
    """Any bytes come back from their quoted form, also through JSON, and it is valid UTF-8 text."""
    quoted = gojson.quote_name(name)
    assert gojson.unquote_name(quoted) == name
    assert gojson.unquote_name(json.loads(gojson.encode_string(quoted))) == name
    assert quoted.encode("utf-8", "strict")


@given(st.text(max_size=100))
def test_unquoting_anything_ends_well(text: str) -> None:
    """A forged name gives bytes or a ValueError."""
    with contextlib.suppress(ValueError):
        assert isinstance(gojson.unquote_name(text), bytes)


@given(WORDS)
def test_strings_are_json(text: str) -> None:
    """Python's own parser reads what the encoder writes, and nothing that HTML could misread is left."""
    encoded = gojson.encode_string(text)
    assert json.loads(encoded) == text
    assert not set("<>&\u2028\u2029") & set(encoded)


@given(TIMES)
def test_times_survive(time_ns: int) -> None:
    """Nanoseconds of the years 1 to 9999 come back from their text."""
    assert gojson.parse_time(gojson.format_time(time_ns)) == time_ns


@given(st.lists(NODES, max_size=6, unique_by=lambda node: node.name))
def test_trees_survive(nodes: list[Node]) -> None:
    """Every field of every node comes back, sorted by raw name; encoding again gives equal bytes."""
    encoded = encode_tree(nodes)
    decoded = decode_tree(encoded)
    assert decoded == sorted(nodes, key=lambda node: node.name)
    assert encode_tree(decoded) == encoded
    json.loads(encoded)


@given(st.integers(0, 0o177777))
def test_permissions_survive_the_mode(st_mode: int) -> None:
    """The 07777 bits come back from Go's form of any st_mode."""
    assert permissions(mode_from_stat(st_mode)) == st_mode & 0o7777


@given(st.binary(max_size=5000), st.integers(0, 40))
def test_sealed_bytes_open(plain: bytes, offset: int) -> None:
    """`seal` and `seal_into` both open again, and nothing outside the place is written."""
    assert SEALER.open(SEALER.seal(plain)) == plain
    out = bytearray(b"\xaa" * (offset + len(plain) + OVERHEAD + 7))
    written = SEALER.seal_into(plain, out, offset)
    assert written == len(plain) + OVERHEAD
    assert SEALER.open(memoryview(out)[offset : offset + written]) == plain
    assert out[:offset] == b"\xaa" * offset
    assert out[offset + written :] == b"\xaa" * 7


@given(st.binary(max_size=300), st.data())
def test_every_flipped_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    """One bit anywhere in nonce, ciphertext or tag: refused before anything is decrypted."""
    sealed = bytearray(SEALER.seal(plain))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedRepositoryError):
        SEALER.open(sealed)


@given(st.binary(max_size=3000) | st.integers(1, 100_000).map(bytes), st.sampled_from(Compression))
def test_blobs_survive_compression(plain: bytes, compression: Compression) -> None:
    """Content comes back; a wrong size on either side is refused; data never grows."""
    frame = Compressor(compression).compress(BlobType.DATA, plain)
    if frame is None:
        assert compression is Compression.OFF or len(plain) < 4000
        return
    assert len(frame) < len(plain)
    assert Decompressor().decompress(frame, len(plain)) == plain
    for wrong in (len(plain) - 1, len(plain) + 1):
        with pytest.raises(DamagedRepositoryError):
            Decompressor().decompress(frame, wrong)


@given(st.binary(min_size=1, max_size=2000))
def test_frames_without_a_size_are_read(plain: bytes) -> None:
    """restic leaves the content size out of small frames; exactness and cuts are noticed all the same."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    assert Decompressor().decompress(frame, len(plain)) == plain
    assert decode_unpacked(2, b"\x02" + frame, len(plain)) == plain
    for bad in (frame[:-1], frame + b"\0"):
        with pytest.raises(DamagedRepositoryError):
            Decompressor().decompress(bad, len(plain))
        with pytest.raises(DamagedRepositoryError):
            decode_unpacked(2, b"\x02" + bad, 10_000)
    with pytest.raises(DamagedRepositoryError):
        decode_unpacked(2, b"\x02" + frame, len(plain) - 1)


@given(st.binary(max_size=500), st.sampled_from([1, 2]))
def test_unpacked_files_survive(text: bytes, version: int) -> None:
    """JSON of any length comes back from the form of its repository version."""
    json_bytes = b'{"text":"' + text.hex().encode() + b'"}'
    assert decode_unpacked(version, encode_unpacked(version, json_bytes), 10_000) == json_bytes


@st.composite
def packs(draw: st.DrawFn) -> list[PackedBlob]:
    """Return the blobs of one pack, end to end."""
    offset, blobs = 0, []
    for blob_id in draw(st.lists(IDS, min_size=1, max_size=40)):
        length = draw(st.integers(OVERHEAD, 2000))
        uncompressed = draw(st.sampled_from([0, 1, 4_000_000_000]))
        blobs.append(PackedBlob(draw(st.sampled_from(BlobType)), blob_id, offset, length, uncompressed))
        offset += length
    return blobs


@given(packs())
def test_pack_headers_survive(blobs: list[PackedBlob]) -> None:
    """A pack's blobs come back from its end, with one request for up to 15 blobs and two beyond."""
    body = bytes(sum(blob.length for blob in blobs))
    pack = body + encode_header(SEALER, blobs)
    assert len(pack) == pack_size(blobs)
    requests: list[int] = []

    def get(offset: int, length: int) -> bytes:
        requests.append(length)
        assert 0 <= offset <= offset + length <= len(pack)
        return pack[offset : offset + length]

    assert read_header(get, len(pack), SEALER) == blobs
    assert len(requests) <= (1 if len(blobs) <= 15 else 2)
    for other_size in (len(pack) - 1, len(pack) + 1):
        with pytest.raises(DamagedRepositoryError):
            read_header(lambda offset, length: (b"\0" + pack)[offset : offset + length], other_size, SEALER)


@given(st.lists(st.tuples(IDS, packs()), max_size=4))
def test_index_files_survive(indexed: list[tuple[Id, list[PackedBlob]]]) -> None:
    """Packs and blobs come back in order; the JSON is valid."""
    encoded = encode_index(indexed)
    assert decode_index(encoded) == indexed
    json.loads(encoded)


@given(
    st.builds(
        Snapshot,
        time_ns=TIMES,
        tree=IDS,
        paths=st.lists(WORDS, max_size=3).map(tuple),
        parent=st.none() | IDS,
        hostname=WORDS,
        username=WORDS,
        uid=st.integers(0, 2**32 - 1),
        gid=st.integers(0, 2**32 - 1),
        excludes=st.lists(WORDS, max_size=2).map(tuple),
        tags=st.lists(WORDS, max_size=2).map(tuple),
        original=st.none() | IDS,
        program_version=WORDS,
        summary=st.none() | st.builds(Summary, TIMES, TIMES, files_new=U64, total_bytes_processed=U64),
    )
)
def test_snapshots_survive(snapshot: Snapshot) -> None:
    """Every field of a snapshot comes back."""
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


KEYS = [
    *("nodes", "name", "type", "content", "packs", "blobs", "id", "time", "tree", "paths"),
    *("N", "r", "p", "kdf", "salt", "data", "pid", "version"),
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just("0" * 64),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=100))
@example(b"[" * 100_000)
@example(b'{"nodes":[{"name":"..","type":"file"}]}')
@example(b'{"nodes":[{"name":"a/b","type":"file"}]}')
@example(b'{"nodes":[{"name":"b","type":"file"},{"name":"a","type":"file"}]}')
@example(b'{"time":NaN}')
def test_forged_json_is_an_expected_error(data: bytes) -> None:
    """No decoder ever lets another exception out than our own."""
    for decode in (decode_tree, decode_index, decode_snapshot, decode_key, decode_lock, decode_settings):
        with contextlib.suppress(SheetanchorError):
            decode(data)


@given(st.binary(max_size=300))
def test_forged_pack_headers_are_an_expected_error(plain: bytes) -> None:
    """A sealed header of any content gives blobs that fill the pack, or DamagedRepositoryError."""
    sealed = SEALER.seal(plain)
    pack = os.urandom(64) + sealed + len(sealed).to_bytes(4, "little")
    try:
        blobs = read_header(lambda offset, length: pack[offset : offset + length], len(pack), SEALER)
    except DamagedRepositoryError:
        return
    assert pack_size(blobs) == len(pack)
