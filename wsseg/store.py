"""The artifact store: content-addressed, atomic, locked, verified at every read.

Layout of a store folder::

    objects/<key>/   complete artifacts: manifest.json, files.txt (digests, sizes) and the stage's own files
    work/<key>/      unfinished artifacts; a later run goes on from the items or the checkpoint they hold
    locks/<key>      one lock a key, held by the process that works on it; released by the system when it dies
    locks/run-*      one lock a run in progress: `gc` keeps what it made
    runs/<id>.json   what each run was made of: recipe, resolved config, keys
    store.json       the format of all this
    outputs.txt      what commands wrote outside the store (`wsseg.outputs`)

An object appears by one directory rename, so it is complete or not there. Every file is written under a temporary
name, flushed to the disk and renamed. What is read is checked first: names and keys cannot leave their folder, links are
not followed, and a newer format is refused.
"""

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from wsseg.config import expand_home
from wsseg.errors import ArtifactError, FormatError, WssegError, nearest

log = logging.getLogger("wsseg")

FORMAT = 1  # of stores, manifests and records of runs; what names none is of the first
MANIFEST = "manifest.json"
FILES = "files.txt"
_REMOVED = ".removed"  # suffix of folders that are being removed
FOLDERS = ("objects", "work", "locks", "runs")
_KEY = re.compile(r"[0-9a-f]{64}")
_KEY_OR_REMOVED = re.compile(rf"{_KEY.pattern}({re.escape(_REMOVED)})?")
# a line of files.txt; its name stays below its folder on every system: no part of it is empty, "." or ".."
_PART = rb"(?!\.{0,2}[/\n])[^/\n\x00-\x1f\x7f\\" + (b":" if os.name == "nt" else b"") + rb"]++"
_LINE = re.compile(rb"[0-9a-f]{64} [0-9]{1,18} (?:" + _PART + rb"/)*+" + _PART + rb"\n")
_LINES = re.compile(rb"(?:" + _LINE.pattern + rb")*+")  # one pass in C: a million names take half a second
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
    """Flush a folder's entries (renames in it) to the disk, on systems that can: Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and shared folders that flush files alone
            raise
    finally:
        os.close(descriptor)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store."""
    return all(
        (folder / name).is_dir() for name in ("objects", "locks", "runs")
    )  # work is empty at times, and lost by copies


def check_format(content: Mapping[str, Any], where: Path) -> None:
    """Raise FormatError for what another version of wsseg wrote in another form."""
    found = content.get("format", FORMAT)
    if found != FORMAT or isinstance(found, bool):
        raise FormatError(
            f"{where}: its format is {found!r}; this wsseg reads format {FORMAT}; use the version of wsseg that wrote it"
        )


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

    Raises:
        ValueError: a line has another form, or a name would leave the artifact's folder.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        if not _LINES.fullmatch(text):
            wrong = next(line for line in text.splitlines(keepends=True) or [b""] if not _LINE.fullmatch(line))
            raise ValueError(f"a line is not 'DIGEST SIZE NAME' with a name that stays in its folder: {wrong[:200]!r}")
        text.decode()

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
        try:
            return FileTable(data)
        except ValueError as error:  # the digest is right: somebody made it so
            raise ArtifactError(
                f"{self.folder / FILES}: {error}; nothing of this artifact is used; rebuild it with --repair"
            ) from error

    def read_bytes(self, name: str) -> bytes:
        """Return one file's bytes; ArtifactError if it is missing or differs from its digest."""
        if name not in self.files:
            raise ArtifactError(f"artifact {self.key[:12]} ({self.manifest['step']}) has no file {name!r}")
        size, digest = self.files[name]
        data = self._read(name, size)
        if hashlib.sha256(data).hexdigest() != digest:
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
                if self._own_size(name) == size and (not content or file_digest(path) == (size, digest)):
                    continue
            except OSError:
                pass
            damaged.append(name)
        return damaged

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, (size, _) in self.files.items())

    def _read(self, name: str, size: int | None = None) -> bytes:
        try:
            found = self._own_size(name)
            if size is not None and found != size:
                raise self._damaged(name)
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name) from error

    @cached_property
    def _own_folders(self) -> set[str]:
        """Sub-folders that are known to be no links."""
        return {""}

    def _own_size(self, name: str) -> int:
        """Return the size of a regular file; OSError for a link, on the way to it too: what it names is not the artifact's."""
        parent = name.rpartition("/")[0]
        if parent not in self._own_folders:
            if linked_part(self.folder, parent) is not None:
                raise OSError(f"{name} lies behind a link")
            self._own_folders.add(parent)
        status = os.lstat(self.folder / name)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is not a regular file")
        return status.st_size

    def _damaged(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"{self.folder / name} is missing or damaged (its digest differs from the manifest); "
            "run the same command with --repair to rebuild it"
        )


def _run_lock(run_id: str) -> str:
    """Return how the names of a run's locks begin; ids may be as long as a file name can be."""
    return f"run-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}-"


def linked_part(folder: Path, name: str) -> Path | None:
    """Return the first part of a relative name below `folder` that is a link, or None."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            return path
    return None


def _is_manifest(manifest: Any) -> bool:
    """Return whether a manifest has what every reader of artifacts asks for."""
    return (
        isinstance(manifest, dict)
        and all(isinstance(manifest.get(name), str) for name in ("key", "kind", "step", "files_sha256"))
        and all(isinstance(manifest.get(name), dict) for name in ("metrics", "provenance"))
        and _are_keys(manifest.get("inputs", {}))
    )


def _is_record(record: Any) -> bool:
    """Return whether a run's record has what later runs and reports ask for."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("recipe", "config_name", "started", "status"))
        and isinstance(record.get("config", {}), dict)
        and isinstance(record.get("config_path", ""), str)
        and isinstance(record.get("steps"), dict)
        and all(_is_step(step) for step in record["steps"].values())
    )


def _is_step(step: Any) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("key"), str)
        and _KEY.fullmatch(step["key"]) is not None
        and isinstance(step.get("stage"), str)
        and isinstance(step.get("version"), int)
        and isinstance(step.get("config"), dict)
        and _are_keys(step.get("inputs"))
    )


def _are_keys(inputs: Any) -> bool:
    return isinstance(inputs, dict) and all(isinstance(key, str) for key in inputs.values())


class ArtifactStore:
    """The store in one folder.

    Args:
        root: the folder.
        make: whether it is made if it does not exist; if not, a folder that is no store is an error.

    Raises:
        ArtifactError: the folder cannot be made or written, or is no store.
        FormatError: another version of wsseg made it in another form.
    """

    def __init__(self, root: Path, make: bool = True) -> None:
        self.root = root.resolve()
        self._told: set[Path] = set()  # records that were warned of
        exists = is_store(self.root)
        if not exists and not make:
            raise ArtifactError(
                f"{self.root}: there is no store; 'wsseg run' makes one; if yours is elsewhere, name it with --store"
            )
        try:
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if not exists:
                atomic_write(self.root / "store.json", json.dumps({"format": FORMAT}).encode() + b"\n")
        except OSError as error:
            raise ArtifactError(f"{self.root}: cannot be used as a store: {error.strerror}; choose --store") from error
        self._check_own_format()

    def _check_own_format(self) -> None:
        path = self.root / "store.json"
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:  # stores had none once
            return
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f'{path}: cannot be read: {error}; expected: {{"format": {FORMAT}}}') from error
        check_format(content if isinstance(content, dict) else {"format": content}, path)

    def discard_empty(self) -> None:
        """Remove the store's own folders if nothing is in them: it was made in the wrong place."""
        with suppress(OSError):
            for name in FOLDERS:
                (self.root / name).rmdir()
            (self.root / "store.json").unlink(missing_ok=True)

    # --- artifacts ---

    def get(self, key: str) -> Artifact | None:
        """Return the complete artifact of `key`, or None.

        Raises:
            ArtifactError: `key` is none, the folder is a link, or the manifest is damaged.
            FormatError: another version of wsseg wrote it in another form.
        """
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"{key!r} is no key of an artifact; expected: 64 hexadecimal digits")
        folder = self.root / "objects" / key
        if folder.is_symlink():
            raise ArtifactError(f"{folder} is a link, which could lead out of the store; put the folder itself there")
        if not folder.is_dir():
            return None
        path = folder / MANIFEST
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise ValueError("it is not a regular file")
            manifest = json.loads(path.read_bytes())
            digest = manifest.pop("sha256")
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} is missing or damaged; run with --repair to rebuild it") from error
        if hashlib.sha256(canonical_json(manifest)).hexdigest() != digest or manifest.get("key") != key:
            raise ArtifactError(f"{path} is damaged (its digest differs); run with --repair to rebuild it")
        check_format(manifest, path)
        if not _is_manifest(manifest):
            raise ArtifactError(f"{path} is no manifest of an artifact; run with --repair to rebuild it")
        return Artifact(key, folder, manifest)

    def keys(self) -> list[str]:
        """Return the keys of all complete artifacts."""
        return sorted(p.name for p in (self.root / "objects").iterdir() if _KEY.fullmatch(p.name) and p.is_dir())

    def has_work(self, key: str) -> bool:
        """Return whether an unfinished artifact of `key` is kept."""
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
        if folder.is_symlink():
            folder.unlink()  # what it names is not the store's
            return damaged
        if MANIFEST in damaged or FILES in damaged:
            shutil.rmtree(folder)
            return damaged
        work = self.root / "work" / key
        shutil.rmtree(work, ignore_errors=True)
        (folder / MANIFEST).unlink()  # no longer an artifact, even if we die before the rename
        for name in [*damaged, FILES]:
            path = linked_part(folder, name) or folder / name
            if not path.parent.resolve().is_relative_to(folder.resolve()) or path.name in ("", ".", ".."):
                continue  # names are checked when the table is read; nothing outside is removed even if that fails
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        folder.rename(work)
        return damaged

    @contextmanager
    def lock(self, key: str, blocking: bool = True) -> Iterator[bool]:
        """Hold the lock of `key`; yields whether it is held (always, where `blocking`)."""
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
            path.unlink()  # a lock is opened for writing, and what it names is not the store's
        return FileLock(path)

    # --- runs ---

    def save_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Write a run's record. Held against `gc`, so that no key of it is removed in between."""
        with self.lock("store"):
            self._write_run(run_id, record)

    def _write_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **record}, indent=1)
        atomic_write(self.root / "runs" / f"{run_id}.json", text.encode())

    @contextmanager
    def run_in_progress(self, run_id: str, record: Mapping[str, Any]) -> Iterator[None]:
        """Write a run's record, and keep `gc` from what the run refers to inside the block, or until the process dies."""
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
        """Return whether a living process works on a run."""
        for path in (self.root / "locks").glob(f"{_run_lock(run_id)}*"):
            with self.lock(path.name, blocking=False) as held:
                if not held:
                    return True
        return False

    def runs(self, strict: bool = False) -> dict[str, dict[str, Any]]:
        """Return all runs' records by id, oldest first.

        Args:
            strict: whether a record that cannot be read is an error; if not, it is left out with a warning.

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
                continue  # forgotten by another process meanwhile
            except WssegError as error:
                if strict:
                    raise
                if path not in self._told:
                    log.warning("left out: %s", error)
                    self._told.add(path)
        return dict(sorted(records.items(), key=lambda pair: str(pair[1]["started"])))

    def has_run(self, run_id: str) -> bool:
        """Return whether there is a record of a run, readable or not."""
        return any(path.stem == run_id for path in (self.root / "runs").glob("*.json"))

    def run(self, run_id: str) -> dict[str, Any]:
        """Return the record of one run.

        Raises:
            ArtifactError: it is damaged.
            FormatError: another version of wsseg wrote it in another form.
            FileNotFoundError: there is none.
        """
        path = self.root / "runs" / f"{run_id}.json"
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ValueError("it is not a regular file")
            record = json.loads(path.read_bytes())
            if isinstance(record, dict):
                check_format(record, path)
            if not _is_record(record):
                raise ValueError("it is no record of a run")
        except FileNotFoundError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is damaged: {error}; delete it if the run is no longer wanted") from error
        return {"config": {}, "config_path": "", **record}

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
        unfinished = ""
        for run_id, run in reversed(self.runs().items()):
            steps |= set(run["steps"])
            if run_name in ("", run_id) and step in run["steps"]:
                artifact = self.get(run["steps"][step]["key"])
                if artifact:
                    return artifact
                unfinished = unfinished or self._why_absent(run_id, run, run["steps"][step]["key"])
        if unfinished:
            raise ArtifactError(f"{reference}: {unfinished}")
        what = "it is a folder, but not of a finished artifact" if folder.is_dir() else "no such artifact"
        raise ArtifactError(
            f"{reference}: {what} in {self.root}; expected: a key, an artifact's folder, or a step of a run "
            f"({', '.join(sorted(steps)) or 'there is no run yet'}){nearest(step, steps)}"
        )

    def _why_absent(self, run_id: str, run: Mapping[str, Any], key: str) -> str:
        """Return why a step of a run has no artifact, and what to do."""
        again = f"'wsseg run {run['recipe']} -c {run['config_path'] or run['config_name']}'"
        if self.is_running(run_id):
            return f"run {run_id} is in progress and has not finished this step"
        if self.has_work(key):
            return f"run {run_id} ({run['status']}) did not finish this step; {again} resumes it"
        return f"run {run_id} ({run['status']}) has no artifact of this step: it did not get there, or it was removed; {again} makes it"

    # --- care ---

    def garbage(self, keep: int | None = None) -> tuple[list[Path], list[str]]:
        """Return (folders that no run refers to, ids of runs older than the newest `keep`).

        Runs in progress are kept, and so is everything in the store that does not look like an artifact.

        Raises:
            ArtifactError, FormatError: a run's record cannot be read, so it is not known what it refers to.
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
        """Remove what `garbage` lists, but nothing that another process works on; return what was removed."""
        removed = []
        with self.lock("store"):
            folders, dropped = self.garbage(keep)
            for run_id in dropped:
                for suffix in ("json", "html"):
                    (self.root / "runs" / f"{run_id}.{suffix}").unlink(missing_ok=True)
            for folder in folders:
                with self.lock(folder.name, blocking=False) as held:
                    if held and folder.is_symlink():
                        folder.unlink()  # what it names is not the store's
                        removed.append(folder)
                    elif held and folder.is_dir():
                        # out of the way in one rename: what is removed by half must never look like an object or work
                        doomed = self.root / "work" / f"{folder.name.removesuffix(_REMOVED)}{_REMOVED}"
                        if folder != doomed:
                            doomed.unlink() if doomed.is_symlink() else shutil.rmtree(doomed, ignore_errors=True)
                            folder.rename(doomed)
                        shutil.rmtree(doomed)
                        removed.append(folder)
            for path in (self.root / "locks").glob("run-*"):  # of processes that were killed
                with self.lock(path.name, blocking=False) as held:
                    if held:
                        path.unlink(missing_ok=True)
            if removed:  # what reports remember of artifacts, some of which are gone: made anew where it is wanted
                shutil.rmtree(self.root / "reports", ignore_errors=True)
        return removed, dropped
