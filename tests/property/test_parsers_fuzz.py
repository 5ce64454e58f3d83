"""Every parser of bytes that an attacker could write: what is right, changed in a few places.

Packs and sealed objects are sealed again after the change, and tars get right checksums, so that
the parser behind is reached. Only the documented errors come out, within bounded memory.
"""

import contextlib
import gzip
import io
import random
import tracemalloc
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sheetanchor.archive.authentication import PieceMacs, open_mac_file
from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.tar_writer import TarWriter
from sheetanchor.archive.volume_reader import read_volume
from sheetanchor.components.base import EntryType
from sheetanchor.errors import ArchiveError, DamagedRepositoryError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.codec import Decompressor, decode_unpacked
from sheetanchor.repository.crypto import OVERHEAD, MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id
from sheetanchor.repository.objects import SealedObjects, derive_key
from sheetanchor.repository.pack import PackedBlob, encode_header, pack_size, parse_header, read_header
from support.archive_cases import KEY, entry, opener

MIB = 1 << 20
MASTER = MasterKey.generate()
ID = Id(bytes(range(32)))
BLOBS = [
    PackedBlob(BlobType.TREE, ID, 0, 100, 300),
    PackedBlob(BlobType.DATA, Id(bytes(32)), 100, OVERHEAD + 5, 0),
]


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
    if chance.randrange(2):
        digit = chance.choice([at for at in range(len(MACS)) if MACS[at] in b"0123456789abcdef"])
        changed = MACS[:digit] + chance.choice("0123456789abcdef").encode() + MACS[digit + 1 :]
    if changed == MACS:
        return
    with _bounded(MIB), pytest.raises(ArchiveError):
        open_mac_file(changed, KEY, "test")


def test_the_hmac_file_that_is_changed_is_right() -> None:
    """The ground of the test above."""
    assert open_mac_file(MACS, KEY, "test").length == 3000
