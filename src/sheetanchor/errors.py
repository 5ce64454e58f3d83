"""Every error a user can meet: one tree, each class with its exit code, each error with a hint.

Exit codes follow restic's: 0 done, 1 failed, 2 wrong usage or configuration, 3 done in part,
10 no repository, 11 locked, 12 wrong password, 130 interrupted.

    SheetanchorError
    ├── UsageError, ConfigError                                  2
    ├── RepositoryError                                          1
    │   ├── RepositoryNotFoundError                             10
    │   ├── RepositoryLockedError                               11
    │   ├── WrongPasswordError                                  12
    │   └── DamagedRepositoryError
    ├── BackendError                                             1
    │   ├── ObjectAbsentError, ObjectExistsError
    │   ├── PassingBackendError      worth a retry
    │   └── FinalBackendError        no retry will help
    │       └── NoSpaceError, ReadOnlyBackendError
    ├── ComponentError                                           1
    │   └── UnreachableError, NothingThereError, ToolError, ProofMismatchError
    ├── ProcessError                                             1
    ├── ArchiveError                                             1
    │   └── HostileArchiveError, WrongKeyError
    ├── PlanRefusedError, UnknownBackupError                     1
    ├── PartialBackupError, OldStateKeptError                    3
    └── InterruptedByUserError                                 130
"""

from __future__ import annotations

from typing import ClassVar


class SheetanchorError(Exception):
    """Base of all expected errors: `message` says what and where, `hint` the next step."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SheetanchorError):
    """The command line asks for something that makes no sense."""

    exit_code = 2
    code = "usage"


class ConfigError(SheetanchorError):
    """The configuration file is missing, unreadable or wrong."""

    exit_code = 2
    code = "configuration"


class RepositoryError(SheetanchorError):
    """The repository cannot do what was asked."""

    code = "repository"


class RepositoryNotFoundError(RepositoryError):
    """There is no repository at the given place."""

    exit_code = 10
    code = "no_repository"


class RepositoryLockedError(RepositoryError):
    """Another process holds a conflicting lock."""

    exit_code = 11
    code = "locked"


class WrongPasswordError(RepositoryError):
    """No key of the repository opens with the given password."""

    exit_code = 12
    code = "wrong_password"


class DamagedRepositoryError(RepositoryError):
    """Stored bytes are not what they must be (hash, MAC, size or structure)."""

    code = "damaged"


class BackendError(SheetanchorError):
    """The storage below the repository failed."""

    code = "backend"


class ObjectAbsentError(BackendError):
    """The object does not exist: proven, not guessed."""

    code = "absent"


class ObjectExistsError(BackendError):
    """The object exists already and must not be replaced."""

    code = "exists"


class PassingBackendError(BackendError):
    """A failure that may pass: worth a retry."""

    code = "passing"


class FinalBackendError(BackendError):
    """A failure that no retry will cure."""

    code = "final"


class NoSpaceError(FinalBackendError):
    """The storage is full, or a quota is."""

    code = "no_space"


class ReadOnlyBackendError(FinalBackendError):
    """The storage refuses writes."""

    code = "read_only"


class ComponentError(SheetanchorError):
    """A component could not be captured, staged, verified or swapped."""

    code = "component"


class UnreachableError(ComponentError):
    """The service behind a component does not answer, or refuses."""

    code = "unreachable"


class NothingThereError(ComponentError):
    """What is to be captured does not exist: a failure, but for the safety backup of a lost volume."""

    code = "nothing_there"


class ToolError(ComponentError):
    """A needed program is missing or of the wrong version."""

    code = "tool"


class ProofMismatchError(ComponentError):
    """What was restored is not what the manifest says it must be."""

    code = "proof_mismatch"


class ProcessError(SheetanchorError):
    """A child process failed or ran out of time."""

    code = "process"


class ArchiveError(SheetanchorError):
    """A portable archive cannot be written or read."""

    code = "archive"


class HostileArchiveError(ArchiveError):
    """An archive holds something that must not be unpacked or run."""

    code = "hostile_archive"


class WrongKeyError(ArchiveError):
    """The encryption key does not fit the archive, or the archive was changed."""

    code = "wrong_key"


class PlanRefusedError(SheetanchorError):
    """A plan cannot be carried out; nothing was touched."""

    code = "refused"


class UnknownBackupError(SheetanchorError):
    """No backup or snapshot of that name."""

    code = "unknown_backup"


class PartialBackupError(SheetanchorError):
    """A run that did some of its work and failed at the rest."""

    exit_code = 3
    code = "partial"


class OldStateKeptError(SheetanchorError):
    """A restore is done and live; what it replaced could not be cleared away."""

    exit_code = 3
    code = "old_state_kept"


class InterruptedByUserError(SheetanchorError):
    """Ctrl-C or SIGTERM: stopped cleanly."""

    exit_code = 130
    code = "interrupted"
