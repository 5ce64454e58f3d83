"""Runs one server as a child and ends it when whoever started us is gone.

Started as a script of its own: `python -I -S guard.py PROGRAM ARGUMENT...` with a pipe as
standard input. The pipe closes when the starter ends, however it ends; then the server is
killed. It is also killed by the kernel should this process be killed. The starter cannot ask
the kernel for that itself: the signal is bound to the starting *thread*, which may end early.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run the server until it ends or standard input closes; return its exit status."""
    server = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509  (no threads here)
    with selectors.DefaultSelector() as selector:
        ended = os.pidfd_open(server.pid)
        selector.register(ended, selectors.EVENT_READ)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.select()
    server.kill()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
