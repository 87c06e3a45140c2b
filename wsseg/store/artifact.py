"""One complete artifact, and the names of the files in its folder."""

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
from wsseg.store.table import FileTable, parse_table

MANIFEST = "manifest.json"
FILES = "files.txt"
CHECKPOINT = "checkpoint.safetensors"  # a training keeps it until its artifact is complete


@dataclass(frozen=True)
class Artifact:
    """A complete artifact. Every read verifies the digest, so damaged data is never used silently.

    Args:
        key: the artifact's key.
        folder: ``objects/<key>``.
        manifest: kind, inputs, config, environment and metrics of the artifact.
    """

    key: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The kind of artifact, such as ``seeds`` or ``segmenter``."""
        return str(self.manifest["kind"])

    @cached_property
    def files(self) -> FileTable:
        """(size in bytes, sha256) of each file by its relative name."""
        return self._read_table()

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            ArtifactError: the artifact has no such file, or the file is missing or differs from its digest.
        """
        if name not in self.files:
            raise ArtifactError(f"artifact {self.key[:12]} ({self.manifest['step']}) has no file {name!r}")
        size, digest = self.files[name]
        data = self._read(name, size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._damaged(name)
        return data

    def read_json(self, name: str) -> Any:
        """Return the content of one JSON file."""
        return json.loads(self.read_bytes(name))

    def ids(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted item ids of the files ``folder/ID.suffix``."""
        return sorted(
            name[len(folder) + 1 : -len(suffix)]
            for name in self.files
            if name.startswith(folder + "/") and name.endswith(suffix)
        )

    def damaged_files(self, content: bool = True) -> list[str]:
        """Return the names of missing or damaged files.

        Args:
            content: compare digests; if False, only sizes are compared.
        """
        try:
            files = self._read_table()  # not kept: a plan checks many artifacts, and one may have a million files
        except ArtifactError:
            return [FILES]
        damaged = []
        for name, (size, digest) in files.items():
            path = self.folder / name
            try:
                if self._size_of(name) == size and (not content or file_digest(path) == (size, digest)):
                    continue
            except OSError:
                pass
            damaged.append(name)
        return damaged

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(size for size, _ in self._read_table().values())

    def _read_table(self) -> FileTable:
        text = self._read(FILES)
        if hashlib.sha256(text).hexdigest() != self.manifest["files_sha256"]:
            raise self._damaged(FILES)
        try:
            return parse_table(text)
        except ValueError as error:  # the digest matches, so the table was written like this on purpose
            raise ArtifactError(
                f"{self.folder / FILES}: {error}; this artifact is not used; rebuild it with --repair"
            ) from error

    def _read(self, name: str, size: int | None = None) -> bytes:
        try:
            actual = self._size_of(name)
            if size is not None and actual != size:
                raise self._damaged(name)
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name) from error

    @cached_property
    def _real_folders(self) -> set[str]:
        """Sub-folders that are known not to be links."""
        return {""}

    def _size_of(self, name: str) -> int:
        """Return the size of a regular file in bytes.

        Raises:
            OSError: the file or a folder on the way to it is a link, whose target does not belong to the artifact.
        """
        parent = name.rpartition("/")[0]
        if parent not in self._real_folders:
            if linked_part(self.folder, parent) is not None:
                raise OSError(f"{name} is behind a link")
            self._real_folders.add(parent)
        status = os.lstat(self.folder / name)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is not a regular file")
        return status.st_size

    def _damaged(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"{self.folder / name} is missing or damaged (its digest differs from the manifest); "
            "run the same command with --repair to rebuild it"
        )
