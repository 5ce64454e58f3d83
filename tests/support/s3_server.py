"""Real S3 servers on loopback: moto in this process, rclone in one of its own."""

from __future__ import annotations

import logging
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sheetanchor.repository.backend.s3 import S3Location, parse_s3_url

ACCESS_KEY = "ACCESSKEYID"
SECRET_KEY = "SECRETSECRET"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_START_SECONDS = 30.0


@contextmanager
def moto_server() -> Iterator[str]:
    """Yield the endpoint of a moto server, which honours conditions, versions and odd keys."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def rclone_server(program: str, directory: Path) -> Iterator[str]:
    """Yield the endpoint of `rclone serve s3`, whose buckets are the folders of `directory`."""
    port = _free_port()
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    argv = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(directory)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_until_up(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def make_bucket(endpoint: str, bucket: str) -> None:
    """Create a bucket."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=bucket)
    client.close()


def location(endpoint: str, path: str) -> S3Location:
    """Return the location of `bucket/prefix` on a server of this module."""
    return parse_s3_url(f"s3:{endpoint}/{path}", ENVIRONMENT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert server.poll() is None, "rclone ended"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("rclone does not answer")
