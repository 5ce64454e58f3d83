"""The repository's facade: what operations do with it, without knowing how it is kept.

A repository is in restic's format (version 2 when made here; 1 is read and written too), so that
stock restic reads whatever was saved.
"""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sheetanchor.clock import Clock
from sheetanchor.errors import (
    DamagedRepositoryError,
    ObjectAbsentError,
    RepositoryError,
    RepositoryNotFoundError,
    UnknownBackupError,
)
from sheetanchor.events import Listener, SilentListener
from sheetanchor.repository.backend.base import CONFIG_NAME, Backend, Kind
from sheetanchor.repository.backend.probe import honours_if_absent
from sheetanchor.repository.blob_reader import BlobReader
from sheetanchor.repository.check import Checker, CheckReport, Finding
from sheetanchor.repository.chunker import derive_seed
from sheetanchor.repository.codec import Compression, Compressor
from sheetanchor.repository.crypto import MasterKey, Sealer
from sheetanchor.repository.held_lock import HeldLock
from sheetanchor.repository.ids import Id, parse_id
from sheetanchor.repository.index import Index
from sheetanchor.repository.index_file import load_index, save_index
from sheetanchor.repository.keyring import Keyring
from sheetanchor.repository.keys import KeyOwner, OpenedKey, add_key, open_key
from sheetanchor.repository.locks import Locker
from sheetanchor.repository.objects import SealedObjects
from sheetanchor.repository.options import Options
from sheetanchor.repository.pack import PackedBlob
from sheetanchor.repository.process_identity import current_process
from sheetanchor.repository.prune import Pruner
from sheetanchor.repository.reader import Reader
from sheetanchor.repository.repair_aids import RepairAids
from sheetanchor.repository.repair_place import RepairPlace
from sheetanchor.repository.scrypt import ScryptParameters, calibrate
from sheetanchor.repository.session import WriteSession
from sheetanchor.repository.settings import Settings, load_settings, save_settings
from sheetanchor.repository.snapshot import (
    Snapshot,
    StoredSnapshot,
    find_by_prefix,
    load_snapshot,
    save_snapshot,
)
from sheetanchor.repository.tree_writer import TreeWriter
from sheetanchor.repository.verify_rotation import Rotator
from sheetanchor.repository.writer import BlobWriter
from sheetanchor.secret import Secret

__all__ = [
    "CheckReport",
    "Compression",
    "Finding",
    "Options",
    "Reader",
    "Repository",
    "TreeWriter",
    "WriteSession",
]

LATEST = "latest"


class Repository:
    """An open repository. Threads may share it."""

    def __init__(
        self,
        backend: Backend,
        key: OpenedKey,
        settings: Settings,
        *,
        options: Options,
        clock: Clock,
        listener: Listener,
    ) -> None:
        self._backend = backend
        self._key = key
        self._settings = settings
        self._options = options
        self._clock = clock
        self._listener = listener
        self._sealer = Sealer(key.master_key)
        self._held: list[HeldLock] = []
        self._snapshots: dict[Id, StoredSnapshot] = {}
        self._index = Index()
        self._index_files: set[Id] = set()
        self._index_lock = threading.Lock()

    @classmethod
    def create(
        cls,
        backend: Backend,
        password: Secret,
        *,
        options: Options,
        clock: Clock,
        listener: Listener | None = None,
        scrypt: ScryptParameters | None = None,
        version: int = 2,
    ) -> Repository:
        """Make a repository and open it: the key file first, `config` last.

        `scrypt` is calibrated to this machine unless given. Raises RepositoryError when there
        is one already, or a part of one, and what the backend raises.
        """
        _refuse_existing(backend)
        backend.create()
        key = MasterKey.generate()
        owner = KeyOwner(getpass.getuser(), os.uname().nodename)
        now = int(clock.now().timestamp()) * 1_000_000_000
        add_key(backend, key, password, owner, now, scrypt or calibrate(clock))
        save_settings(backend, Sealer(key), Settings.generate(version))
        return cls.open(backend, password, options=options, clock=clock, listener=listener)

    @classmethod
    def open(
        cls,
        backend: Backend,
        password: Secret,
        *,
        options: Options,
        clock: Clock,
        listener: Listener | None = None,
    ) -> Repository:
        """Open a repository.

        Raises RepositoryNotFoundError, WrongPasswordError, or DamagedRepositoryError for one
        that is half made or damaged.
        """
        key = open_key(backend, password)
        try:
            settings = load_settings(backend, Sealer(key.master_key))
        except RepositoryNotFoundError as error:
            raise RepositoryNotFoundError(
                f"{backend.location} has keys but no config: its creation was cut off, or config is lost",
                hint="if it was never used, remove what is there and run `sheetanchor init` again",
            ) from error
        return cls(
            backend, key, settings, options=options, clock=clock, listener=listener or SilentListener()
        )

    @property
    def id(self) -> str:
        """The repository's id: 64 hex digits, the same wherever it is copied to."""
        return self._settings.id

    @property
    def version(self) -> int:
        """The format version, 1 or 2."""
        return self._settings.version

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return self._backend.location

    @property
    def keyring(self) -> Keyring:
        """The passwords that open the repository."""
        return Keyring(self._backend, self._key, self._clock)

    def objects(self) -> SealedObjects:
        """Return the sealed objects: what is kept beside the backups and is no restic file."""
        return SealedObjects(self._backend, self._key.master_key)

    def honours_if_absent(self) -> bool:
        """Try out whether this storage refuses to replace an object; see `probe.honours_if_absent`."""
        return honours_if_absent(self._backend)

    @contextmanager
    def lock(self, *, exclusive: bool = False, retry_for: float = 0.0) -> Iterator[HeldLock]:
        """Hold a lock; while it is held, nothing is published once it is lost.

        Waits up to `retry_for` seconds for other holders. Raises RepositoryLockedError naming
        the other holder, ReadOnlyBackendError where no lock can be written.
        """
        with self._locker().acquire(exclusive=exclusive, retry_for=retry_for) as held:
            self._held.append(held)
            try:
                yield held
            finally:
                self._held.remove(held)

    def unlock(self, *, everything: bool = False) -> int:
        """Remove the locks of dead holders, or all locks; return how many."""
        locker = self._locker()
        return locker.remove_all() if everything else len(locker.clear_dead())

    def snapshots(self, *, strict: bool = False) -> list[StoredSnapshot]:
        """Return all snapshots, oldest first; one that is damaged is reported as a warning.

        With `strict`, for who removes what is not needed, it raises DamagedRepositoryError.
        """
        found: list[StoredSnapshot] = []
        for snapshot_id in self._snapshot_ids():
            try:
                found.append(self._load_snapshot(snapshot_id))
            except ObjectAbsentError:
                continue
            except DamagedRepositoryError as error:
                if strict:
                    raise
                self._listener.warning("snapshots", error.message)
        return sorted(found, key=lambda stored: (stored.snapshot.time_ns, stored.id))

    def find_snapshot(self, name: str) -> StoredSnapshot:
        """Return the snapshot with the id or the prefix `name`, or the newest for "latest".

        Raises UnknownBackupError, DamagedRepositoryError.
        """
        if name == LATEST:
            snapshots = self.snapshots()
            if not snapshots:
                raise UnknownBackupError(f"{self.location} holds no snapshots")
            return snapshots[-1]
        return self._load_snapshot(find_by_prefix(self._snapshot_ids(), name))

    @contextmanager
    def writer(self) -> Iterator[WriteSession]:
        """Start a write session; its threads end with the context, whatever happens.

        What was not flushed by then is not referenced by anything, and does no harm.
        """
        self._refresh_index()
        self._pass_over_lost_packs()
        writer = BlobWriter(
            self._backend,
            self._sealer,
            Compressor(self._options.compression, self.version),
            self._index,
            save_index=self._save_index,
            clock=self._clock,
            threads=self._options.threads,
            check_lock=self._check_lock,
        )
        try:
            yield WriteSession(
                writer,
                self._index,
                chunker_seed=derive_seed(self._key.master_key.encrypt),
                load_tree=self._blob_reader().load_tree_blob,
                clock=self._clock,
            )
        finally:
            writer.close()

    def save_snapshot(self, draft: Snapshot) -> StoredSnapshot:
        """Store a snapshot; the session that wrote its tree must be flushed before.

        Raises RepositoryError when the tree is not in the index.
        """
        if not self._blob_reader().has_tree(draft.tree):
            raise RepositoryError(f"tree {draft.tree.hex()} is not stored: nothing may refer to it")
        self._check_lock()
        snapshot_id = save_snapshot(self._backend, self._sealer, self.version, draft)
        return StoredSnapshot(snapshot_id, draft)

    def delete_snapshot(self, snapshot_id: Id) -> None:
        """Remove a snapshot; its data stays until a prune. Absent already is no error."""
        self._check_lock()
        self._backend.delete(Kind.SNAPSHOTS, snapshot_id.hex())

    def received_at(self) -> dict[Id, datetime]:
        """Return when the storage received each snapshot, by its own clock, where it says so."""
        listed = self._backend.list(Kind.SNAPSHOTS)
        return {parse_id(item.name): item.received_at for item in listed if item.received_at is not None}

    def pruner(self, listener: Listener | None = None) -> Pruner:
        """Return what frees space; plan and carry out under one exclusive lock."""
        return Pruner(
            self._backend,
            self._sealer,
            self.version,
            threads=self._options.threads,
            clock=self._clock,
            listener=listener or self._listener,
            check_lock=self._check_lock,
        )

    def reader(self) -> Reader:
        """Return a reader that finds whatever the snapshots listed until now refer to."""
        self._refresh_index()
        return Reader(self._blob_reader(), threads=self._options.threads)

    def check(self, *, read_data: bool | float = False, listener: Listener | None = None) -> CheckReport:
        """Check the whole repository; see `check.Checker.run`."""
        checker = Checker(
            self._backend,
            self._sealer,
            self.version,
            threads=self._options.threads,
            listener=listener or self._listener,
            rotator=Rotator(self.objects(), self._clock),
        )
        return checker.run(read_data=read_data)

    def repairs(self) -> RepairAids:
        """Return the repairs; hold an exclusive lock while they work."""
        sealing = (self.id, self._sealer, self.version, self._options)
        watching = (self._clock, self._listener, self._check_lock)
        return RepairAids(RepairPlace(self._backend, *sealing, *watching, self.objects()))

    def _check_lock(self) -> None:
        for held in list(self._held):
            held.check()

    def _locker(self) -> Locker:
        return Locker(
            self._backend,
            self._sealer,
            self.version,
            current_process(),
            self._clock,
            lambda message: self._listener.warning("lock", message),
        )

    def _blob_reader(self) -> BlobReader:
        return BlobReader(self._backend, self._sealer, self._index)

    def _snapshot_ids(self) -> list[Id]:
        return [parse_id(stored.name) for stored in self._backend.list(Kind.SNAPSHOTS)]

    def _load_snapshot(self, snapshot_id: Id) -> StoredSnapshot:
        stored = self._snapshots.get(snapshot_id)
        if stored is None:
            stored = load_snapshot(self._backend, self._sealer, self.version, snapshot_id)
            self._snapshots[snapshot_id] = stored
        return stored

    def _refresh_index(self) -> None:
        """Read index files that are new; start anew when one has gone (a prune rewrote them)."""
        with self._index_lock:
            listed = {parse_id(stored.name) for stored in self._backend.list(Kind.INDEX)}
            if self._index_files - listed:
                self._index = Index()
                self._index_files = set()
            for index_id in sorted(listed - self._index_files):
                for pack_id, blobs in load_index(self._backend, self._sealer, self.version, index_id):
                    self._index.add_pack(pack_id, blobs)
                self._index_files.add(index_id)

    def _pass_over_lost_packs(self) -> None:
        """Leave packs out of the index that are not there any more.

        A new backup must not rely on them: what they held is stored again if it is still there
        to be read, and heals the older snapshots that need it.
        """
        stored = {parse_id(item.name) for item in self._backend.list(Kind.DATA) if item.size}
        with self._index_lock:
            lost = set(self._index.pack_ids()) - stored
            if not lost:
                return
            kept = Index()
            for pack_id, blobs in self._index.packs():
                if pack_id not in lost:
                    kept.add_pack(pack_id, blobs)
            self._index = kept
        self._listener.warning(
            "repository",
            f"{self.location}: {len(lost)} packs are lost, the first is {min(lost).hex()}: their data is "
            "stored again where it still exists; run `sheetanchor repository check`",
        )

    def _save_index(self, packs: list[tuple[Id, list[PackedBlob]]]) -> None:
        index_id = save_index(self._backend, self._sealer, self.version, packs)
        with self._index_lock:
            self._index_files.add(index_id)


def _refuse_existing(backend: Backend) -> None:
    """Refuse a place that holds a repository or a part of one, as restic does."""
    try:
        backend.size(Kind.CONFIG, CONFIG_NAME)
    except ObjectAbsentError:
        pass
    else:
        raise RepositoryError(f"{backend.location} holds a repository already", hint="open it instead")
    for kind in (Kind.KEYS, Kind.SNAPSHOTS):
        if next(iter(backend.list(kind)), None) is not None:
            raise RepositoryError(
                f"{backend.location} holds {kind} but no config: a damaged or half made repository",
                hint="choose an empty place, or remove what is there if it was never used",
            )
