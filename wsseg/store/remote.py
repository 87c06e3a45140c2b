"""A shared copy of artifacts and run records under any URL that fsspec knows: ``s3://``, ``gs://``, ``sftp://``, a folder.

    files/ab/DIGEST       the bytes of one file, named by their sha256; artifacts share equal files
    artifacts/KEY.json    the manifest of an artifact, written when all of its files are there
    runs/ID.json          the record of a run, written when all of its artifacts are there

Nothing complete is overwritten, so several machines can push at the same time. Everything that is read is compared with its
digest. A file system without atomic writes may keep a part of a file: a part of a manifest or record is no JSON, so that
it counts as absent, and other parts differ in size.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsseg.errors import ArtifactError, MachineError, MissingExtraError, WssegError, extra
from wsseg.parallel import map_threads
from wsseg.progress import track
from wsseg.store.artifact import FILES, MANIFEST, Artifact
from wsseg.store.files import atomic_write
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_run, full_name, read_record
from wsseg.store.table import parse_table

log = logging.getLogger("wsseg")
_AT_ONCE = 16  # requests; most of a request's time is spent waiting


class RemoteStore:
    """Artifacts and run records under a URL.

    Args:
        url: any URL of fsspec, or a folder.

    Raises:
        MissingExtraError: the package for URLs of this kind is not installed.
        ArtifactError: the URL is of an unknown kind.
    """

    def __init__(self, url: str) -> None:
        with extra("remote", f"{url}"):
            import fsspec
        self.url = url
        try:
            self._files, path = fsspec.core.url_to_fs(url)
        except ImportError as error:  # fsspec names the package
            how = "; run: pip install 'wsseg[remote]'" if url.startswith("s3://") else ""
            raise MissingExtraError(f"{url}: {error}{how}") from error
        except ValueError as error:
            known = "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, sftp://HOST/FOLDER or a folder"
            raise ArtifactError(f"{url}: {error}; expected: {known}") from error
        self._root = path.rstrip("/")

    def push(self, store: ArtifactStore, run: str | None = None) -> tuple[int, int, int]:
        """Send the finished artifacts of a run, or of all runs, with the records of the runs.

        Args:
            store: the store on this machine.
            run: the id of a run or its first characters; None for all artifacts and runs.

        Returns:
            The number of artifacts and of files that were sent, and the number of bytes.

        Raises:
            ArtifactError: the run does not exist, or a file is damaged.
            MachineError: the remote store cannot be reached or written.
        """
        runs = store.runs() if run is None else dict([find_run(store, run)])
        keys = store.keys() if run is None else _keys_of(runs.values())
        artifacts = [artifact for artifact in map(store.get, keys) if artifact is not None]
        with self._explained():
            new = [artifact for artifact in artifacts if self._json(self._manifest(artifact.key)) is None]
            counts = [self._push_artifact(artifact) for artifact in track(new, len(new), "pushed", "artifacts")]
            present = {artifact.key for artifact in artifacts}
            for run_id, record in runs.items():
                if record["status"] == "running" or not present.issuperset(_keys_of([record])):
                    log.info("%s: its record is not sent, because it is %s", run_id, _incomplete(record, present))
                elif self._json(self._record(run_id)) is None:
                    self._write(self._record(run_id), json.dumps({"format": 1, **record}, indent=1).encode())
        return len(new), sum(files for files, _ in counts), sum(size for _, size in counts)

    def pull(self, store: ArtifactStore, run: str | None = None) -> tuple[int, int, int]:
        """Fetch the artifacts of a run, or all artifacts and runs, that the store on this machine lacks.

        Args:
            store: the store on this machine.
            run: the id of a run or its first characters; None for all artifacts and runs.

        Returns:
            The number of artifacts and of files that were fetched, and the number of bytes.

        Raises:
            ArtifactError: the run does not exist, or a file differs from its digest.
            MachineError: the remote store cannot be reached.
        """
        with self._explained():
            ids = self._list("runs")
            if run is not None:
                chosen = full_name(run, ids, "runs")
                if chosen is None:
                    raise ArtifactError(f"{run}: no such run in {self.url}; known: {', '.join(ids[-8:]) or 'none'}")
                ids = [chosen]
            records = {run_id: self._read_record(run_id) for run_id in ids}
            keys = _keys_of(records.values())
            if run is None:
                keys = sorted({*keys, *self._list("artifacts")})
            if not keys and not ids:
                raise ArtifactError(f"{self.url}: no artifacts there; send some with: wsseg store push {self.url}")
            new = [key for key in keys if store.get(key) is None]
            counts = [self._pull_artifact(store, key) for key in track(new, len(new), "pulled", "artifacts")]
        for run_id, record in records.items():
            if not store.has_run(run_id):
                store.save_run(run_id, record)
        return len(new), sum(files for files, _ in counts), sum(size for _, size in counts)

    def _push_artifact(self, artifact: Artifact) -> tuple[int, int]:
        """Send the missing files of an artifact, then its manifest; returns the number of files and of bytes."""

        def send(entry: tuple[str, tuple[int, str]]) -> int:
            name, (size, digest) = entry
            if self._size(self._file(digest)) == size:
                return 0
            self._write(self._file(digest), artifact.read_bytes(name))
            return size

        sizes = list(map_threads(send, artifact.files.items(), _AT_ONCE))
        table = (artifact.folder / FILES).read_bytes()  # `files` has compared it with its digest
        self._write(self._file(hashlib.sha256(table).hexdigest()), table)
        self._write(self._manifest(artifact.key), (artifact.folder / MANIFEST).read_bytes())
        return sum(size > 0 for size in sizes), sum(sizes)

    def _pull_artifact(self, store: ArtifactStore, key: str) -> tuple[int, int]:
        """Fetch an artifact into the store; returns the number of files and of bytes."""
        manifest = self._read(self._manifest(key))
        try:
            table = self._read_file(str(json.loads(manifest)["files_sha256"]))
            files = parse_table(table)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{self._manifest(key)}: damaged ({error}); remove it, and push again") from error
        with store.lock(key):
            if store.get(key) is not None:  # another process has made it in the meantime
                return 0, 0
            work = store.open_work(key)

            def fetch(entry: tuple[str, tuple[int, str]]) -> int:
                name, (size, digest) = entry
                path = work / name
                if path.is_file() and path.stat().st_size == size and _digest(path.read_bytes()) == digest:
                    return 0  # fetched or computed before an interruption
                atomic_write(path, self._read_file(digest))
                return size

            sizes = list(map_threads(fetch, files.items(), _AT_ONCE))
            store.receive(key, manifest, table)
        return sum(size > 0 for size in sizes), sum(sizes)

    def _read_record(self, run_id: str) -> dict[str, Any]:
        """Return the record of a remote run, checked like one of this machine."""
        with tempfile.TemporaryDirectory(prefix="wsseg-pull-") as folder:
            path = Path(folder, f"{run_id}.json")
            path.write_bytes(self._read(self._record(run_id)))
            return read_record(path)

    def _read_file(self, digest: str) -> bytes:
        data = self._read(self._file(digest))
        if _digest(data) != digest:
            raise ArtifactError(
                f"{self._file(digest)} is damaged (its digest differs); remove it, and push its artifact again"
            )
        return data

    # --- places ---

    def _file(self, digest: str) -> str:
        return f"{self._root}/files/{digest[:2]}/{digest}"

    def _manifest(self, key: str) -> str:
        return f"{self._root}/artifacts/{key}.json"

    def _record(self, run_id: str) -> str:
        return f"{self._root}/runs/{run_id}.json"

    # --- access ---

    def _write(self, path: str, data: bytes) -> None:
        """Write a file. A file system without atomic writes may leave a part of it, which `_size` and digests reveal."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, data)

    def _read(self, path: str) -> bytes:
        data: bytes = self._files.cat_file(path)
        return data

    def _json(self, path: str) -> Any:
        """Return the content of a JSON file, None if there is no complete one."""
        try:
            return json.loads(self._read(path))
        except (FileNotFoundError, ValueError):
            return None

    def _size(self, path: str) -> int:
        """Return the size of a file in bytes, -1 if there is none."""
        try:
            return int(self._files.info(path)["size"])
        except FileNotFoundError:
            return -1

    def _list(self, folder: str) -> list[str]:
        """Return the names, without ``.json``, of the complete JSON files in a folder."""
        try:
            paths = self._files.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        names = [path.rpartition("/")[2] for path in paths if path.endswith(".json")]
        complete = map_threads(lambda name: self._json(f"{self._root}/{folder}/{name}") is not None, names, _AT_ONCE)
        return sorted(n.removesuffix(".json") for n, is_complete in zip(names, complete, strict=True) if is_complete)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of a file system, each of which has exceptions of its own, into a MachineError."""
        self._files.invalidate_cache()  # other machines write as well
        try:
            yield
        except WssegError:
            raise
        except FileNotFoundError as error:
            raise ArtifactError(f"{self.url}: a file is missing: {error}; push its artifact again") from error
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MachineError(
                f"{self.url}: {reason}; nothing incomplete is visible there; run the same command again to continue"
            ) from error


def _keys_of(records: Iterable[dict[str, Any]]) -> Sequence[str]:
    return sorted({step["key"] for record in records for step in record["steps"].values()})


def _incomplete(record: Mapping[str, Any], present: Set[str]) -> str:
    """Return why a run's record is not sent."""
    missing = [name for name, step in record["steps"].items() if step["key"] not in present]
    return f"without the artifacts of {', '.join(missing)}" if missing else "running"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
