"""The artifact store: content-addressed, atomic, locked, verified at every read.

Layout of a store folder::

    objects/<key>/   complete artifacts: manifest.json, files.txt (digests, sizes) and the stage's own files
    work/<key>/      unfinished artifacts; a later run goes on from the items or the checkpoint they hold
    locks/<key>      one lock a key, held by the process that works on it; released by the system when it dies
    runs/<id>.json   what each run was made of: recipe, resolved config, keys

An object appears by one directory rename, so it is complete or not there. Every file is written under a temporary
name, flushed to the disk and renamed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wsseg.config import expand_home
from wsseg.errors import ArtifactError, nearest

MANIFEST = "manifest.json"
FILES = "files.txt"
_REMOVED = ".removed"  # suffix of folders that are being removed
_RUN_KEYS = {"recipe", "config_name", "started", "status", "steps"}
CHECKPOINT = "checkpoint.safetensors"  # what a training keeps only until its artifact is complete
TEMPORARY = ".partial-"  # prefix of files that are being written


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of `value` that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def key_of(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return an artifact's key: sha256 over what goes in, never over what comes out (64 hex digits)."""
    identity = {"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)}
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that `path` holds all of it or does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name[-40:]}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (renames in it) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative names (with /) of all files below a folder; a folder at a time is held in memory."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{prefix}{entry.name}/")
                else:
                    yield prefix + entry.name


def file_digest(path: Path) -> tuple[int, str]:
    """Return (bytes, sha256 hex) of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest


class FileTable(Mapping[str, tuple[int, str]]):
    """(size in bytes, sha256) of each file of an artifact by its relative name, looked up in the text of ``files.txt``.

    A line is ``DIGEST SIZE NAME``, sorted by the bytes of the names: a lookup is a bisection, and a million files take no
    more memory than their text.

    Args:
        text: the whole file, whose digest was compared already.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> "FileTable":
        """Read the files `names` below `folder` and tell of them."""
        lines = sorted(name.encode() for name in names)
        for index, name in enumerate(lines):  # in place: at no time there are two lists
            size, digest = file_digest(folder / name.decode())
            lines[index] = b"%s %d %s\n" % (digest.encode(), size, name)
        return cls(b"".join(lines))

    @property
    def text(self) -> bytes:
        """The content of ``files.txt``."""
        return self._text

    def __getitem__(self, name: str) -> tuple[int, str]:
        wanted, low, high = name.encode(), 0, len(self._text)
        while low < high:  # a line that begins in [low, high) may be the one
            start = self._text.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._text.index(b"\n", start)
            digest, size, found = self._text[start:end].split(b" ", 2)
            if found == wanted:
                return int(size), digest.decode()
            low, high = (end + 1, high) if found < wanted else (low, start)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def items(self) -> Iterator[tuple[str, tuple[int, str]]]:  # type: ignore[override]
        """Yield (name, (size, digest)), one after the other."""
        start = 0
        while start < len(self._text):
            end = self._text.index(b"\n", start)
            digest, size, name = self._text[start:end].split(b" ", 2)
            yield name.decode(), (int(size), digest.decode())
            start = end + 1

    def __len__(self) -> int:
        return self._text.count(b"\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTable) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True)
class Artifact:
    """A complete artifact. Every read checks the digest, so damage is never used in silence.

    Args:
        key: the artifact's key.
        folder: ``objects/<key>``.
        manifest: what it is, what it was made of and with, and its metrics.
    """

    key: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @cached_property
    def files(self) -> FileTable:
        """(size in bytes, sha256) of each file by its relative name."""
        data = self._read(FILES)
        if hashlib.sha256(data).hexdigest() != self.manifest["files_sha256"]:
            raise self._damaged(FILES)
        return FileTable(data)

    def read_bytes(self, name: str) -> bytes:
        """Return one file's bytes; ArtifactError where it is missing or differs from its digest."""
        if name not in self.files:
            raise ArtifactError(f"artifact {self.key[:12]} ({self.manifest['step']}) has no file {name!r}")
        data = self._read(name)
        if hashlib.sha256(data).hexdigest() != self.files[name][1]:
            raise self._damaged(name)
        return data

    def read_json(self, name: str) -> Any:
        """Return one JSON file's content."""
        return json.loads(self.read_bytes(name))

    def ids(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted item ids of the files ``folder/ID.suffix``."""
        return sorted(
            name[len(folder) + 1 : -len(suffix)]
            for name in self.files
            if name.startswith(folder + "/") and name.endswith(suffix)
        )

    def damaged_files(self, content: bool = True) -> list[str]:
        """Return the names of missing or damaged files; with `content` False only sizes are compared."""
        try:
            expected = self.files
        except ArtifactError:
            return [FILES]
        damaged = []
        for name, (size, digest) in expected.items():
            path = self.folder / name
            try:
                found = file_digest(path) if content else (path.stat().st_size, digest)
            except OSError:
                damaged.append(name)
                continue
            if found != (size, digest):
                damaged.append(name)
        return damaged

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, (size, _) in self.files.items())

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name) from error

    def _damaged(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"{self.folder / name} is missing or damaged (its digest differs from the manifest); "
            "run the same command with --repair to rebuild it"
        )


def _are_steps(steps: Any) -> bool:
    """Return whether a run's record tells of each step what later runs ask it for."""
    return isinstance(steps, dict) and all(
        isinstance(step, dict)
        and {"key", "stage", "version"} <= set(step)
        and all(isinstance(step.get(name), dict) for name in ("config", "inputs"))
        for step in steps.values()
    )


class ArtifactStore:
    """The store in one folder; it is made where it does not exist.

    Raises:
        ArtifactError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        try:
            for name in ("objects", "work", "locks", "runs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.root}: cannot be used as a store: {error.strerror}; choose --store") from error

    # --- artifacts ---

    def get(self, key: str) -> Artifact | None:
        """Return the complete artifact of `key`, or None. A damaged manifest raises ArtifactError."""
        folder = self.root / "objects" / key
        if not folder.is_dir():
            return None
        path = folder / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            digest = manifest.pop("sha256")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{path} is missing or damaged; run with --repair to rebuild it") from error
        if hashlib.sha256(canonical_json(manifest)).hexdigest() != digest or manifest.get("key") != key:
            raise ArtifactError(f"{path} is damaged (its digest differs); run with --repair to rebuild it")
        return Artifact(key, folder, manifest)

    def keys(self) -> list[str]:
        """Return the keys of all complete artifacts."""
        return sorted(p.name for p in (self.root / "objects").iterdir() if p.is_dir())

    def has_work(self, key: str) -> bool:
        """Return whether an unfinished artifact of `key` is kept."""
        return (self.root / "work" / key).is_dir()

    def open_work(self, key: str) -> Path:
        """Return ``work/<key>``, cleared of half-written files. The caller holds the key's lock."""
        folder = self.root / "work" / key
        folder.mkdir(parents=True, exist_ok=True)
        for name in files_below(folder):
            if name.rpartition("/")[2].startswith(TEMPORARY):
                (folder / name).unlink()
        return folder

    def complete(self, key: str, manifest: Mapping[str, Any]) -> Artifact:
        """Turn ``work/<key>`` into an object: digests, manifest, one rename. The caller holds the key's lock."""
        folder = self.root / "work" / key
        names = (name for name in files_below(folder) if name not in (MANIFEST, FILES, CHECKPOINT))
        files = FileTable.of(folder, names)
        atomic_write(folder / FILES, files.text)
        body = {**manifest, "key": key, "files_sha256": hashlib.sha256(files.text).hexdigest()}
        body = json.loads(canonical_json(body))  # tuples become lists before the digest is taken
        body["sha256"] = hashlib.sha256(canonical_json(body)).hexdigest()
        atomic_write(folder / MANIFEST, json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode())
        sync_folder(folder)
        target = self.root / "objects" / key
        folder.rename(target)
        sync_folder(target.parent)
        (target / CHECKPOINT).unlink(missing_ok=True)
        artifact = self.get(key)
        if artifact is None:
            raise ArtifactError(f"{target} vanished while it was completed; is the store being removed?")
        return artifact

    def reopen(self, key: str) -> list[str]:
        """Take a damaged object back to ``work/<key>`` without its damaged files, so that a run rebuilds just those.

        Returns:
            The names of the files that were dropped (`MANIFEST` alone where the digests themselves are lost: then
            everything is dropped, because nothing can be trusted). The caller holds the key's lock.
        """
        folder = self.root / "objects" / key
        try:
            artifact = self.get(key)
            damaged = [] if artifact is None else artifact.damaged_files()
        except ArtifactError:
            artifact, damaged = None, [MANIFEST]
        if MANIFEST in damaged or FILES in damaged:
            shutil.rmtree(folder)
            return damaged
        work = self.root / "work" / key
        shutil.rmtree(work, ignore_errors=True)
        (folder / MANIFEST).unlink()  # no longer an artifact, even if we die before the rename
        for name in [*damaged, FILES]:
            (folder / name).unlink(missing_ok=True)
        folder.rename(work)
        return damaged

    @contextmanager
    def lock(self, key: str, blocking: bool = True) -> Iterator[bool]:
        """Hold the lock of `key`; yields whether it is held (always, where `blocking`)."""
        lock = FileLock(self.root / "locks" / key)
        try:
            lock.acquire(timeout=-1 if blocking else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    # --- runs ---

    def save_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Write a run's record. Held against `gc`, so that no key of it is removed in between."""
        with self.lock("store"):
            atomic_write(self.root / "runs" / f"{run_id}.json", json.dumps(record, indent=1).encode())

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return all runs' records by id, oldest first; unreadable ones raise ArtifactError."""
        records = {}
        for path in sorted((self.root / "runs").glob("*.json")):
            try:
                record = json.loads(path.read_bytes())
                if not (isinstance(record, dict) and set(record) >= _RUN_KEYS and _are_steps(record["steps"])):
                    raise ValueError("it is no record of a run")
                records[path.stem] = record
            except FileNotFoundError:
                continue  # forgotten by another process meanwhile
            except (OSError, ValueError, RecursionError) as error:
                raise ArtifactError(f"{path} is damaged: {error}; delete it if the run is no longer wanted") from error
        return dict(sorted(records.items(), key=lambda pair: str(pair[1]["started"])))

    def resolve(self, reference: str) -> Artifact:
        """Return the artifact that a person means.

        Args:
            reference: a key or its first 4+ digits; a folder; a step of the newest run that has it, such as
                ``segmenter``; or ``RUN:STEP``.

        Raises:
            ArtifactError: nothing or several things match.
            ConfigError: a path of an unknown ``~user``.
        """
        folder = Path(expand_home(reference))
        name = folder.resolve().name if folder.is_dir() and (folder / MANIFEST).is_file() else reference
        if re.fullmatch(r"[0-9a-f]{4,64}", name):
            matches = [key for key in self.keys() if key.startswith(name)]
            if len(matches) > 1:
                raise ArtifactError(f"{reference}: {len(matches)} keys start so; give more digits")
            if matches and (artifact := self.get(matches[0])):
                return artifact
            if folder.is_dir():
                raise ArtifactError(f"{reference}: an artifact of another store; choose it with --store")
        run_name, _, step = reference.rpartition(":")
        steps: set[str] = set()
        for run_id, run in reversed(self.runs().items()):
            steps |= set(run["steps"])
            if run_name in ("", run_id) and step in run["steps"]:
                artifact = self.get(run["steps"][step]["key"])
                if artifact:
                    return artifact
        raise ArtifactError(
            f"{reference}: no such artifact in {self.root}; legal: a key, an artifact's folder, or a step of a run "
            f"({', '.join(sorted(steps)) or 'there is no run yet'}){nearest(step, steps)}"
        )

    # --- care ---

    def garbage(self, keep: int | None = None) -> tuple[list[Path], list[str]]:
        """Return (folders that no run refers to, ids of runs older than the newest `keep`)."""
        runs = self.runs()
        dropped = [] if keep is None else list(runs)[: max(0, len(runs) - keep)]
        used = {s["key"] for run_id, run in runs.items() if run_id not in dropped for s in run["steps"].values()}
        folders = [p for part in ("objects", "work") for p in (self.root / part).iterdir() if p.name not in used]
        return sorted(folders), dropped

    def collect(self, keep: int | None = None) -> tuple[list[Path], list[str]]:
        """Remove what `garbage` lists, but nothing that another process works on; return what was removed."""
        removed = []
        with self.lock("store"):
            folders, dropped = self.garbage(keep)
            for run_id in dropped:
                for suffix in ("json", "html"):
                    (self.root / "runs" / f"{run_id}.{suffix}").unlink(missing_ok=True)
            for folder in folders:
                with self.lock(folder.name, blocking=False) as held:
                    if held and folder.is_dir():
                        # out of the way in one rename: what is removed by half must never look like an object or work
                        doomed = self.root / "work" / f"{folder.name.removesuffix(_REMOVED)}{_REMOVED}"
                        if folder != doomed:
                            shutil.rmtree(doomed, ignore_errors=True)
                            folder.rename(doomed)
                        shutil.rmtree(doomed)
                        removed.append(folder)
            if removed:  # what reports remember of artifacts, some of which are gone: made anew where it is wanted
                shutil.rmtree(self.root / "reports", ignore_errors=True)
        return removed, dropped
