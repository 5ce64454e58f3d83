"""S3 URLs and variables, and what the errors of a real server become."""

from __future__ import annotations

import random
from collections.abc import Iterator

import obstore
import pytest

from sheetanchor.clock import SystemClock
from sheetanchor.errors import ConfigError, FinalBackendError, PassingBackendError
from sheetanchor.repository.backend.base import Kind
from sheetanchor.repository.backend.local import LocalBackend
from sheetanchor.repository.backend.location import open_backend
from sheetanchor.repository.backend.s3 import S3Backend, parse_s3_url
from support.s3_server import ENVIRONMENT, location, make_bucket, moto_server


@pytest.mark.parametrize(
    ("url", "endpoint", "bucket", "prefix", "region"),
    [
        ("s3:s3.amazonaws.com/b/p/q", "https://s3.amazonaws.com", "b", "p/q", "us-east-1"),
        ("s3:s3.eu-west-1.amazonaws.com/b", "https://s3.eu-west-1.amazonaws.com", "b", "", "eu-west-1"),
        ("s3:https://minio.example:9000/b/p/", "https://minio.example:9000", "b", "p", "us-east-1"),
        ("s3:http://127.0.0.1:9000/b//p", "http://127.0.0.1:9000", "b", "p", "us-east-1"),
        ("s3://minio.example/b/p", "https://minio.example", "b", "p", "us-east-1"),
    ],
)
def test_urls_are_read_as_restic_writes_them(
    url: str, endpoint: str, bucket: str, prefix: str, region: str
) -> None:
    """Each form gives endpoint, bucket, prefix and region."""
    found = parse_s3_url(url, {})
    assert (found.endpoint, found.bucket, found.prefix, found.region) == (endpoint, bucket, prefix, region)
    assert found.access_key is None


def test_variables_are_used_and_secrets_stay_hidden() -> None:
    """AWS_* variables give region, endpoint and credentials; `repr` and the URL show no secret."""
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_SESSION_TOKEN": "token-secret",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1234/",
    }
    found = parse_s3_url("s3:s3.amazonaws.com/b/p", environment)
    assert (found.endpoint, found.region) == ("http://127.0.0.1:1234", "eu-north-1")
    assert found.secret_key is not None
    assert found.secret_key.reveal() == "very-secret"
    assert found.session_token is not None
    assert "secret" not in repr(found) + found.url
    assert parse_s3_url("s3:https://minio.example/b", environment).endpoint == "https://minio.example"


@pytest.mark.parametrize("url", ["s3:", "s3:host", "s3:host/", "s3:https:///b", "s3:https://u:p@host/b"])
def test_wrong_urls_are_refused(url: str) -> None:
    """A URL without host or bucket, or with credentials in it, is a configuration error."""
    with pytest.raises(ConfigError) as caught:
        parse_s3_url(url, {})
    assert caught.value.hint
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize("url", ["sftp:host:/p", "b2:bucket", "relative/path", "local:x"])
def test_what_is_not_supported_says_so(url: str) -> None:
    """Other schemes and relative paths are refused with a hint."""
    with pytest.raises(ConfigError) as caught:
        open_backend(url, {}, SystemClock(), random.Random(1))
    assert caught.value.hint


def test_a_path_is_a_local_repository() -> None:
    """`/path` and `local:/path` name the same directory."""
    for url in ("/srv/repo", "local:/srv/repo", "/srv/odd:name"):
        backend = open_backend(url, {}, SystemClock(), random.Random(1))
        assert backend.location == LocalBackend(url.removeprefix("local:")).location


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A moto server without buckets."""
    with moto_server() as address:
        yield address


def test_a_big_object_goes_up_in_parts(endpoint: str) -> None:
    """An object over the limit is stored whole through a multipart upload, and read in ranges."""
    make_bucket(endpoint, "parts")
    backend = S3Backend(location(endpoint, "parts/p"), largest_put=6 << 20, part_size=5 << 20)
    data = random.Random(2).randbytes(12 << 20)
    backend.put(Kind.DATA, "ab" * 32, memoryview(data))
    assert backend.get(Kind.DATA, "ab" * 32) == data
    assert backend.get(Kind.DATA, "ab" * 32, (10 << 20) - 5, 10) == data[(10 << 20) - 5 :][:10]
    tag = obstore.head(S3Backend(location(endpoint, "parts"))._store, "p/data/ab/" + "ab" * 32)["e_tag"]
    assert tag is not None
    assert tag.strip('"').endswith("-3"), "S3 marks an object of three parts so"


def test_a_missing_bucket_is_named(endpoint: str) -> None:
    """No bucket is a final error with a hint, not an empty or an absent repository."""
    backend = S3Backend(location(endpoint, "no-such-bucket/p"))
    for call in (
        lambda: backend.put(Kind.LOCKS, "0" * 64, b"x"),
        lambda: backend.get(Kind.LOCKS, "0" * 64),
        lambda: list(backend.list(Kind.LOCKS)),
        backend.create,
    ):
        with pytest.raises(FinalBackendError, match="NoSuchBucket") as caught:
            call()
        assert caught.value.hint


def test_a_server_that_is_not_there_may_come_back() -> None:
    """A refused connection is a passing error that names the place."""
    backend = S3Backend(parse_s3_url("s3:http://127.0.0.1:1/bucket", ENVIRONMENT))
    with pytest.raises(PassingBackendError, match=r"127\.0\.0\.1:1/bucket"):
        backend.get(Kind.LOCKS, "0" * 64)
