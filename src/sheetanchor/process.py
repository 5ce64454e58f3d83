"""Child processes: argv lists only, every exit status counts, secrets by environment or stdin."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from sheetanchor.errors import ProcessError

STDERR_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Completed:
    """What a finished process printed."""

    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without surrounding white space."""
        return self.stdout.decode("utf-8", "replace").strip()


@dataclass(frozen=True)
class RunAs:
    """The numeric user and group a child drops to (PostgreSQL refuses to run as root)."""

    uid: int
    gid: int


class ProcessRunner:
    """Starts programs. Injected, so that tests can watch or break what is started."""

    def run(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        timeout: float | None = None,
        run_as: RunAs | None = None,
        cwd: Path | None = None,
    ) -> Completed:
        """Run `argv` to its end.

        `environment` is added to ours. Standard output is collected, or written to `stdout`.
        Raises ProcessError for a program that is missing, a non-zero exit status, a signal or
        a time-out (seconds); the message carries the tail of standard error.
        """
        data = stdin if isinstance(stdin, bytes) else None
        source: IO[bytes] | int | None = subprocess.DEVNULL
        if stdin is not None:
            source = None if data is not None else cast("IO[bytes]", stdin)
        try:
            done = subprocess.run(
                list(argv),
                input=data,
                stdin=source if data is None else None,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_merged(environment),
                timeout=timeout,
                check=False,
                cwd=cwd,
                user=run_as.uid if run_as else None,
                group=run_as.gid if run_as else None,
                extra_groups=[] if run_as else None,
            )
        except OSError as error:
            raise _not_started(argv, error) from error
        except subprocess.TimeoutExpired as error:
            raise ProcessError(f"{_name(argv)}: no end after {timeout:g} s") from error
        if done.returncode != 0:
            raise failed(argv, done.returncode, done.stderr)
        return Completed(done.stdout or b"", done.stderr)

    @contextmanager
    def reading(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        run_as: RunAs | None = None,
    ) -> Iterator[BinaryIO]:
        """Start `argv` and yield its standard output as a stream.

        On leaving, the rest of the output is not drained: a caller that stops early kills the
        program. Raises ProcessError after a complete read when the exit status is not zero, so
        a dump that dies in the middle never looks like a short dump.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                child = subprocess.Popen(
                    list(argv),
                    stdin=stdin if stdin is not None else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=_merged(environment),
                    user=run_as.uid if run_as else None,
                    group=run_as.gid if run_as else None,
                    extra_groups=[] if run_as else None,
                )
            except OSError as error:
                raise _not_started(argv, error) from error
            assert child.stdout is not None
            try:
                yield cast("BinaryIO", child.stdout)
                trailing = child.stdout.read(1)
                child.stdout.close()
                status = child.wait()
            except BaseException:
                child.kill()
                child.wait()
                child.stdout.close()
                raise
            if trailing:
                raise ProcessError(f"{_name(argv)}: its output was not read to the end")
            if status != 0:
                errors.seek(0)
                raise failed(argv, status, errors.read())


def failed(argv: Sequence[str], status: int, stderr: bytes) -> ProcessError:
    """Build the error of a process that ended with `status` (negative: a signal)."""
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    tail = stderr[-STDERR_TAIL_BYTES:].decode("utf-8", "replace").strip()
    last = tail.splitlines()[-1] if tail else ""
    return ProcessError(f"{_name(argv)}: {how}" + (f": {last}" if last else ""), hint=tail or None)


def _not_started(argv: Sequence[str], error: OSError) -> ProcessError:
    return ProcessError(f"{_name(argv)}: cannot be started: {error.strerror}")


def _name(argv: Sequence[str]) -> str:
    return os.path.basename(argv[0])


def _merged(environment: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(environment or {})}
