"""Files that commands write outside the store. All commands follow the same rules:

- An output is never an input, and is never written to a place where the next call would read it as an input.
- A file is replaced only if wsseg has written it and it is unchanged, or if ``--overwrite`` is given.
- A file is written under a temporary name and renamed, so that a failure leaves the former file intact.

The written files are recorded beside them (`wsseg.data.written`), so that no command reads them as photographs or labels.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wsseg.data.walk import is_image
from wsseg.data.written import RECORD, read_record, record_output
from wsseg.errors import OutputError
from wsseg.names import composed, printable
from wsseg.progress import log
from wsseg.store.files import TEMPORARY, atomic_write, file_digest
from wsseg.store.objects import FOLDERS, is_store

_NAMED = 5  # files that an error names; the others are counted


class Outputs:
    """The files that one command writes.

    Args:
        inputs: files and folders that the command reads.
        overwrite: whether files that wsseg has not written may be replaced.
        as_data: whether the files are a data set for later commands. They are not recorded, and count as the user's.
    """

    def __init__(self, inputs: Iterable[Path] = (), overwrite: bool = False, as_data: bool = False) -> None:
        self._overwrite, self._as_data = overwrite, as_data
        self._files: set[Hashable] = set()
        self._folders: dict[Hashable, Path] = {}
        for path in inputs:
            try:
                status = path.stat()
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                self._folders[_identity(path, status)] = path
            else:
                self._files.add(_identity(path, status))
        self._places: dict[Path, tuple[Path, Path | None]] = {}
        self._records: dict[Path, dict[str, set[str]]] = {}  # as `read_record` returns them, by folder

    def check(self, targets: Iterable[Path]) -> None:
        """Check all files that a command may write; call it before the command computes anything.

        Raises:
            OutputError: a file is an input or would become one, belongs to the user, or cannot be written.
        """
        places = [self._place(target) for target in targets]
        if self._overwrite:
            return
        if users := [place for place in places if os.path.lexists(place) and not self._is_written_by_us(place)]:
            names = ", ".join(printable(str(path)) for path in users[:_NAMED])
            names += f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            verb = "exists and was" if len(users) == 1 else "exist and were"
            raise OutputError(
                f"{names} {verb} not written by wsseg, or changed since; choose another -o, or use --overwrite"
            )

    def write(self, target: Path, data: bytes) -> None:
        """Write a file. It is checked again, because another program may have written it since the first check."""
        self.check([target])
        place = self._place(target)
        self._record_output(place, hashlib.sha256(data).hexdigest())
        atomic_write(place, data)

    @contextmanager
    def made_beside(self, target: Path) -> Iterator[Path]:
        """Yield a path of the same name in a temporary folder, and move all files of that folder to `target`'s folder at the end.

        Use it for an output that a library writes to a path, that is checked before it replaces a file, or that consists
        of several files.
        """
        place = self._place(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=place.parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder) / place.name
            # `target` is moved last, because it refers to the other files
            made = sorted(Path(folder).iterdir(), key=lambda path: path.name == place.name)
            self.check(place.parent / path.name for path in made)
            for path in made:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                self._record_output(place.parent / path.name, file_digest(path)[1])
                path.replace(place.parent / path.name)

    # --- places ---

    def _place(self, target: Path) -> Path:
        """Return the path of a file with the links of its folder resolved.

        Raises:
            OutputError: the file must not or cannot be written.
        """
        parent, inside = self._folder(target.parent)
        place = parent / target.name
        if inside is not None and is_image(place):
            raise OutputError(
                f"{printable(str(target))} would be in {printable(str(inside))}, which this command reads, "
                "and become an input of the next call; choose another -o"
            )
        try:
            status = os.lstat(place)
        except OSError:
            return place
        if stat.S_ISLNK(status.st_mode) and place.exists():
            status = place.stat()
        if _identity(place, status) in self._files:
            raise OutputError(f"{printable(str(target))} is an input of this command; choose another -o")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise OutputError(f"{printable(str(target))} is {kind}; expected: a file; choose another -o")
        return place

    def _folder(self, folder: Path) -> tuple[Path, Path | None]:
        """Return a folder with its links resolved, and the input folder that it is or is below, or None."""
        if folder not in self._places:
            try:
                real = folder.resolve()
            except (OSError, RuntimeError) as error:  # a loop of links
                raise OutputError(f"{printable(str(folder))}: {error}; choose another -o") from error
            existing = next(path for path in (real, *real.parents) if os.path.lexists(path))
            if not existing.is_dir():
                raise OutputError(f"{printable(str(existing))} is a file; expected: a folder; choose another -o")
            if not os.access(existing, os.W_OK | os.X_OK):
                raise OutputError(f"{printable(str(existing))} is not writable; choose another -o")
            for path in (real, *real.parents):
                if path.name in (*FOLDERS, "data") and is_store(path.parent):
                    raise OutputError(f"{printable(str(folder))} is inside the store {path.parent}; choose another -o")
            above = (_identity(path, path.stat()) for path in (existing, *existing.parents))
            inside = (self._folders.get(identity) for identity in above)
            self._places[folder] = real, next((path for path in inside if path is not None), None)
        return self._places[folder]

    # --- the record ---

    def _is_written_by_us(self, place: Path) -> bool:
        """Return whether the present content of a file was written by wsseg."""
        if place.is_symlink():
            return False
        try:
            digest = file_digest(place)[1]
        except OSError:
            return False
        # another process may have written the file since the record was read
        return digest in self._digests(place) or digest in self._digests(place, again=True)

    def _digests(self, place: Path, again: bool = False) -> set[str]:
        """Return the recorded digests of a file; `again` reads the record again if it has changed."""
        if again or place.parent not in self._records:
            self._records[place.parent] = read_record(place.parent)
        return self._records[place.parent].setdefault(composed(place.name), set())

    def _record_output(self, place: Path, digest: str) -> None:
        """Record a file before it gets its name, so that the record is complete even if the process is killed."""
        if self._as_data or digest in (digests := self._digests(place)):
            return
        digests.add(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            record_output(place, digest)
        except OSError as error:
            log.warning("%s: %s; the same command will require --overwrite", place.parent / RECORD, error.strerror)


def _identity(path: Path, status: os.stat_result) -> Hashable:
    """Return an identity that all names of a file or folder share, including links and names in another letter case."""
    if status.st_ino:
        return status.st_dev, status.st_ino
    return os.path.normcase(path.resolve())  # a file system without inodes
