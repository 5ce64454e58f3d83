"""The repository format's fixed points: known bytes, limits, the compact index, secrets unseen."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import tracemalloc

import pytest
import zstandard

from sheetanchor.errors import (
    DamagedRepositoryError,
    ObjectExistsError,
    RepositoryError,
    RepositoryNotFoundError,
    UnknownBackupError,
)
from sheetanchor.repository import gojson, polynomial
from sheetanchor.repository.backend.base import CONFIG_NAME, Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.codec import Compression, Compressor, Decompressor, decode_unpacked
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id, digest
from sheetanchor.repository.node import Node, NodeType, encode_tree, mode_from_stat
from sheetanchor.repository.pack import MAX_HEADER, PackedBlob, encode_header, read_header
from sheetanchor.repository.settings import Settings, load_settings, save_settings
from sheetanchor.repository.snapshot import find_by_prefix
from sheetanchor.repository.unpacked import load, save
from support.faulty import Fault, FaultyBackend
from support.programs import require_program


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        ([], "[]"),
        ({"b": True, "a": [1, "x"]}, '{"b":true,"a":[1,"x"]}'),
        ("<a>&\u2028\u2029", '"\\u003ca\\u003e\\u0026\\u2028\\u2029"'),
        ('"\\/', '"\\"\\\\/"'),
        ("\n\r\t\b\f\x01\x7f", '"\\n\\r\\t\\b\\f\\u0001\x7f"'),
        ("ü😀\udcff", '"ü😀\\ufffd"'),
    ],
)
def test_json_is_written_as_go_writes_it(value: object, expected: str) -> None:
    """Escapes, order and spacing are those of encoding/json."""
    assert gojson.encode(value) == expected


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"plain name.txt", "plain name.txt"),
        (b'"\\', '\\"\\\\'),
        (b"\a\b\f\n\r\t\v\x01\x7f", "\\a\\b\\f\\n\\r\\t\\v\\x01\\x7f"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("ü\u00a0\u00ad\u2028\ue000\U000e0001".encode(), "ü\\u00a0\\u00ad\\u2028\\ue000\\U000e0001"),
    ],
)
def test_names_are_quoted_as_go_quotes_them(name: bytes, quoted: str) -> None:
    """The rules of strconv.Quote, in both directions."""
    assert gojson.quote_name(name) == quoted
    assert gojson.unquote_name(quoted) == name


@pytest.mark.parametrize(
    "text", ["\\x4", "\\u12", "\\q", "\\", "\\400", "\\ud800", '"', "\\'", "\\U00110000"]
)
def test_escapes_that_go_refuses_are_refused(text: str) -> None:
    """A forged name does not become some other name."""
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the contract
        gojson.unquote_name(text)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_000_000_001_500_000_000, "2001-09-09T01:46:41.5Z"),
        (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (253_402_300_800 * 10**9, "9999-01-01T00:00:00Z"),
        (-62_167_219_200 * 10**9 - 1, "0000-12-31T23:59:59.999999999Z"),
    ],
)
def test_times_are_written_as_go_writes_them(time_ns: int, text: str) -> None:
    """RFC 3339 with trailing zeros trimmed; years before 0 and after 9999 are clamped as restic does."""
    assert gojson.format_time(time_ns) == text


def test_times_of_other_zones_are_read() -> None:
    """restic writes the local zone; any number of fraction digits is read."""
    assert gojson.parse_time("2026-11-22T23:02:45.12+01:00") == gojson.parse_time("2026-11-22T22:02:45.120Z")
    for wrong in ("", "2026-11-22", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "x"):
        with pytest.raises(ValueError, match="not a time"):
            gojson.parse_time(wrong)


def test_modes_have_gos_bits() -> None:
    """The values that restic was seen to store."""
    assert mode_from_stat(0o120777) == 134218239
    assert mode_from_stat(0o010644) == 33554852
    assert mode_from_stat(0o045755) == 2156921325


def test_an_empty_tree_is_thirteen_bytes() -> None:
    """The empty directory's blob is restic's, so that it deduplicates."""
    assert encode_tree([]) == b'{"nodes":[]}\n'


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_names_that_no_directory_holds_are_not_written(name: bytes) -> None:
    """A tree never holds a name that a restore would have to refuse; nor one name twice."""
    with pytest.raises(RepositoryError):
        encode_tree([Node(name, NodeType.FILE)])
    with pytest.raises(RepositoryError):
        encode_tree([Node(b"same", NodeType.FILE), Node(b"same", NodeType.DIRECTORY)])


def test_keys_are_never_shown() -> None:
    """Neither `repr` nor a traceback's values give a key away; unusable keys are refused."""
    key = MasterKey.generate()
    for part in (key.encrypt, key.mac_k, key.mac_r):
        assert part.hex() not in repr(key)
        assert repr(part)[2:-1] not in repr(key)
    for material in (bytes(64), b"x" * 63, b"x" * 32 + bytes(16) + b"x" * 16):
        with pytest.raises(ValueError, match="a key"):
            MasterKey.from_bytes(material)


def test_sealing_follows_the_specification() -> None:
    """The bytes are those of AES-256-CTR and Poly1305-AES computed step by step by OpenSSL's programs."""
    openssl = require_program("openssl")
    key = MasterKey(bytes(range(32)), bytes(range(32, 48)), bytes(range(48, 64)))
    nonce = bytes(range(100, 116))
    sealed = Sealer(key, lambda size: nonce[:size]).seal(b"attack at dawn, or a little later than that")
    cipher = [openssl, "enc", "-aes-256-ctr", "-nopad", "-K", key.encrypt.hex(), "-iv", nonce.hex()]
    plain = b"attack at dawn, or a little later than that"
    expected = subprocess.run(cipher, input=plain, capture_output=True, check=True).stdout
    pad = subprocess.run(
        [openssl, "enc", "-aes-128-ecb", "-nopad", "-K", key.mac_k.hex()],
        input=nonce,
        capture_output=True,
        check=True,
    ).stdout
    one_time = (key.mac_r + pad).hex()
    mac = [openssl, "mac", "-macopt", f"hexkey:{one_time}", "-binary", "Poly1305"]
    tag = subprocess.run(mac, input=expected, capture_output=True, check=True).stdout
    assert sealed == nonce + expected + tag


def test_threads_share_a_sealer() -> None:
    """Eight threads seal and open at once; every blob comes back."""
    sealer = Sealer(MasterKey.generate())
    wrong: list[int] = []

    def work(seed: int) -> None:
        source = random.Random(seed)
        for _ in range(200):
            plain = source.randbytes(source.randrange(5000))
            if sealer.open(sealer.seal(plain)) != plain:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_nonce_of_zeros_is_refused() -> None:
    """A broken source of randomness stops the backup instead of weakening it."""
    with pytest.raises(ValueError, match="randomness"):
        Sealer(MasterKey.generate(), bytes).seal(b"x")


def test_decompression_bombs_are_bounded() -> None:
    """A frame of a few kilobytes that means a gigabyte is refused without making it."""
    stream = zstandard.ZstdCompressor(level=3).compressobj()
    frame = b"".join(stream.compress(bytes(1 << 20)) for _ in range(1024)) + stream.flush()
    assert len(frame) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(DamagedRepositoryError):
            decode_unpacked(2, b"\x02" + frame, 4 << 20)
        with pytest.raises(DamagedRepositoryError):
            Decompressor().decompress(frame, 4 << 20)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_what_is_compressed_depends_on_policy_and_version() -> None:
    """Trees always in version 2; data unless it is off or gains nothing; nothing in version 1."""
    text, noise = b"text " * 1000, os.urandom(1000)
    for policy in Compression:
        compressor = Compressor(policy)
        assert compressor.compress(BlobType.TREE, noise) is not None
        assert (compressor.compress(BlobType.DATA, text) is None) is (policy is Compression.OFF)
        assert compressor.compress(BlobType.DATA, noise) is None
        assert compressor.compress(BlobType.TREE, b"") is None
        for blob_type in BlobType:
            assert Compressor(policy, version=1).compress(blob_type, text) is None


def test_unpacked_files_of_version_2_may_be_plain() -> None:
    """Older clients wrote plain JSON into version 2 repositories; any other first byte is damage."""
    assert decode_unpacked(2, b'{"a":1}', 100) == b'{"a":1}'
    assert decode_unpacked(2, b"[]", 100) == b"[]"
    for bad in (b"\x01x", b"\x02", b"\x02garbage", b"x"):
        with pytest.raises(DamagedRepositoryError):
            decode_unpacked(2, bad, 100)


def test_polynomials_are_irreducible() -> None:
    """Known cases, products of two, the count of all of degree 8, and what is generated."""
    assert polynomial.is_irreducible(0x3DA3358B4DC173)
    assert sum(polynomial.is_irreducible(candidate) for candidate in range(256, 512)) == 30
    assert not polynomial.is_irreducible(0)
    assert not polynomial.is_irreducible(1)
    for seed in range(5):
        made = polynomial.generate(random.Random(seed).randbytes)
        assert made.bit_length() == 54
        assert polynomial.is_irreducible(made)
        assert not polynomial.is_irreducible(made << 1)


def test_settings_come_back_and_are_written_once() -> None:
    """The config file is sealed, never replaced, and its damage is told from its absence."""
    backend, sealer = MemoryBackend(), Sealer(MasterKey.generate())
    with pytest.raises(RepositoryNotFoundError):
        load_settings(backend, sealer)
    settings = Settings.generate()
    save_settings(backend, sealer, settings)
    assert load_settings(backend, sealer) == settings
    with pytest.raises(ObjectExistsError):
        save_settings(backend, sealer, Settings.generate())
    for fields in (
        {"version": 3, "id": settings.id, "chunker_polynomial": f"{settings.polynomial:x}"},
        {"version": 2, "id": "short", "chunker_polynomial": f"{settings.polynomial:x}"},
        {"version": 2, "id": settings.id, "chunker_polynomial": f"{settings.polynomial << 1:x}"},
    ):
        backend.put(Kind.CONFIG, CONFIG_NAME, sealer.seal(json.dumps(fields).encode()))
        with pytest.raises(DamagedRepositoryError):
            load_settings(backend, sealer)


def test_a_file_under_a_wrong_name_is_damage() -> None:
    """Swapped or altered files are noticed by their hash, with the file's name in the message."""
    backend, sealer = MemoryBackend(), Sealer(MasterKey.generate())
    first = save(backend, sealer, 2, Kind.SNAPSHOTS, b'{"a":1}')
    second = save(backend, sealer, 2, Kind.SNAPSHOTS, b'{"b":2}')
    assert load(backend, sealer, 2, Kind.SNAPSHOTS, first) == b'{"a":1}'
    backend.put(Kind.SNAPSHOTS, first.hex(), backend.get(Kind.SNAPSHOTS, second.hex()))
    with pytest.raises(DamagedRepositoryError, match=first.hex()):
        load(backend, sealer, 2, Kind.SNAPSHOTS, first)
    flipped = FaultyBackend(backend, Fault("get", change=lambda data: data[:-1] + bytes([data[-1] ^ 1])))
    with pytest.raises(DamagedRepositoryError):
        load(flipped, sealer, 2, Kind.SNAPSHOTS, second)


def test_damaged_memory_is_noticed_before_anything_is_stored() -> None:
    """Bytes that do not read back after sealing never reach the repository."""

    class Miscalculating(Sealer):
        def seal(self, plain: bytes | bytearray | memoryview) -> bytes:
            return super().seal(bytes(plain)[:-1] + b"?")

    backend, sealer = MemoryBackend(), Miscalculating(MasterKey.generate())
    with pytest.raises(DamagedRepositoryError, match="before it was stored"):
        save(backend, sealer, 1, Kind.INDEX, b'{"packs":[]}')
    with pytest.raises(DamagedRepositoryError):
        encode_header(sealer, [PackedBlob(BlobType.DATA, digest(b""), 0, 32, 0)])
    assert list(backend.list(Kind.INDEX)) == []


def test_pack_headers_have_limits() -> None:
    """Gaps, no blobs, too many blobs and impossible header lengths are refused."""
    sealer = Sealer(MasterKey.generate())
    gap = [PackedBlob(BlobType.DATA, digest(b"a"), 1, 40, 0)]
    many = [PackedBlob(BlobType.DATA, digest(b"a"), 40 * n, 40, 9) for n in range(MAX_HEADER // 41 + 1)]
    for blobs in (gap, [], many):
        with pytest.raises(DamagedRepositoryError):
            encode_header(sealer, blobs)
    for length in (0, 31, 1 << 30, 2**32 - 1):
        pack = bytes(200) + length.to_bytes(4, "little")
        with pytest.raises(DamagedRepositoryError, match="header"):
            read_header(lambda at, size, pack=pack: pack[at : at + size], len(pack), sealer)


def test_ids_are_found_by_their_first_digits() -> None:
    """One match is found; none, several and too few digits are told apart from it."""
    ids = [Id(bytes([0xAB, 0xCD, number]) + bytes(29)) for number in (1, 2)]
    assert find_by_prefix(ids, "abcd01") == ids[0]
    assert find_by_prefix(ids, "ABCD02") == ids[1]
    for prefix in ("abcd", "ab", "", "ffff"):
        with pytest.raises(UnknownBackupError):
            find_by_prefix(ids, prefix)
