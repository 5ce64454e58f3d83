"""The archive's codecs: what was encoded comes back, for any input."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheetanchor.archive import posix_acl, sparse, tar_format
from sheetanchor.archive.authentication import PieceMacs, open_mac_file
from sheetanchor.archive.encryption import DecryptingReader, EncryptingWriter
from sheetanchor.archive.gzip_stream import GzipReader, GzipWriter, stored_member
from sheetanchor.archive.tar_writer import TarWriter
from sheetanchor.archive.volume_reader import read_volume
from sheetanchor.components.base import Entry
from sheetanchor.errors import HostileArchiveError
from support.archive_cases import KEY, entry, opener

PART = st.binary(min_size=1, max_size=120).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in (b".", b"..")
)
ATTRIBUTE_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
XATTRS = st.dictionaries(ATTRIBUTE_NAMES.map("user.{}".format), st.binary(max_size=200), max_size=4)
PAX_KEYS = st.binary(min_size=1, max_size=40).filter(lambda key: b"=" not in key)
ENTRIES = st.builds(
    entry,
    st.lists(PART, min_size=1, max_size=4).map(b"/".join),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime_ns=st.integers(-(10**18), 2**62),
    xattrs=XATTRS.map(lambda found: tuple(sorted(found.items()))),
)


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=40).filter(lambda key: b"=" not in key), st.binary(max_size=2000)
    )
)
def test_pax_records_come_back(records: dict[bytes, bytes]) -> None:
    """Binary values, line breaks and lengths around powers of ten survive the pax record format."""
    data = b"".join(tar_format.pax_record(key, value) for key, value in records.items())
    assert tar_format.parse_pax(data, "test") == records


@given(st.binary(max_size=3000))
def test_any_bytes_as_pax_header_are_read_or_refused(data: bytes) -> None:
    """No input makes the pax parser fail in another way than by its own error."""
    with contextlib.suppress(HostileArchiveError):
        tar_format.parse_pax(data, "test")


@given(st.binary(min_size=512, max_size=512))
def test_any_block_as_header_is_read_or_refused(block: bytes) -> None:
    """No input makes the header parser fail in another way than by its own error."""
    fixed = block[:148] + b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:])) + block[156:]
    for data in (block, fixed):
        with contextlib.suppress(HostileArchiveError):
            tar_format.decode(data, "test")


@given(ENTRIES, st.binary(max_size=3000))
def test_entries_come_back_from_our_own_tar(one: Entry, content: bytes) -> None:
    """Names of any bytes, large numbers, odd times and binary attributes survive."""
    if any(len(part) > 255 for part in one.path.split(b"/")) or len(one.path) > 4000:
        return
    one = replace(one, size=len(content))
    archive = io.BytesIO()
    with GzipWriter(archive.write, threads=1) as compressed:
        TarWriter(compressed.write).add_all(iter([(one, opener(content))]))
    archive.seek(0)
    found = [(back, stream.read() if stream else b"") for back, stream in read_volume(archive, "test")]
    assert found == [(replace(one, user="", group=""), content)]


@given(st.lists(st.one_of(st.binary(max_size=3000), st.integers(1, 300_000).map(bytes)), max_size=8))
def test_sparse_regions_cover_all_that_is_not_zero(pieces: list[bytes]) -> None:
    """Regions and zeros between them give the content back, for any cut into pieces."""
    content = b"".join(pieces)
    regions = sparse.find_regions(pieces, len(content))
    data = b"".join(content[region.offset : region.offset + region.size] for region in regions)
    encoded = sparse.encode_map(regions)
    assert len(encoded) % tar_format.RECORD == 0
    source = io.BytesIO(encoded + data)
    read, taken = sparse.read_map(source, len(encoded) + len(data), len(content), "test")
    assert (read, taken) == (regions, len(encoded))
    back = sparse.SparseSource(source, read, len(content))
    assert b"".join(iter(lambda: back.read(50_000), b"")) == content


@given(st.binary(max_size=1500), st.integers(0, 5000))
def test_any_bytes_as_sparse_map_are_read_or_refused(data: bytes, size: int) -> None:
    """No map makes the reader fail in another way than by its own error, or read outside."""
    try:
        regions, taken = sparse.read_map(io.BytesIO(data), len(data), size, "test")
    except HostileArchiveError:
        return
    assert taken <= len(data)
    assert all(region.offset + region.size <= size for region in regions)


ACL_ENTRIES = st.fixed_dictionaries(
    {
        "users": st.dictionaries(st.integers(0, 2**32 - 2), st.integers(0, 7), max_size=5),
        "groups": st.dictionaries(st.integers(0, 2**32 - 2), st.integers(0, 7), max_size=5),
        "base": st.tuples(*[st.integers(0, 7)] * 4),
    }
)


@given(ACL_ENTRIES)
def test_acls_come_back_from_text(acl: dict[str, object]) -> None:
    """The kernel's form of an ACL survives the way through tar's text."""
    users, groups, base = acl["users"], acl["groups"], acl["base"]
    assert isinstance(users, dict)
    assert isinstance(groups, dict)
    assert isinstance(base, tuple)
    none = 0xFFFFFFFF
    entries = [(1, base[0], none), (4, base[1], none)]
    entries += [(2, rights, who) for who, rights in users.items()]
    entries += [(8, rights, who) for who, rights in groups.items()]
    entries += [(16, base[2], none), (32, base[3], none)]
    value = struct.pack("<L", 2) + b"".join(struct.pack("<HHL", *one) for one in entries)
    text = posix_acl.acl_to_text(value)
    assert text is not None
    back = posix_acl.acl_from_text(text)
    assert sorted(struct.iter_unpack("<HHL", back[4:])) == sorted(entries)


@pytest.mark.parametrize("text", ["user:root:rwx", "user::rwz", "mask:5:rwx", "x", "user:99999999999:rwx"])
def test_acl_texts_without_numbers_are_refused(text: str) -> None:
    """A name in an ACL may mean somebody else here, so it is refused, as is what is no ACL."""
    with pytest.raises(HostileArchiveError):
        posix_acl.acl_from_text(text)


PLAIN_CHUNKS = st.integers(0, 750_000).map(lambda count: b"ab" * count)
CHUNKS = st.lists(st.one_of(st.binary(max_size=2000), PLAIN_CHUNKS), max_size=5)


@given(CHUNKS, st.integers(1, 300_000))
@settings(max_examples=30)
def test_gzip_comes_back_and_stock_gzip_agrees(chunks: list[bytes], step: int) -> None:
    """Any writes, compressed and stored in turn, give one stream that Python's gzip reads too."""
    archive = io.BytesIO()
    with GzipWriter(archive.write, threads=2) as writer:
        writer.write(b"first")
        for number, chunk in enumerate(chunks):
            (writer.write_stored if number % 2 else writer.write)(chunk)
    expected = b"first" + b"".join(chunks)
    assert gzip.decompress(archive.getvalue()) == expected
    archive.seek(0)
    reader = GzipReader(archive, "test")
    assert b"".join(iter(lambda: reader.read(step), b"")) == expected


@pytest.mark.parametrize("size", [0, 1, 65534, 65535, 65536, 200_000])
def test_stored_members_hold_any_size(size: int) -> None:
    """Sizes around the limit of a stored block are right."""
    data = os.urandom(size)
    assert gzip.decompress(stored_member(data)) == data


@given(st.lists(st.integers(0, 1_200_000), max_size=4))
@settings(max_examples=6)
def test_encryption_comes_back(sizes: list[int]) -> None:
    """Any sequence of writes decrypts to the same bytes, and every piece has its MAC."""
    chunks = [os.urandom(size) for size in sizes]
    sealed = io.BytesIO()
    writer = EncryptingWriter(sealed.write, KEY)
    for chunk in chunks:
        writer.write(chunk)
    macs = open_mac_file(writer.finish(), KEY, "test")
    assert macs.length == len(sealed.getvalue())
    sealed.seek(0)
    reader = DecryptingReader(sealed, KEY, macs, "test")
    assert b"".join(iter(lambda: reader.read(70_000), b"")) == b"".join(chunks)


def test_macs_do_not_depend_on_how_the_file_was_written() -> None:
    """One byte at a time or all at once: the same `.hmac`."""
    data = os.urandom((1 << 20) + 3000)
    whole, parts = PieceMacs(KEY, b"s" * 16), PieceMacs(KEY, b"s" * 16)
    whole.update(data)
    for start in range(0, len(data), 999):
        parts.update(data[start : start + 999])
    assert whole.render() == parts.render()


@given(st.integers(0, 2**62), st.integers(0, 2**32 - 2))
def test_large_numbers_are_read_by_another_tar(size: int, owner: int) -> None:
    """Sizes beyond 8 GiB and ids beyond 2,097,151 are what Python's tarfile reads, too."""
    header = tar_format.Header(b"./big", 0o600, owner, owner, size, 5, tar_format.REGULAR)
    data = tar_format.encode(header, {})
    with tarfile.open(fileobj=io.BytesIO(data + tar_format.END), mode="r|") as other:
        found = other.next()
    assert found is not None
    assert (found.size, found.uid, found.gid, found.mtime) == (size, owner, owner, 5)
