"""What `init` finds on a machine: real servers by their protocols, directories by compose files."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sheetanchor.stacks.discovery import compose, postgres, redis
from support.postgres import VERSIONS, running_server
from support.redis import live_server, programs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", VERSIONS)
def test_postgres_is_found_and_asked(version: int) -> None:
    """At its socket and at its port it is one server, with its version and databases."""
    with running_server(version) as server:
        environment = {"PGHOST": str(server.sockets), "PGPORT": str(server.options.port)}
        (found,) = postgres.find(environment, directories=[server.sockets])
    settings = dict(found.settings)
    assert (found.name, found.type) == ("postgres", "postgres")
    assert str(settings["url"]).startswith("postgresql://postgres@/postgres?host=/")
    assert found.facts[0].startswith(f"PostgreSQL {version}")
    assert found.facts[1] == "1 database"


def test_a_postgres_that_lets_nobody_in_is_found_all_the_same() -> None:
    """A failed login is a fact for the operator, not a reason to leave the database out."""
    with running_server(VERSIONS[0]) as server:
        environment = {
            "PGHOST": str(server.sockets),
            "PGPORT": str(server.options.port),
            "PGUSER": "nobody-here",
        }
        (found,) = postgres.find(environment, directories=[])
    assert "the login as nobody-here failed" in found.facts[0]


@pytest.mark.parametrize("product", sorted(programs()))
def test_redis_and_valkey_are_found_by_port(product: str, tmp_path: Path) -> None:
    """The product and its version are told apart."""
    with live_server(programs()[product], tmp_path / "cache") as server:
        (found,) = redis.find({}, sockets=[], port=server.port)
    assert dict(found.settings) == {"url": f"redis://127.0.0.1:{server.port}/0"}
    assert found.facts[0].lower().startswith(f"{product} ")


def test_a_redis_with_a_password_is_found(tmp_path: Path) -> None:
    """The refusal itself proves that it is there; the password is not guessed."""
    program = next(iter(programs().values()))
    with live_server(program, tmp_path / "cache", password="hunter2") as server:
        (found,) = redis.find(
            {"REDIS_URL": f"redis://:hunter2@127.0.0.1:{server.port}/0"}, sockets=[], port=1
        )
    assert "asks for a password" in found.facts[0]
    assert "hunter2" not in repr(found)


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    """Listen on a free port as something else; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(100)
                        connection.sendall(answer)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b""], ids=repr)
def test_what_only_sits_on_the_port_is_not_taken_for_a_database(answer: bytes) -> None:
    """An open port proves nothing: the protocol has to be answered."""
    with listener(answer) as port:
        assert redis.find({}, sockets=[], port=port) == []
        if answer != b"SSH-2.0-x\r\n":
            assert postgres.find({"PGHOST": "127.0.0.1", "PGPORT": str(port)}, directories=[]) == []


COMPOSE = """\
name: My Shop
services:
  web:
    image: registry.example.com:5000/shop/web:2.4
    volumes:
      - ./uploads:/srv/uploads
      - type: bind
        source: {directory}/media
        target: /media
      - sessions:/var/lib/sessions
      - /var/run/docker.sock:/var/run/docker.sock
      - ./nothing-there:/x
      - ${{DATA}}/y:/y
      - /anonymous
  again:
    image: worker
    volumes: ["./uploads:/data:ro"]
  db:
    image: docker.io/library/postgres:15
    volumes: ["./pgdata:/var/lib/postgresql/data"]
  strange: null
"""


def test_compose_files_tell_what_services_mount(tmp_path: Path) -> None:
    """Bind mounts and Docker's own volumes that exist are found once each, a database's never."""
    for name in ("uploads", "media", "pgdata"):
        (tmp_path / name).mkdir()
    volumes = tmp_path / "docker"
    (volumes / "my-shop_sessions" / "_data").mkdir(parents=True)
    (tmp_path / "docker-compose.yml").write_text(COMPOSE.format(directory=tmp_path))
    (tmp_path / ".env").write_text("DATA=/srv\n")
    found = {one.name: dict(one.settings) for one in compose.find(tmp_path, docker_volumes=volumes)}
    assert found == {
        "uploads": {"path": str(tmp_path / "uploads")},
        "media": {"path": str(tmp_path / "media")},
        "my-shop_sessions": {"path": str(volumes / "my-shop_sessions" / "_data")},
        "configs": {"paths": (str(tmp_path / "docker-compose.yml"), str(tmp_path / ".env"))},
    }
    assert compose.stack_name(tmp_path) == "My-Shop"


@pytest.mark.parametrize("text", ["services: [", "- a\n", "services: {web: {volumes: 7}}\n", "\xff", ""])
def test_a_broken_compose_file_is_kept_and_tells_nothing(tmp_path: Path, text: str) -> None:
    """Discovery never fails because of somebody else's file."""
    (tmp_path / "compose.yaml").write_text(text, encoding="latin-1")
    (found,) = compose.find(tmp_path)
    assert found.name == "configs"
