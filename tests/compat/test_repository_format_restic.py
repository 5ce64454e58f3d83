"""The repository format against stock restic: we read all it writes, it reads and accepts ours."""

from __future__ import annotations

import grp
import os
import pwd
import random
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import RepositoryLockedError, WrongPasswordError
from sheetanchor.repository import printable
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.codec import Compression, Compressor, Decompressor
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.ids import BlobType, Id, digest, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import load_all, save_index
from sheetanchor.repository.keys import KeyOwner, add_key, list_keys, open_key
from sheetanchor.repository.locks import Locker
from sheetanchor.repository.node import (
    Node,
    NodeType,
    decode_tree,
    encode_tree,
    mode_from_stat,
    type_from_stat,
)
from sheetanchor.repository.pack import OVERHEAD, PackedBlob, encode_header, read_header
from sheetanchor.repository.process_identity import current_process
from sheetanchor.repository.scrypt import ScryptParameters
from sheetanchor.repository.settings import Settings, load_settings, save_settings
from sheetanchor.repository.snapshot import Snapshot, load_snapshot, save_snapshot
from sheetanchor.secret import Secret
from support.fake_clock import FakeClock
from support.programs import require_root
from support.restic import PASSWORD, Restic, stock_restic

ADDED_IN_14_AND_15 = 838 + 4489
"""Code points new in Unicode 14.0 and 15.0; restic 0.14 knows 13.0."""


@dataclass
class Opened:
    """A repository opened with the format modules alone."""

    backend: LocalBackend
    sealer: Sealer
    settings: Settings
    index: Index

    def blob(self, blob_type: BlobType, blob_id: Id) -> bytes:
        """Return a blob's content, checked against its id."""
        place = self.index.lookup(blob_type, blob_id)
        assert place is not None
        sealed = self.backend.get(Kind.DATA, place.pack_id.hex(), place.offset, place.length)
        plain = self.sealer.open(sealed)
        if place.uncompressed_length:
            plain = Decompressor().decompress(plain, place.uncompressed_length)
        assert digest(plain) == blob_id
        return plain

    def tree(self, tree_id: Id, *path: bytes) -> tuple[bytes, list[Node]]:
        """Return a directory's blob and nodes, following `path` from `tree_id`."""
        data = self.blob(BlobType.TREE, tree_id)
        nodes = decode_tree(data)
        if not path:
            return data, nodes
        (node,) = (node for node in nodes if node.name == path[0])
        assert node.subtree is not None
        return self.tree(node.subtree, *path[1:])


def _open(restic: Restic) -> Opened:
    backend = LocalBackend(restic.repository)
    sealer = Sealer(open_key(backend, Secret(restic.password)).master_key)
    settings = load_settings(backend, sealer)
    return Opened(backend, sealer, settings, load_all(backend, sealer, settings.version))


def _snapshots(opened: Opened) -> list[Snapshot]:
    ids = [parse_id(found.name) for found in opened.backend.list(Kind.SNAPSHOTS)]
    found = [load_snapshot(opened.backend, opened.sealer, opened.settings.version, name) for name in ids]
    return sorted((stored.snapshot for stored in found), key=lambda snapshot: snapshot.time_ns)


def _files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _stored_files(opened: Opened, nodes: list[Node], folder: str = "") -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for node in nodes:
        name = folder + os.fsdecode(node.name)
        if node.subtree is not None:
            files |= _stored_files(opened, opened.tree(node.subtree)[1], f"{name}/")
        elif node.content is not None:
            files[name] = b"".join(opened.blob(BlobType.DATA, blob_id) for blob_id in node.content)
            assert len(files[name]) == node.size
    return files


@pytest.mark.slow
@pytest.mark.parametrize(("version", "compression"), [(1, "auto"), (2, "off"), (2, "max")])
def test_what_restic_writes_is_read(tmp_path: Path, version: int, compression: str) -> None:
    """Every index, pack header, blob, tree and snapshot of a restic repository, under both its keys."""
    restic = stock_restic(tmp_path)
    restic.run("init", "--repository-version", str(version))
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "random").write_bytes(random.Random(1).randbytes(5_000_000))
    (source / "deep" / "text").write_bytes(b"the same line\n" * 300_000)
    (source / "deep" / "er" / "empty").write_bytes(b"")
    for number in range(30):
        (source / "deep" / f"small{number}").write_bytes(bytes([number]) * number * 10)
    restic.run("--compression", compression, "backup", str(source), "--tag", "one,two", "--exclude", "*.tmp")
    (source / "later").write_bytes(b"second run")
    restic.run("--compression", compression, "backup", str(source))
    second = tmp_path / "second-password"
    second.write_text("another one")
    restic.run("key", "add", "--new-password-file", str(second))

    opened = _open(restic)
    assert opened.settings.version == version
    assert (
        open_key(opened.backend, Secret("another one")).master_key
        == open_key(opened.backend, Secret(PASSWORD)).master_key
    )
    assert len(list_keys(opened.backend)) == 2
    with pytest.raises(WrongPasswordError):
        open_key(opened.backend, Secret("neither"))

    packs = {found.name: found.size for found in opened.backend.list(Kind.DATA)}
    for pack_id, blobs in opened.index.packs():
        name = pack_id.hex()
        assert digest(opened.backend.get(Kind.DATA, name)) == pack_id
        header = read_header(
            lambda at, length, name=name: opened.backend.get(Kind.DATA, name, at, length),
            packs.pop(name),
            opened.sealer,
        )
        assert header == blobs
        for blob in blobs:
            assert len(opened.blob(blob.type, blob.id)) == blob.plain_length
    assert packs == {}
    compressed = any(blob.uncompressed_length for _, blobs in opened.index.packs() for blob in blobs)
    assert compressed is (version == 2)

    first, last = _snapshots(opened)
    assert (first.tags, first.paths, first.excludes) == (("one", "two"), (str(source),), ("*.tmp",))
    assert last.parent is not None
    path = [os.fsencode(part) for part in source.parts[1:]]
    assert _stored_files(opened, opened.tree(last.tree, *path)[1]) == _files(source)


def _make_nasty(directory: bytes) -> None:
    """Fill a directory with every kind of entry and with names of every byte."""
    directory += b"/"
    single = [bytes([number]) for number in range(1, 256) if number not in b"/."]
    texts = ["ü", "é\u0301", "日本", "😀", "\u00ad", "\u2028", "\ufffd", "\ue000", "a b", "<&>", "\u00a0"]
    names = [b"n" + byte + b"x" for byte in single] + [b"t" + text.encode() for text in texts]
    names += [b"cut\xe2\x82", b"surrogate\xed\xa0\x80", b"\\x41", b"\\", b'"quoted"', b"-dash", b"..."]
    for number, name in enumerate(names):
        with open(directory + name, "wb") as file:
            file.write(b"content %d" % (number % 5) if number % 7 else b"")
        os.utime(directory + name, ns=(10**18 + number, 10**15 * number + 120))
    os.symlink('t <&> \u2028 ü " \\ \n \x01'.encode(), directory + b"link")
    os.symlink(b"/nowhere", directory + b"absolute link")
    os.mkfifo(directory + b"fifo", 0o640)
    os.link(directory + names[1], directory + b"hard link")
    os.mknod(directory + b"character", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(directory + b"block", 0o660 | stat.S_IFBLK, os.makedev(7, 300))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsdecode(directory + b"socket"))
    for name, mode in ((b"setuid", 0o4755), (b"setgid", 0o2755), (b"sticky", 0o1777), (b"none", 0)):
        with open(directory + name, "wb"):
            pass
        os.chmod(directory + name, mode)
    os.chown(directory + b"none", 65534, 12345)
    os.setxattr(directory + b"none", "user.text", b"value")
    os.setxattr(directory + b"none", "user.binary\u00fc", bytes(range(256)))
    os.setxattr(directory + b"none", "user.empty", b"")
    os.mkdir(directory + b"folder")
    os.chmod(directory + b"folder", 0o5755)  # noqa: S103 - the bits are the point


def _name_of(lookup: Callable[[int], str], number: int) -> str:
    try:
        return lookup(number)
    except KeyError:
        return ""


def _node(path: bytes, empty_tree: Id) -> Node:
    """Return the node of a small file or other entry, made from what the system tells."""
    status = os.lstat(path)
    kind = type_from_stat(status.st_mode)
    node = Node(
        name=os.path.basename(path),
        type=kind,
        mode=mode_from_stat(status.st_mode),
        mtime_ns=status.st_mtime_ns,
        atime_ns=status.st_mtime_ns,  # as restic without --with-atime
        ctime_ns=status.st_ctime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        user=_name_of(lambda uid: pwd.getpwuid(uid).pw_name, status.st_uid),
        group=_name_of(lambda gid: grp.getgrgid(gid).gr_name, status.st_gid),
        inode=status.st_ino,
        device_id=status.st_dev,
    )
    if kind in (NodeType.FILE, NodeType.SYMLINK, NodeType.DEVICE, NodeType.CHARACTER_DEVICE):
        node.links = status.st_nlink
    if kind in (NodeType.DEVICE, NodeType.CHARACTER_DEVICE):
        node.device = status.st_rdev
    if kind is NodeType.SYMLINK:
        node.link_target = os.readlink(path)
    elif kind is NodeType.DIRECTORY:
        node.subtree = empty_tree
    elif kind is NodeType.FILE:
        data = Path(os.fsdecode(path)).read_bytes()
        node.size, node.content = len(data), (digest(data),) if data else ()
    if kind is not NodeType.SYMLINK:
        node.xattrs = tuple((name, os.getxattr(path, name)) for name in os.listxattr(path))
    return node


@pytest.mark.slow
def test_trees_are_restics_byte_for_byte(tmp_path: Path) -> None:
    """A directory with every kind of entry and every byte in names gives restic's own tree blob."""
    require_root()
    restic = stock_restic(tmp_path)
    restic.run("init", "--repository-version", "2")
    source = tmp_path / "nasty"
    source.mkdir()
    _make_nasty(os.fsencode(source))
    nodes = [
        _node(os.path.join(os.fsencode(source), name), digest(b'{"nodes":[]}\n'))
        for name in os.listdir(os.fsencode(source))
        if name != b"socket"
    ]
    restic.run("backup", "--exclude", "socket", str(source))
    opened = _open(restic)
    (snapshot,) = _snapshots(opened)
    theirs, their_nodes = opened.tree(snapshot.tree, *(os.fsencode(part) for part in source.parts[1:]))
    for ours, their_node in zip(sorted(nodes, key=lambda node: node.name), their_nodes, strict=True):
        assert encode_tree([ours]) == encode_tree([their_node])
    assert encode_tree(nodes) == theirs
    assert encode_tree(their_nodes) == theirs


@pytest.mark.slow
def test_every_character_is_quoted_as_restic_quotes_it(tmp_path: Path) -> None:
    """Of all characters only those differ that are younger than the Unicode version of this restic."""
    restic = stock_restic(tmp_path)
    restic.run("init", "--repository-version", "2")
    source = tmp_path / "characters"
    source.mkdir()
    planes = [
        *range(0x20, 0xD800),
        *range(0xE000, 0x33000),
        *range(0xE0000, 0xE0200),
        *range(0xF0000, 0xF0010),
    ]
    characters = [chr(code) for code in planes if chr(code) != "/"]
    for first in range(0, len(characters), 60):
        name = f"{first:06d} " + "".join(characters[first : first + 60])
        os.close(os.open(os.path.join(os.fsencode(source), name.encode()), os.O_CREAT | os.O_WRONLY))
    restic.run("backup", str(source))
    opened = _open(restic)
    (snapshot,) = _snapshots(opened)
    theirs, nodes = opened.tree(snapshot.tree, *(os.fsencode(part) for part in source.parts[1:]))
    assert b"".join(node.name for node in nodes).decode() == "".join(
        f"{first:06d} " + "".join(characters[first : first + 60]) for first in range(0, len(characters), 60)
    )
    plain_to_them = set(theirs.decode())
    younger = 0
    for character in characters:
        if character in '"\\<>&\x7f\u2028\u2029':
            continue
        plain_there = character in plain_to_them
        if plain_there != printable.is_printable(character):
            assert not plain_there, f"U+{ord(character):04X} is printable to restic only"
            younger += 1
    assert younger <= ADDED_IN_14_AND_15


def _write(restic: Restic, version: int, files: dict[bytes, bytes]) -> None:
    """Write a repository with one snapshot of small files, with the format modules alone."""
    backend = LocalBackend(restic.repository)
    backend.create()
    key = MasterKey.generate()
    sealer = Sealer(key)
    owner = KeyOwner("operator", "node-1")
    add_key(backend, key, Secret(restic.password), owner, time.time_ns(), ScryptParameters(n=1024))
    save_settings(backend, sealer, Settings.generate(version))
    compressor = Compressor(Compression.AUTO, version)
    nodes = [
        Node(name, NodeType.FILE, 0o600, size=len(data), links=1, content=(digest(data),) if data else ())
        for name, data in files.items()
    ]
    tree = encode_tree(nodes)
    packs = []
    for blob_type, blobs in (
        (BlobType.DATA, {digest(data): data for data in files.values() if data}),
        (BlobType.TREE, {digest(tree): tree}),
    ):
        body, packed = b"", list[PackedBlob]()
        for blob_id, plain in blobs.items():
            frame = compressor.compress(blob_type, plain)
            sealed = sealer.seal(plain if frame is None else frame)
            uncompressed = 0 if frame is None else len(plain)
            packed.append(PackedBlob(blob_type, blob_id, len(body), len(sealed), uncompressed))
            body += sealed
        pack = body + encode_header(sealer, packed)
        assert len(body) >= OVERHEAD
        backend.put(Kind.DATA, digest(pack).hex(), pack)
        packs.append((digest(pack), packed))
    save_index(backend, sealer, version, packs)
    snapshot = Snapshot(
        time_ns=time.time_ns(),
        tree=digest(tree),
        paths=("/files",),
        hostname="node-1",
        username="operator",
        tags=("stack=prod",),
        program_version="sheetanchor 0.1.0",
    )
    save_snapshot(backend, sealer, version, snapshot)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_what_we_write_satisfies_restic(tmp_path: Path, version: int) -> None:
    """restic checks every byte of it without a complaint, lists it, restores it equal, and prunes it."""
    restic = stock_restic(tmp_path)
    files = {
        f"file {number}".encode(): random.Random(number).randbytes(number * 5000) for number in range(20)
    }
    files |= {"ü <&>\n".encode(): b"text " * 2000, b"\xff\xfe": b"raw name"}
    _write(restic, version, files)
    restic.run("check", "--read-data")
    (listed,) = restic.json("snapshots")
    assert (listed["tags"], listed["hostname"]) == (["stack=prod"], "node-1")
    restic.run("restore", "latest", "--target", str(tmp_path / "restored"))
    restored = os.fsencode(tmp_path / "restored")
    assert {
        name: Path(os.fsdecode(restored + b"/" + name)).read_bytes() for name in os.listdir(restored)
    } == files
    restic.run("key", "list")
    restic.run("prune")
    restic.run("check", "--read-data")


@pytest.mark.slow
def test_restic_and_our_locks_respect_one_another(tmp_path: Path) -> None:
    """restic waits for our lock, does not take it for dead and does not signal us; we respect its own."""
    restic = stock_restic(tmp_path)
    _write(restic, 2, {b"file": b"content"})
    opened = _open(restic)
    clock = FakeClock(SystemClock().now())
    cleared: list[str] = []
    locker = Locker(opened.backend, opened.sealer, 2, current_process(), clock, cleared.append)
    with locker.acquire(exclusive=True) as held:
        restic.fails("backup", str(tmp_path / "cache"))
        restic.run("unlock")
        assert restic.run("list", "locks", "--no-lock").split() == [held.id.hex()]
        held.check()
    argv = [restic.program, "--repo", str(restic.repository), "backup", "--stdin"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=restic.environment
    ) as run:
        deadline = time.monotonic() + 30
        while not list(opened.backend.list(Kind.LOCKS)) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.kill()
    with pytest.raises(RepositoryLockedError, match=f"process {run.pid} of "):
        locker.acquire(exclusive=True)
    clock.advance(31 * 60)
    for found in (restic.repository / "locks").iterdir():
        os.utime(found, (0, 0))
    with locker.acquire(exclusive=True):
        pass
    assert len(cleared) == 1
