"""A relay between a client and a server that changes what one side sends, or cuts the connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Change = Callable[[bytes], bytes | None]
"""Sees each piece that is sent; what it returns goes on instead, and None cuts the connection."""


class _Relay:
    def __init__(self, server: tuple[str, int], requests: Change, answers: Change) -> None:
        self._server = server
        self._requests = requests
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._sockets.extend((near, far))
                for way in ((near, far, self._requests), (far, near, self._answers)):
                    self._threads.append(threading.Thread(target=_pump, args=way))
                    self._threads[-1].start()


def _pump(source: socket.socket, sink: socket.socket, change: Change) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 20):
            changed = change(data)
            if changed is None:
                break
            sink.sendall(changed)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(server: tuple[str, int], *, requests: Change = bytes, answers: Change = bytes) -> Iterator[str]:
    """Yield the URL of a relay in front of `server`."""
    running = _Relay(server, requests, answers)
    try:
        yield running.url
    finally:
        running.close()
