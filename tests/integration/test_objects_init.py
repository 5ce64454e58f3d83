"""`init` says what conditional writes are worth on the storage, after trying them out."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from support.program import ShopStack
from support.rclone import require_rclone
from support.s3_server import ENVIRONMENT, make_bucket, moto_server, rclone_server


def test_a_directory_keeps_the_first(tmp_path: Path) -> None:
    """A directory refuses, and the trial leaves nothing behind; an existing repository is not tried."""
    stack = ShopStack.make(tmp_path, repository=False)
    made = stack.call("init", "--json")
    assert made.status == 0, made.stderr
    assert made.summary["conditional_put"] is True
    assert [path for path in (stack.repository / "objects").rglob("*") if path.is_file()] == []
    assert stack.call("init", "--json").summary["conditional_put"] is None


@pytest.mark.parametrize("honours", [True, False], ids=["moto", "rclone"])
def test_servers_of_one_protocol_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honours: bool
) -> None:
    """One S3 server honours If-None-Match and one ignores it: init reports each as it is."""
    served = tmp_path / "served"
    served.mkdir()
    bucket = f"bucket-{uuid.uuid4().hex}"
    with moto_server() if honours else rclone_server(require_rclone(), served) as endpoint:
        make_bucket(endpoint, bucket)
        stack = ShopStack.make(tmp_path, repository=False)
        stack.config.write_text(
            stack.config.read_text().replace("url: repository", f'url: "s3:{endpoint}/{bucket}/prefix"')
        )
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        made = stack.call("init")
        assert made.status == 0, made.stderr
        assert ("does not refuse to replace" in made.stderr) is not honours
