"""Archives made to harm, or broken by another writer: refused whatever their checksums say."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from sheetanchor.archive import sparse, tar_format
from sheetanchor.archive.gzip_stream import GzipWriter
from sheetanchor.archive.reader import open_archive
from sheetanchor.archive.sparse import Region
from sheetanchor.archive.volume_reader import read_volume
from sheetanchor.errors import ArchiveError, HostileArchiveError
from support.archive_cases import NAME, assert_refused_unopened

TAR = f"{NAME}.tar.gz"
MIB = 1 << 20
END = tar_format.END
TarMember = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> TarMember:
    """Return one member for tar_gz."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def symlink(name: str, target: str) -> TarMember:
    """Return a symbolic link for tar_gz."""
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> TarMember:
    """Return a hard link for tar_gz."""
    return member(name, kind=tarfile.LNKTYPE, link=target)


def directory(name: str) -> TarMember:
    """Return a directory for tar_gz."""
    return member(name, kind=tarfile.DIRTYPE)


def tar_gz(*members: TarMember) -> bytes:
    """Return a `.tar.gz` of just these members, as Python's tarfile writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read_to_end(archive: bytes) -> None:
    """Read all entries of a volume and their content."""
    for _, stream in read_volume(io.BytesIO(archive), "volume"):
        while stream is not None and stream.read(MIB):
            pass


LINK_UP = symlink("d/l", "..")
HOSTILE_VOLUMES = {
    "absolute path": ([member("/etc/cron.d/x", b"x")], "absolute"),
    "parent": ([member("../x", b"x")], "leads out"),
    "parent inside": ([member("a/../../x", b"x")], "leads out"),
    "through a link": ([symlink("l", "/etc"), member("l/passwd", b"x")], "no directory"),
    "deep through a link": ([directory("d"), LINK_UP, member("d/l/a/x", b"x")], "no directory"),
    "link over a directory": ([member("d/x", b"x"), symlink("d", "/etc")], "two entries"),
    "below a file": ([member("f", b"x"), member("f/x", b"x")], "no directory"),
    "file twice": ([member("f", b"x"), member("./f", b"y")], "two entries"),
    "link then file": ([symlink("f", "/etc/passwd"), member("f", b"y")], "two entries"),
    "directory twice": ([directory("d"), directory("d")], "two entries"),
    "hard link out": ([hard_link("h", "/etc/shadow")], "absolute"),
    "hard link up": ([hard_link("h", "../../etc/shadow")], "leads out"),
    "hard link to nothing": ([hard_link("h", "absent")], "no earlier file"),
    "hard link to itself": ([hard_link("h", "h")], "no earlier file"),
    "hard link to a link": ([symlink("l", "/etc/shadow"), hard_link("h", "l")], "no earlier file"),
    "long part": ([member("x" * 300, b"x")], "impossible"),
    "long path": ([member("/".join(["d" * 200] * 25), b"x")], "impossible"),
    "unknown kind": ([member("v", kind=b"V")], "unknown kind"),
    "empty link": ([symlink("l", "")], "impossible target"),
}


@pytest.mark.parametrize("case", HOSTILE_VOLUMES)
def test_hostile_volumes_are_refused(case: str) -> None:
    """Each way of writing outside of a volume is refused while its entries are read."""
    members, words = HOSTILE_VOLUMES[case]
    with pytest.raises(HostileArchiveError, match=words):
        read_to_end(tar_gz(*members))


def test_links_to_anywhere_are_content() -> None:
    """A symbolic link may point out (logs link to /dev/stdout); nothing is written through it."""
    volume = io.BytesIO(tar_gz(symlink("access.log", "/dev/stdout"), symlink("up", "../..")))
    assert [one.link_target for one, _ in read_volume(volume, "volume")] == [b"/dev/stdout", b"../.."]


def header(name: bytes, size: int = 0, kind: bytes = b"0", pax: dict[bytes, bytes] | None = None) -> bytes:
    """Return one header, with pax records."""
    return tar_format.encode(tar_format.Header(name, 0o644, 0, 0, size, 0, kind), pax or {})


def sparse_file(real_size: int, content: bytes) -> bytes:
    """Return a sparse member (format 1.0) whose map is what `content` begins with."""
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": b"s",
        b"GNU.sparse.realsize": b"%d" % real_size,
    }
    return header(b"s", len(content), pax=records) + content


def negative_size() -> bytes:
    """Return a header with a base-256 size of minus one and the right checksum."""
    block = header(b"a")
    block = block[:124] + b"\xff" * 12 + block[136:]
    return block[:148] + b"%06o\0 " % (sum(block[:148]) + 8 * 0x20 + sum(block[156:])) + block[156:]


BROKEN_TARS = {
    "no end": header(b"a"),
    "cut content": header(b"a", 2000) + b"x" * 512,
    "content beyond the end": header(b"a", 1 << 50) + END,
    "no tar": b"x" * 512,
    "nothing": b"",
    "something after the end": END + b"x" * 512,
    "negative size": negative_size() + END,
    "huge pax header": header(b"p", 1 << 40, b"x"),
    "huge long name": header(b"p", 1 << 40, b"L"),
    "global header": header(b"p", 0, b"g") + END,
    "pax size below zero": header(b"a", pax={b"size": b"-1"}) + END,
    "pax size of words": header(b"a", pax={b"size": b"ten"}) + END,
    "pax time": header(b"a", pax={b"mtime": b"nan"}) + END,
    "pax far time": header(b"a", pax={b"mtime": b"9" * 18}) + END,
    "pax owner": header(b"a", pax={b"uid": b"4294967295"}) + END,
    "pax at the end": header(b"a", pax={b"comment": b"x"})[:1024] + END,
    "sparse without map": sparse_file(9, bytes(512)) + END,
    "sparse beyond its size": sparse_file(9, sparse.encode_map([Region(10, 0)])) + END,
    "sparse backwards": sparse_file(99, sparse.encode_map([Region(50, 0), Region(10, 0)])) + END,
    "sparse with other content": sparse_file(99, sparse.encode_map([Region(0, 50)])) + END,
    "sparse of too many regions": sparse_file(99, b"99999999\n".ljust(512, b"\0")) + END,
    "sparse of old format": header(b"s", pax={b"GNU.sparse.map": b"0,1"}) + END,
}


@pytest.mark.parametrize("case", BROKEN_TARS)
def test_broken_tars_are_refused(case: str) -> None:
    """Damage, cuts and impossible numbers end in one clear error, without large allocations."""
    with pytest.raises(HostileArchiveError):
        read_to_end(gzip.compress(BROKEN_TARS[case]))


def outer(folder: Path, *members: TarMember) -> Path:
    """Write a whole archive of hand-made members, with checksums that are right."""
    complete = [*members, member(f"{NAME}/manifest.json", b"{}")]
    digests = [
        (hashlib.sha256(data).hexdigest(), info.name.removeprefix(f"{NAME}/")) for info, data in complete
    ]
    sums = "".join(f"{digest}  {name}\n" for digest, name in digests)
    path = folder / TAR
    path.write_bytes(tar_gz(*complete, member(f"{NAME}/SHA256SUMS", sums.encode())))
    return path


RDB_MEMBER = f"{NAME}/redis_dump.rdb"
HOSTILE_OUTERS = {
    "absolute": ([member("/etc/passwd", b"x")], "absolute"),
    "parent": ([member(f"{NAME}/../x", b"x")], "leads out"),
    "link": ([symlink(RDB_MEMBER, "/etc/shadow")], "neither a file"),
    "hard link": ([hard_link(RDB_MEMBER, "/etc/shadow")], "neither a file"),
    "device": ([member(RDB_MEMBER, kind=tarfile.BLKTYPE)], "neither a file"),
    "twice": ([member(RDB_MEMBER, b"1"), member(RDB_MEMBER, b"2")], "two members"),
    "stranger": ([member(f"{NAME}/run_me.sh", b"1")], "not part of a backup"),
    "two folders": ([member(RDB_MEMBER, b"1"), member("other/postgres_dump.sql", b"2")], "more than one"),
    "option as name": ([member("--checkpoint/redis_dump.rdb", b"1")], "cannot be the name"),
    "hostile volume": ([member(f"{NAME}/volumes/v.tar.gz", tar_gz(member("../x", b"x")))], "leads out"),
    "volume that is none": ([member(f"{NAME}/volumes/v.tar.gz", b"not gzip")], "not gzip"),
}


@pytest.mark.parametrize("case", HOSTILE_OUTERS)
def test_hostile_outer_archives_are_refused(tmp_path: Path, case: str) -> None:
    """With every checksum right, what the archive holds is still judged, with and without trust."""
    members, words = HOSTILE_OUTERS[case]
    path = outer(tmp_path, *members)
    for trust in (False, True):
        with pytest.raises(ArchiveError, match=words), open_archive(path, key=None, trust=trust):
            pytest.fail("a member could have been read")


def test_a_hand_made_archive_without_malice_is_read(tmp_path: Path) -> None:
    """The ground for the cases above: `outer` makes archives that are accepted."""
    path = outer(
        tmp_path, member(RDB_MEMBER, b"1"), member(f"{NAME}/volumes/v.tar.gz", tar_gz(member("x", b"x")))
    )
    with open_archive(path, key=None, trust=False) as archive:
        assert [name for name, _ in archive.members()] == ["redis_dump.rdb", "volumes/v.tar.gz"]


def bomb_volume(size: int) -> bytes:
    """Return a volume of one file of `size` zeros, about a thousandth of it long."""
    packed = io.BytesIO()
    with GzipWriter(packed.write) as writer:
        writer.write(header(b"zeros", size))
        for _ in range(size // MIB):
            writer.write(bytes(MIB))
        writer.write(END)
    return packed.getvalue()


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    """Gibibytes of zeros in a small archive are not unpacked; the operator's word lifts the limit."""
    path = outer(tmp_path, member(f"{NAME}/volumes/v.tar.gz", bomb_volume(2 << 30)))
    assert path.stat().st_size < 2 * MIB
    assert_refused_unopened(path, HostileArchiveError, "decompression bomb")
    with open_archive(path, key=None, trust=True) as archive:
        assert archive.proven


def test_a_bomb_of_holes_is_refused(tmp_path: Path) -> None:
    """A sparse file of two exbibytes costs 1 KiB in a tar, and is not believed."""
    volume = gzip.compress(sparse_file(1 << 61, sparse.encode_map([Region(1 << 61, 0)])) + END)
    path = outer(tmp_path, member(f"{NAME}/volumes/v.tar.gz", volume))
    assert_refused_unopened(path, HostileArchiveError, "decompression bomb")
