"""One complete artifact, and the names of what lies in its folder."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsseg.errors import ArtifactError
from wsseg.store.files import file_digest, linked_part
from wsseg.store.table import FileTable

MANIFEST = "manifest.json"
FILES = "files.txt"
CHECKPOINT = "checkpoint.safetensors"  # what a training keeps only until its artifact is complete


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
