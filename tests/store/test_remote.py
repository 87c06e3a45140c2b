"""`wsseg store push` and `pull`: the same bytes, nothing twice, nothing incomplete, whatever fails in between."""

import json
import threading

import fsspec
import pytest

from tests import commands
from tests.store.makers import forge_artifact, make_artifact, run_record
from wsseg.errors import ArtifactError, MachineError, MissingExtraError
from wsseg.store import remote
from wsseg.store.objects import ArtifactStore
from wsseg.store.remote import RemoteStore

A, B = "a" * 64, "b" * 64


@pytest.fixture
def other(tmp_path):
    return ArtifactStore(tmp_path / "other")


@pytest.fixture(params=["memory", "folder"])
def url(request, tmp_path):
    """Return the URL of an empty place."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    memory = fsspec.filesystem("memory")
    if memory.exists("/wsseg-test"):
        memory.rm("/wsseg-test", recursive=True)
    return "memory://wsseg-test"


class Failing(RemoteStore):
    """Fails like a lost connection at the n-th write or read, after half of the bytes were written."""

    def __init__(self, url, writes=10**6, reads=10**6):
        super().__init__(url)
        self.left = {"write": writes, "read": reads}
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.left[what] -= 1
            return self.left[what] < 0

    def _write(self, path, data):
        if self.count("write"):
            super()._write(path, data[: len(data) // 2])
            raise ConnectionResetError("connection lost")
        super()._write(path, data)

    def _read(self, path):
        if self.count("read"):
            raise ConnectionResetError("connection lost")
        return super()._read(path)


def contents(store, key):
    folder = store.get(key).folder
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_artifact_arrives_with_the_same_bytes_and_nothing_is_sent_twice(store, other, url):
    make_artifact(store, A, one="1", two="2")
    make_artifact(store, B, two="2", three="333")
    store.save_run("r1", run_record(A, B))
    assert RemoteStore(url).push(store) == (2, 3, 5)  # artifacts share the file "2"
    assert RemoteStore(url).push(store) == (0, 0, 0)
    assert RemoteStore(url).pull(other) == (2, 4, 6)
    assert RemoteStore(url).pull(other) == (0, 0, 0)
    assert other.keys() == [A, B] and all(contents(other, key) == contents(store, key) for key in (A, B))
    assert other.run("r1") == store.run("r1")
    assert not list((other.root / "work").iterdir())


def test_one_run_is_shared_without_the_others(store, other, url):
    make_artifact(store, A)
    make_artifact(store, B)
    store.save_run("20260101-one", run_record(A))
    store.save_run("20260102-two", run_record(B))
    assert RemoteStore(url).push(store, "20260102")[0] == 1
    with pytest.raises(ArtifactError, match="20260101: no such run in .*; known: 20260102-two"):
        RemoteStore(url).pull(other, "20260101")
    RemoteStore(url).push(store)
    assert RemoteStore(url).pull(other, "20260101")[0] == 1
    assert other.keys() == [A] and list(other.runs()) == ["20260101-one"]


def test_a_run_that_lacks_artifacts_is_not_announced(store, other, url, caplog):
    caplog.set_level("INFO", "wsseg")
    make_artifact(store, A)
    store.save_run("r1", run_record(A, B))
    assert RemoteStore(url).push(store)[0] == 1
    assert "r1: its record is not sent, because it is without the artifacts of s1" in caplog.text
    assert RemoteStore(url).pull(other)[0] == 1 and other.runs() == {}


@pytest.mark.parametrize("writes", range(5))
def test_a_push_that_fails_at_any_write_shows_nothing_incomplete_and_continues(store, other, url, monkeypatch, writes):
    """The writes: two files, the table, the manifest, the record."""
    monkeypatch.setattr(remote, "_AT_ONCE", 1)
    make_artifact(store, A)
    store.save_run("r1", run_record(A))
    with pytest.raises(
        MachineError, match="connection lost; nothing incomplete is visible there; run the same command"
    ):
        Failing(url, writes=writes).push(store)
    if writes > 3:
        assert RemoteStore(url).pull(other)[0] == 1
    else:
        with pytest.raises(ArtifactError, match="no artifacts there"):
            RemoteStore(url).pull(other)
    assert other.runs() == {}
    assert RemoteStore(url).push(store)[:2] == ((0, 0) if writes > 3 else (1, max(2 - writes, 0)))
    RemoteStore(url).pull(other)
    assert contents(other, A) == contents(store, A) and list(other.runs()) == ["r1"]


@pytest.mark.parametrize("reads", range(7))
def test_a_pull_that_fails_at_any_read_adds_nothing_incomplete_and_continues(store, other, url, monkeypatch, reads):
    """The reads: record (listed, read), manifest (listed, read), table, two files."""
    monkeypatch.setattr(remote, "_AT_ONCE", 1)
    make_artifact(store, A)
    store.save_run("r1", run_record(A))
    RemoteStore(url).push(store)
    with pytest.raises(MachineError, match="connection lost"):
        Failing(url, reads=reads).pull(other)
    assert other.keys() == [] and other.runs() == {}
    assert RemoteStore(url).pull(other)[:2] == (1, 2 if reads < 6 else 1)
    assert contents(other, A) == contents(store, A)


def test_damage_is_found_by_digest_and_files_of_another_size_are_sent_again(store, other, tmp_path):
    url = str(tmp_path / "shared")
    make_artifact(store, A, one="11")
    RemoteStore(url).push(store)
    (path,) = [p for p in (tmp_path / "shared" / "files").rglob("*") if p.is_file() and p.read_bytes() == b"11"]
    path.write_bytes(b"12")
    with pytest.raises(ArtifactError, match=rf"{path.name} is damaged \(its digest differs\); remove it, and push"):
        RemoteStore(url).pull(other)
    assert other.keys() == []
    path.write_bytes(b"1")
    (tmp_path / "shared" / "artifacts" / f"{A}.json").unlink()
    assert RemoteStore(url).push(store) == (1, 1, 2)
    assert RemoteStore(url).pull(other)[0] == 1


def test_a_file_that_is_missing_there_is_named(store, other, tmp_path):
    make_artifact(store, A, one="11")
    RemoteStore(str(tmp_path / "shared")).push(store)
    for path in (tmp_path / "shared" / "files").rglob("*"):
        path.is_file() and path.unlink()
    with pytest.raises(ArtifactError, match="a file is missing: .*; push its artifact again"):
        RemoteStore(str(tmp_path / "shared")).pull(other)


def test_a_damaged_file_here_is_not_sent(store, url):
    artifact = make_artifact(store, A, one="11")
    (artifact.folder / "seeds" / "one.png").write_bytes(b"12")
    with pytest.raises(ArtifactError, match="--repair"):
        RemoteStore(url).push(store)


@pytest.mark.parametrize("table", [b"0" * 64 + b" 1 ../../outside\n", b"0" * 64 + b" 1 /outside\n", b"nothing\n"])
def test_a_table_whose_files_leave_the_folder_is_refused(store, other, url, table):
    """Whoever can write to the shared place can write any table with correct digests."""
    folder = forge_artifact(store, A, table=table)
    there = RemoteStore(url)
    there._write(there._file(remote._digest(table)), table)
    there._write(there._manifest(A), (folder / "manifest.json").read_bytes())
    with pytest.raises(ArtifactError, match="damaged .*; remove it, and push again"):
        RemoteStore(url).pull(other)
    assert other.keys() == []


def test_a_manifest_of_another_artifact_is_refused(store, other, url):
    artifact = make_artifact(store, A)
    RemoteStore(url).push(store)
    there = RemoteStore(url)
    there._write(there._manifest(B), (artifact.folder / "manifest.json").read_bytes())
    with pytest.raises(ArtifactError, match="is damaged"):
        there.pull(other)
    assert other.get(B) is None


def test_files_of_an_unfinished_run_are_used_if_they_are_equal_and_removed_if_not(store, other, url):
    make_artifact(store, A, one="1", two="2")
    RemoteStore(url).push(store)
    work = other.open_work(A) / "seeds"
    work.mkdir()
    for name, text in (("one.png", "1"), ("two.png", "x"), ("three.png", "3")):
        (work / name).write_text(text)
    assert RemoteStore(url).pull(other) == (1, 1, 1)
    assert contents(other, A) == contents(store, A)


def test_places_that_cannot_be_used_are_one_line(tmp_path, monkeypatch, other):
    with pytest.raises(ArtifactError, match="typo: no artifacts there; send some with: wsseg store push .*typo"):
        RemoteStore(str(tmp_path / "typo")).pull(other)
    with pytest.raises(ArtifactError, match=r"nowhere://x: Protocol not known: nowhere; expected: s3://BUCKET/FOLDER"):
        RemoteStore("nowhere://x")

    def without_s3fs(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without_s3fs)
    with pytest.raises(
        MissingExtraError, match=r"s3://bucket: Install s3fs to access S3; run: pip install 'wsseg\[remote\]'"
    ):
        RemoteStore("s3://bucket")


@pytest.mark.slow
def test_the_commands(store, tmp_path):
    make_artifact(store, A)
    store.save_run("r1", run_record(A))
    done = commands.run("store", "push", tmp_path / "shared", "--store", store.root)
    assert done.stdout == "sent 1 artifact: 2 files, 0.0 MiB\n" and done.returncode == 0, done.stderr
    done = commands.run("store", "pull", tmp_path / "shared", "r1", "--store", tmp_path / "new")
    assert done.stdout == "fetched 1 artifact: 2 files, 0.0 MiB\n", done.stderr
    assert json.loads(commands.run("show", "r1", "--store", tmp_path / "new").stdout)["status"] == "finished"
    done = commands.run("store", "pull", tmp_path / "shared", "r2", "--store", tmp_path / "new")
    assert done.returncode == 1 and done.stderr.startswith("error: r2: no such run in ") and "known: r1" in done.stderr
