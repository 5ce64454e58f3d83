"""Small files: the same trees whoever stores them, and processes that neither lose nor linger."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheetanchor.errors import RepositoryError
from sheetanchor.repository import session, small_store
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.memory import MemoryBackend
from sheetanchor.repository.file_text import FileTexts, tail, times_of
from sheetanchor.repository.filesystem import Owners, node_from_status
from sheetanchor.repository.ids import Id
from sheetanchor.repository.node import encode_node, xattrs_text
from sheetanchor.repository.repository import Repository
from sheetanchor.repository.small_batches import Job
from sheetanchor.repository.small_store import SmallFiles
from sheetanchor.repository.worker_pool import WorkerPool
from sheetanchor.repository.writer import Account, BlobWriter
from support import nasty_tree
from support.repositories import back_up, create

UP_SECONDS = 30.0
FIELDS = st.integers(0, 2**63 - 1)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + UP_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class _InProcesses(SmallFiles):
    """Stores every file in worker processes: begins with them, and waits until they are up."""

    pools: list[WorkerPool]

    def __init__(self, writer: BlobWriter, *, processes: int) -> None:
        del processes
        super().__init__(writer, processes=2, many=-1)

    def _start(self) -> WorkerPool | None:
        pool = super()._start()
        assert pool is not None
        _until(lambda: len(pool.pids) == 2)
        self.pools.append(pool)
        return pool


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WorkerPool]]:
    """Have all small files stored by worker processes; give the pools that were started."""
    monkeypatch.setattr(session, "SmallFiles", _InProcesses)
    monkeypatch.setattr(_InProcesses, "pools", found := [], raising=False)
    yield found
    for pool in found:
        pool.close()


def _fill(root: Path, directories: int, files: int) -> None:
    """Make many files, a quarter of them with the content of others."""
    source = random.Random(11)
    for directory in range(directories):
        (root / f"{directory:03}").mkdir(parents=True)
        for number in range(files):
            size = source.randint(0, 12_000)
            data = bytes(size) if number % 4 == 0 else source.randbytes(size // 2) * 2
            (root / f"{directory:03}" / f"{number}").write_bytes(data)


@given(name=st.binary(min_size=1, max_size=20), mode=st.integers(0, 0o7777), numbers=st.tuples(*[FIELDS] * 6))
def test_a_file_becomes_the_same_json_as_its_node(name: bytes, mode: int, numbers: tuple[int, ...]) -> None:
    """The direct way from a file's status to its entry gives the bytes that the node gives."""
    inode, device, links, size, mtime, ctime = numbers
    fields = (0o100000 | mode, inode, device, links, os.getuid(), os.getgid(), size, 0, 0, 0)
    times = {"st_mtime_ns": mtime, "st_ctime_ns": ctime}
    status = os.stat_result(fields, {"st_atime": 0.0, "st_mtime": 0.0, "st_ctime": 0.0, **times})
    owners = Owners()
    node = node_from_status(name, status, owners)
    node.xattrs = (("user.k", b"v"),) if size % 2 else ()
    node.content = (Id(bytes(range(32))),) if size else ()
    text = FileTexts(owners).head(name, status, times_of(status), size) + xattrs_text(node.xattrs)
    assert text + tail(node.content) == encode_node(node)


def test_processes_store_what_one_thread_stores(tmp_path: Path, pools: list[WorkerPool]) -> None:
    """Trees, counts and every byte are the same; equal contents of two processes are stored once."""
    _fill(tmp_path / "data", 30, 60)
    nasty_tree.make(tmp_path / "data" / "nasty")
    repository = create(MemoryBackend())
    snapshot, saved = back_up(repository, tmp_path / "data")
    assert len(pools) == 1
    assert repository.check(read_data=True).healthy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SmallFiles", SmallFiles)
        expected, same = back_up(repository, tmp_path / "data")
    assert snapshot.snapshot.tree == expected.snapshot.tree
    assert saved == same
    reader = repository.reader()
    assert reader.compare_tree(snapshot.snapshot.tree, "/volumes/data", tmp_path / "data") == []


def test_processes_meet_files_that_cannot_be_stored_as_listed(
    tmp_path: Path, pools: list[WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vanishes, grows, or becomes a FIFO between listing and reading is told, and costs no more."""
    data = tmp_path / "data"
    _fill(data, 1, 40)
    place = data / "000"
    submit = _InProcesses.submit

    def change_first(self: SmallFiles, job: Job, account: Account) -> object:
        if (place / "3").exists():
            (place / "3").unlink()
            (place / "5").write_bytes(b"grown" * 40_000)
            (place / "7").unlink()
            os.mkfifo(place / "7")
        return submit(self, job, account)

    monkeypatch.setattr(_InProcesses, "submit", change_first)
    repository = create(MemoryBackend())
    snapshot, saved = back_up(repository, data)
    assert pools
    assert sorted(saved.warnings) == [
        "000/3: vanished while the tree was read",
        "000/7: changed its type while the tree was read",
    ]
    assert (saved.files, saved.failures) == (38, ())
    node = repository.reader().node(snapshot.snapshot.tree, "volumes/data/000/5")
    assert node is not None
    assert node.size == repository.reader().locate(node) == 200_000


def test_a_process_that_is_killed_stops_the_backup(tmp_path: Path, pools: list[WorkerPool]) -> None:
    """The system's memory killer hits a worker: the backup fails with a hint, and saves no snapshot."""
    _fill(tmp_path / "data", 4, 100)
    repository = create(MemoryBackend())
    with repository.writer() as writing:
        tree = writing.tree("/")
        tree.write_directory("a", tmp_path / "data")
        for pid in pools[0].pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RepositoryError, match="ended before its time") as failure:
            writing.flush()
    assert failure.value.hint is not None
    assert repository.snapshots() == []


def test_processes_end_with_the_session(tmp_path: Path, pools: list[WorkerPool]) -> None:
    """Neither a finished session nor one that failed leaves a process behind."""
    _fill(tmp_path / "data", 2, 50)
    repository = create(MemoryBackend())
    back_up(repository, tmp_path / "data")
    with pytest.raises(RepositoryError, match="cannot be read"):
        _fail(repository, tmp_path / "data")
    assert len(pools) == 2
    assert not any(_is_alive(pid) for pool in pools for pid in pool.pids)


def _fail(repository: Repository, data: Path) -> None:
    with repository.writer() as writing:
        writing.tree("/").write_directory("b", data)
        writing.tree("/").write_directory("c", data / "is not there")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_storage_that_refuses_packs_stops_processes_too(tmp_path: Path, pools: list[WorkerPool]) -> None:
    """An upload's error ends the backup with that error, not with a wait for a buffer."""
    _fill(tmp_path / "data", 4, 100)

    class Refusing(MemoryBackend):
        def put(self, kind: Kind, name: str, data: object, *, if_absent: bool = False) -> None:
            if kind is Kind.DATA:
                raise RepositoryError("no more packs")
            super().put(kind, name, data, if_absent=if_absent)  # type: ignore[arg-type]

    with pytest.raises(RepositoryError, match="no more packs"):
        back_up(create(Refusing()), tmp_path / "data")
    assert pools


@pytest.mark.parametrize("program", ["/nonexistent/python", ""])
def test_without_processes_the_thread_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Where no process can be started, a backup of many files goes on in its own thread."""
    _fill(tmp_path / "data", 2, 50)
    monkeypatch.setattr(small_store, "MANY_FILES", 0)
    monkeypatch.setattr(sys, "executable", program)
    repository = create(MemoryBackend())
    snapshot, saved = back_up(repository, tmp_path / "data")
    assert saved.files == 100
    reader = repository.reader()
    assert reader.compare_tree(snapshot.snapshot.tree, "/volumes/data", tmp_path / "data") == []


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """After kill -9 of a backup its worker processes end by themselves."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sheetanchor.repository import session\n"
        "from sheetanchor.repository.backend.memory import MemoryBackend\n"
        "from sheetanchor.repository.small_store import SmallFiles\n"
        "from support.repositories import create\n"
        "class Eager(SmallFiles):\n"
        "    def __init__(self, writer, *, processes):\n"
        "        super().__init__(writer, processes=2, many=-1)\n"
        "session.SmallFiles = Eager\n"
        "with create(MemoryBackend()).writer() as writing:\n"
        "    writing.tree('/').write_directory('a', Path(sys.argv[1]))\n"
        "    pool = writing._small._pool\n"
        "    while len(pool.pids) < 2:\n"
        "        time.sleep(0.01)\n"
        "    print(*pool.pids, flush=True)\n"
        "    time.sleep(600)\n"
    )
    _fill(tmp_path / "data", 1, 3)
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path / "data"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_is_alive(pid) for pid in pids)
    finally:
        parent.kill()
        parent.communicate()
    _until(lambda: not any(_is_running(pid) for pid in pids))


def _is_running(pid: int) -> bool:
    """Say whether a process runs: an orphan may stay a zombie where nobody waits for orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_batches_hold_few_directories_open(tmp_path: Path) -> None:
    """A thousand directories of one file each need no thousand descriptors."""
    _fill(tmp_path / "data", 1000, 1)
    most = 0

    class Counting(SmallFiles):
        def submit(self, job: Job, account: Account) -> object:
            nonlocal most
            most = max(most, len(os.listdir("/proc/self/fd")))
            return super().submit(job, account)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SmallFiles", Counting)
        _, saved = back_up(create(MemoryBackend()), tmp_path / "data")
    assert saved.files == 1000
    assert 0 < most - before < 350
