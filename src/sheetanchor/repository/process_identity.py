"""Who holds a lock, and whether that process still lives; never by sending signals.

restic tests a lock's process on its own host with SIGHUP, which ends a process that does not
handle it. Our lock host names are therefore our own: they carry a digest of the machine and of
the PID namespace, so that two containers or two machines of one name are never mixed up.
"""

from __future__ import annotations

import hashlib
import os
import pwd
from dataclasses import dataclass

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_START_FIELD = 19
"""Of /proc/PID/stat, counted from the state after the command's closing parenthesis."""


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one machine, told apart from later ones of the same number."""

    hostname: str
    username: str
    pid: int
    uid: int
    gid: int
    boot_id: str
    """Changes with every start of the machine; "" where it cannot be known."""
    started: int
    """Start of the process in clock ticks since the machine's start; 0 where unknown."""


def current_process() -> ProcessIdentity:
    """Return the identity of this process."""
    pid = os.getpid()
    started = _start(pid)
    return ProcessIdentity(
        lock_hostname(), _username(), pid, os.getuid(), os.getgid(), _read(_BOOT_ID), started or 0
    )


def lock_hostname() -> str:
    """Return this machine's name and a digest of what it is.

    The digest is the same after a restart of the machine, but not of a container, whose process
    numbers start anew: there only time tells that a lock is dead.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    machine = _read("/etc/machine-id")
    if namespace != _FIRST_PID_NAMESPACE or not machine:
        machine = f"{_read(_BOOT_ID)} {namespace}"
    return f"{os.uname().nodename}-{hashlib.sha256(machine.encode()).hexdigest()[:12]}"


def is_alive(pid: int, started: int) -> bool:
    """Say whether the process `pid` that started at tick `started` (0: unknown) still runs here.

    In doubt it does: a process that cannot be looked at counts as alive.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    now_started = _start(pid)
    if now_started is None or started == 0:
        return True
    return now_started == started


def boot_time_ns() -> int:
    """Return when this machine started, in nanoseconds since 1970; 0 where it cannot be known."""
    for line in _read("/proc/stat").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) * 1_000_000_000
    return 0


def _start(pid: int) -> int | None:
    """Return a process's start tick, -1 for one that has ended (a zombie), None when unknown."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) <= _START_FIELD:
        return None
    return -1 if fields[0] in ("Z", "X") else int(fields[_START_FIELD])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _username() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""
