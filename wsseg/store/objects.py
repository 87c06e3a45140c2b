"""The store: keys, artifacts, unfinished work, locks and garbage collection."""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from wsseg.errors import ArtifactError, WssegError
from wsseg.store.artifact import CHECKPOINT, FILES, MANIFEST, Artifact
from wsseg.store.files import (
    FORMAT,
    TEMPORARY,
    atomic_write,
    canonical_json,
    check_format,
    files_below,
    linked_part,
    sync_folder,
)
from wsseg.store.runs import are_keys, read_record
from wsseg.store.table import parse_table, table_text

log = logging.getLogger("wsseg")
_REMOVED = ".removed"  # suffix of folders that are being removed
FOLDERS = ("objects", "work", "locks", "runs")
_KEY = re.compile(r"[0-9a-f]{64}")
_KEY_OR_REMOVED = re.compile(rf"{_KEY.pattern}({re.escape(_REMOVED)})?")


def key_of(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return an artifact's key (64 hexadecimal digits): the sha256 of all that its content depends on."""
    identity = {"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)}
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store."""
    # not "work": it is often empty, and some copy tools drop empty folders
    return all((folder / name).is_dir() for name in ("objects", "locks", "runs"))


def _run_lock(run_id: str) -> str:
    """Return the prefix of a run's lock names; it is hashed because an id may be as long as a file name can be."""
    return f"run-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}-"


def _is_manifest(manifest: Any) -> bool:
    """Return whether a manifest has all fields that readers of artifacts need."""
    return (
        isinstance(manifest, dict)
        and all(isinstance(manifest.get(name), str) for name in ("key", "kind", "step", "files_sha256"))
        and all(isinstance(manifest.get(name), dict) for name in ("metrics", "provenance"))
        and are_keys(manifest.get("inputs", {}))
    )


def _read_manifest(path: Path, key: str) -> dict[str, Any]:
    """Return the manifest of the artifact `key`.

    Raises:
        ArtifactError: it is missing, damaged, or of another artifact.
        FormatError: another version of wsseg wrote it in another format.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise ValueError("it is not a regular file")
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        digest = manifest.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is missing or damaged; run with --repair to rebuild it") from error
    if hashlib.sha256(canonical_json(manifest)).hexdigest() != digest or manifest.get("key") != key:
        raise ArtifactError(f"{path} is damaged (its digest differs); run with --repair to rebuild it")
    check_format(manifest, path)
    if not _is_manifest(manifest):
        raise ArtifactError(f"{path} is not a manifest of an artifact; run with --repair to rebuild it")
    return manifest


class ArtifactStore:
    """The store in one folder.

    Args:
        root: the folder.
        make: create the store if it does not exist; if False, a folder that is not a store is an error.

    Raises:
        ArtifactError: the folder cannot be created or written, or is not a store.
        FormatError: another version of wsseg created the store in another format.
    """

    def __init__(self, root: Path, make: bool = True) -> None:
        self.root = root.resolve()
        self._warned: set[Path] = set()  # damaged records that a warning has named
        exists = is_store(self.root)
        if not exists and not make:
            raise ArtifactError(
                f"{self.root}: there is no store; 'wsseg run' creates one; choose an existing one with --store"
            )
        try:
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if not exists:
                atomic_write(self.root / "store.json", json.dumps({"format": FORMAT}).encode() + b"\n")
        except OSError as error:
            raise ArtifactError(f"{self.root}: cannot be used as a store: {error.strerror}; choose --store") from error
        self._check_store_format()

    def _check_store_format(self) -> None:
        path = self.root / "store.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:  # early versions did not write it
            return
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f'{path}: cannot be read: {error}; expected: {{"format": {FORMAT}}}') from error
        check_format(content if isinstance(content, dict) else {"format": content}, path)

    def discard_empty(self) -> None:
        """Remove the store if it is empty: it was created in the wrong place."""
        with suppress(OSError):
            for name in FOLDERS:
                (self.root / name).rmdir()
            (self.root / "store.json").unlink(missing_ok=True)

    # --- artifacts ---

    def get(self, key: str) -> Artifact | None:
        """Return the complete artifact of `key`, or None.

        Raises:
            ArtifactError: `key` is not a key, the folder is a link, or the manifest is damaged.
            FormatError: another version of wsseg wrote the artifact in another format.
        """
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is not a key of an artifact; expected: 64 hexadecimal digits")
        folder = self.root / "objects" / key
        if folder.is_symlink():
            raise ArtifactError(f"{folder} is a link, which may lead out of the store; replace it by the folder itself")
        if not folder.is_dir():
            return None
        return Artifact(key, folder, _read_manifest(folder / MANIFEST, key))

    def keys(self) -> list[str]:
        """Return the keys of all complete artifacts."""
        return sorted(p.name for p in (self.root / "objects").iterdir() if _KEY.fullmatch(p.name) and p.is_dir())

    def has_work(self, key: str) -> bool:
        """Return whether the store holds an unfinished artifact of `key`."""
        return (self.root / "work" / key).is_dir()

    def open_work(self, key: str) -> Path:
        """Return ``work/<key>``, cleared of half-written files and of links. The caller holds the key's lock."""
        folder = self.root / "work" / key
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for name in files_below(folder):
            path = folder / name
            if path.name.startswith(TEMPORARY) or path.is_symlink():
                path.unlink()
        return folder

    def complete(self, key: str, manifest: Mapping[str, Any]) -> Artifact:
        """Turn ``work/<key>`` into an object: write digests and manifest, then rename. The caller holds the key's lock."""
        folder = self.root / "work" / key
        names = (name for name in files_below(folder) if name not in (MANIFEST, FILES, CHECKPOINT))
        table = table_text(folder, names)
        atomic_write(folder / FILES, table)
        body = {**manifest, "key": key, "files_sha256": hashlib.sha256(table).hexdigest()}
        body = json.loads(canonical_json(body))  # tuples become lists before the digest is computed
        body["sha256"] = hashlib.sha256(canonical_json(body)).hexdigest()
        atomic_write(folder / MANIFEST, json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode())
        return self._publish(key)

    def receive(self, key: str, manifest: bytes, table: bytes) -> Artifact:
        """Turn ``work/<key>`` into an object that another store has completed. The caller holds the key's lock.

        Args:
            key: the artifact's key.
            manifest: the bytes of its manifest.
            table: the bytes of its file table; ``work/<key>`` holds all of its files.

        Raises:
            ArtifactError: the manifest is of another artifact, or its digests do not fit.
        """
        folder = self.root / "work" / key
        files = parse_table(table)
        for name in [name for name in files_below(folder) if name not in files]:  # of an earlier, unfinished run here
            (folder / name).unlink()
        atomic_write(folder / FILES, table)
        atomic_write(folder / MANIFEST, manifest)
        received = Artifact(key, folder, _read_manifest(folder / MANIFEST, key))
        if damaged := received.damaged_files():
            raise ArtifactError(
                f"{folder}: received with damaged files: {', '.join(damaged[:5])}; run again to fetch them"
            )
        return self._publish(key)

    def _publish(self, key: str) -> Artifact:
        """Rename the complete folder ``work/<key>`` to its place among the objects."""
        folder, target = self.root / "work" / key, self.root / "objects" / key
        sync_folder(folder)
        folder.rename(target)
        sync_folder(target.parent)
        (target / CHECKPOINT).unlink(missing_ok=True)
        artifact = self.get(key)
        if artifact is None:
            raise ArtifactError(f"{target} disappeared while it was completed; is another program removing the store?")
        return artifact

    def reopen(self, key: str) -> list[str]:
        """Move a damaged object back to ``work/<key>`` without its damaged files, so that a run rebuilds only those.

        The caller holds the key's lock. If the manifest or the digests are damaged, no file can be trusted, and all
        files are removed.

        Returns:
            The names of the damaged files.
        """
        folder = self.root / "objects" / key
        try:
            artifact = self.get(key)
            damaged = [] if artifact is None else artifact.damaged_files()
        except ArtifactError:
            artifact, damaged = None, [MANIFEST]
        if folder.is_symlink():
            folder.unlink()  # the target of a link does not belong to the store
            return damaged
        if MANIFEST in damaged or FILES in damaged:
            shutil.rmtree(folder)
            return damaged
        work = self.root / "work" / key
        shutil.rmtree(work, ignore_errors=True)
        (folder / MANIFEST).unlink()  # first: the folder is no longer an artifact, even if this process dies now
        for name in [*damaged, FILES]:
            path = linked_part(folder, name) or folder / name
            if not path.parent.resolve().is_relative_to(folder.resolve()) or path.name in ("", ".", ".."):
                continue  # names are checked when the table is read; this keeps files outside safe if that check fails
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        folder.rename(work)
        return damaged

    @contextmanager
    def lock(self, key: str, blocking: bool = True) -> Iterator[bool]:
        """Hold the lock of `key` inside the block; yields whether it is held, which is always True if `blocking`."""
        lock = self._lock(key)
        try:
            lock.acquire(timeout=-1 if blocking else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, name: str) -> BaseFileLock:
        path = self.root / "locks" / name
        if path.is_symlink():
            path.unlink()  # a lock file is opened for writing, and the target of a link does not belong to the store
        return FileLock(path)

    # --- runs ---

    def save_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Write a run's record under the store's lock, so that `gc` removes no artifact of the run at the same time."""
        with self.lock("store"):
            self._write_run(run_id, record)

    def _write_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **record}, indent=1)
        atomic_write(self.root / "runs" / f"{run_id}.json", text.encode())

    @contextmanager
    def run_in_progress(self, run_id: str, record: Mapping[str, Any]) -> Iterator[None]:
        """Write a run's record, and protect its artifacts from `gc` inside the block, or until the process dies."""
        lock = self._lock(f"{_run_lock(run_id)}{secrets.token_hex(4)}")
        with self.lock("store"):
            lock.acquire()
            self._write_run(run_id, record)
        try:
            yield
        finally:
            lock.release()
            with suppress(OSError):
                Path(lock.lock_file).unlink()

    def is_running(self, run_id: str) -> bool:
        """Return whether a live process works on a run."""
        for path in (self.root / "locks").glob(f"{_run_lock(run_id)}*"):
            with self.lock(path.name, blocking=False) as held:
                if not held:
                    return True
        return False

    def runs(self, strict: bool = False) -> dict[str, dict[str, Any]]:
        """Return the records of all runs by id, oldest first.

        Args:
            strict: raise an error if a record cannot be read; if False, the record is skipped with a warning.

        Raises:
            ArtifactError, FormatError: if `strict`.
        """
        records = {}
        for path in sorted((self.root / "runs").glob("*.json")):
            if path.name.startswith(TEMPORARY):
                continue
            try:
                records[path.stem] = self.run(path.stem)
            except FileNotFoundError:
                continue  # another process has removed the run
            except WssegError as error:
                if strict:
                    raise
                if path not in self._warned:
                    log.warning("skipped: %s", error)
                    self._warned.add(path)
        return dict(sorted(records.items(), key=lambda pair: str(pair[1]["started"])))

    def has_run(self, run_id: str) -> bool:
        """Return whether a run has a record, readable or not."""
        return any(path.stem == run_id for path in (self.root / "runs").glob("*.json"))

    def run(self, run_id: str) -> dict[str, Any]:
        """Return the record of one run; see `wsseg.store.runs.read_record`."""
        return read_record(self.root / "runs" / f"{run_id}.json")

    def log_path(self, run_id: str) -> Path:
        """Return the path of the log of a run; there is none until the run has started."""
        return self.root / "runs" / f"{run_id}.log"

    # --- garbage collection ---

    def garbage(self, keep: int | None = None) -> tuple[list[Path], list[str]]:
        """Return (folders that no run refers to, ids of runs older than the newest `keep`).

        Runs in progress and files that do not look like an artifact are not listed.

        Raises:
            ArtifactError, FormatError: a run's record cannot be read, so its artifacts are not known.
        """
        runs = self.runs(strict=True)
        oldest = [] if keep is None else list(runs)[: max(0, len(runs) - keep)]
        dropped = [run_id for run_id in oldest if not self.is_running(run_id)]
        used = {s["key"] for run_id, run in runs.items() if run_id not in dropped for s in run["steps"].values()}
        folders = [
            path
            for part in ("objects", "work")
            for path in (self.root / part).iterdir()
            if _KEY_OR_REMOVED.fullmatch(path.name) and path.name not in used
        ]
        return sorted(folders), dropped

    def collect(self, keep: int | None = None) -> tuple[list[Path], list[str]]:
        """Remove what `garbage` lists, except for folders that another process works on; return what was removed."""
        removed = []
        with self.lock("store"):
            folders, dropped = self.garbage(keep)
            for run_id in dropped:
                for suffix in ("json", "html", "log"):
                    (self.root / "runs" / f"{run_id}.{suffix}").unlink(missing_ok=True)
            for folder in folders:
                with self.lock(folder.name, blocking=False) as held:
                    if held and folder.is_symlink():
                        folder.unlink()  # the target of a link does not belong to the store
                        removed.append(folder)
                    elif held and folder.is_dir():
                        # renamed first: a half-removed folder must never look like an object or unfinished work
                        doomed = self.root / "work" / f"{folder.name.removesuffix(_REMOVED)}{_REMOVED}"
                        if folder != doomed:
                            doomed.unlink() if doomed.is_symlink() else shutil.rmtree(doomed, ignore_errors=True)
                            folder.rename(doomed)
                        shutil.rmtree(doomed)
                        removed.append(folder)
            for path in (self.root / "locks").glob("run-*"):  # left by killed processes
                with self.lock(path.name, blocking=False) as held:
                    if held:
                        path.unlink(missing_ok=True)
        return removed, dropped
