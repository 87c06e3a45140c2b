"""`wsseg store push` and `pull` over S3: the client of the AWS SDK (in pyarrow) and a server that cuts connections."""

import fsspec
import pytest

from tests.store.makers import make_artifact, run_record
from tests.store.s3 import S3Server
from wsseg.errors import WssegError
from wsseg.store.objects import ArtifactStore
from wsseg.store.remote import RemoteStore

pyarrow_fs = pytest.importorskip("pyarrow.fs")
if not hasattr(pyarrow_fs, "S3FileSystem"):
    pytest.skip("this pyarrow has no S3", allow_module_level=True)
A = "a" * 64


@pytest.fixture
def remote(monkeypatch):
    """Return a function that opens ``s3://bucket/folder`` on a server."""
    from fsspec.implementations.arrow import ArrowFSWrapper

    def opened(server):
        client = pyarrow_fs.S3FileSystem(
            endpoint_override=server.address, scheme="http", access_key="any", secret_key="any", region="here",  # noqa: S106
            retry_strategy=pyarrow_fs.AwsStandardS3RetryStrategy(max_attempts=2), allow_bucket_creation=True,
        )  # fmt: skip
        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (ArrowFSWrapper(client), "bucket/folder"))
        return RemoteStore("s3://bucket/folder")

    return opened


@pytest.fixture
def other(tmp_path):
    return ArtifactStore(tmp_path / "other")


def contents(store, key):
    folder = store.get(key).folder
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_pushed_can_be_pulled_and_nothing_is_sent_twice(store, other, remote):
    make_artifact(store, A, one="1" * 1000, two="2")
    store.save_run("r1", run_record(A))
    with S3Server() as server:
        assert remote(server).push(store) == (1, 2, 1001)
        sent = len([1 for method, _ in server.requests if method in ("PUT", "POST")])
        assert remote(server).push(store) == (0, 0, 0)
        assert len([1 for method, _ in server.requests if method in ("PUT", "POST")]) == sent
        assert remote(server).pull(other) == (1, 2, 1001)
    assert contents(other, A) == contents(store, A) and other.run("r1") == store.run("r1")


@pytest.mark.parametrize("kind", ["error", "cut"])
@pytest.mark.parametrize("failing", range(1, 6))
def test_faults_in_the_middle_show_nothing_incomplete_and_the_same_command_continues(
    store, other, remote, kind, failing
):
    """From the n-th write (or, for pulls, read of a file) on, every request fails until the server is mended."""
    make_artifact(store, A, one="1" * 1000, two="2" * 1000)
    store.save_run("r1", run_record(A))
    counts = {"PUT": 0, "GET": 0}

    def fault(method, key):
        kept = "POST" if method in ("PUT", "POST") else method
        if broken != kept or "folder/" not in key:
            return ""
        counts["PUT" if kept == "POST" else "GET"] += 1
        return kind if counts["PUT" if kept == "POST" else "GET"] >= failing else ""

    with S3Server(fault) as server:
        broken = "POST"
        try:
            remote(server).push(store)
        except WssegError as error:
            assert "run the same command again" in str(error) and "\n" not in str(error)
        broken = ""
        listed = [key for key in server.objects if "/runs/" in key and key.endswith(".json")]
        if any("/artifacts/" in key and server.objects[key] for key in server.objects):
            assert remote(server).pull(other)[0] == 1
        assert bool(other.runs()) == bool(listed)
        remote(server).push(store)
        third = ArtifactStore(other.root.parent / "third")
        broken = "GET"
        try:
            remote(server).pull(third)
        except WssegError as error:
            assert "\n" not in str(error)
            assert third.keys() == [] and third.runs() == {}
        broken = ""
        remote(server).pull(third)
    assert contents(third, A) == contents(store, A) and list(third.runs()) == ["r1"]
