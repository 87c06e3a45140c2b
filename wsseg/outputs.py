"""What commands write outside the store, by one rule:

- An output is never an input, and never lies where it would be read as an input at the next call.
- A file is replaced only if wsseg wrote it and nobody has changed it since, or if ``--overwrite`` is given.
- A file is written beside its place and renamed: after any failure the former file is there, whole.

What commands wrote is kept in the store, in ``outputs.txt``: a line ``DIGEST PATH`` for each file, before it gets its name. The
path is a JSON text, relative to the store, so that both can be moved together.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wsseg.data.walk import is_image
from wsseg.errors import OutputError
from wsseg.names import printable
from wsseg.store.files import TEMPORARY, atomic_write, file_digest
from wsseg.store.objects import FOLDERS, ArtifactStore, is_store, log

RECORD = "outputs.txt"
_NAMED = 5  # how many files an error names before it counts the rest


class Outputs:
    """The files that one command writes.

    Args:
        store: keeps the record; None if there is none, and then every file that exists is the user's.
        inputs: files and folders that the command reads; the user's other files are safe by the second rule.
        overwrite: whether files that wsseg did not write may be replaced.
    """

    def __init__(self, store: ArtifactStore | None, inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
        self._record = store.root / RECORD if store else None
        self._overwrite = overwrite
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
        self._own: dict[Path, set[str]] = {}

    def check(self, targets: Iterable[Path]) -> None:
        """Check all that the command may write, before it computes anything.

        Raises:
            OutputError: a file is an input, would become one, is the user's, or cannot be written.
        """
        found = [place for target in targets if os.path.lexists(place := self._place(target))]
        self._recall(found)
        users = [place for place in found if not self._is_own(place)]
        if users and not self._overwrite:
            names = ", ".join(printable(str(path)) for path in users[:_NAMED])
            names += f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            verb = "exists and was" if len(users) == 1 else "exist and were"
            raise OutputError(
                f"{names} {verb} not written by wsseg, or changed since; choose another -o, or give --overwrite"
            )

    def write(self, target: Path, data: bytes) -> None:
        """Write a file; it is checked again, because others may have written meanwhile."""
        self.check([target])
        place = self._place(target)
        self._remember(place, hashlib.sha256(data).hexdigest())
        atomic_write(place, data)

    @contextmanager
    def made_beside(self, target: Path) -> Iterator[Path]:
        """Yield a path of the same name in a temporary folder; what is in the folder at the end gets its place beside `target`.

        For what can only be written by its path, checked before it replaces anything, or consists of several files.
        """
        place = self._place(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=place.parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder) / place.name
            # the file itself comes last: it names the others
            made = sorted(Path(folder).iterdir(), key=lambda path: path.name == place.name)
            self.check(place.parent / path.name for path in made)
            for path in made:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                self._remember(place.parent / path.name, file_digest(path)[1])
                path.replace(place.parent / path.name)

    # --- places ---

    def _place(self, target: Path) -> Path:
        """Return where a file really lies, its folder's links followed; OutputError if it must not be written."""
        parent, inside = self._folder(target.parent)
        place = parent / target.name
        if inside is not None and is_image(place):
            raise OutputError(
                f"{printable(str(target))} would lie in {printable(str(inside))}, which this command reads: "
                "the next call would take it for an input; choose another -o"
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
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise OutputError(f"{printable(str(target))} is {what}; a file is to be written there; choose another -o")
        return place

    def _folder(self, folder: Path) -> tuple[Path, Path | None]:
        """Return a folder without links, and the input folder that it is or lies in."""
        if folder not in self._places:
            try:
                real = folder.resolve()
            except (OSError, RuntimeError) as error:  # a loop of links
                raise OutputError(f"{printable(str(folder))}: {error}; choose another -o") from error
            existing = next(path for path in (real, *real.parents) if os.path.lexists(path))
            if not existing.is_dir():
                raise OutputError(f"{printable(str(existing))} is a file; a folder is needed there; choose another -o")
            if not os.access(existing, os.W_OK | os.X_OK):
                raise OutputError(f"{printable(str(existing))}: nothing may be written there; choose another -o")
            for path in (real, *real.parents):
                if path.name in (*FOLDERS, "data") and is_store(path.parent):
                    raise OutputError(f"{printable(str(folder))} lies in the store {path.parent}; choose another -o")
            above = (_identity(path, path.stat()) for path in (existing, *existing.parents))
            inside = (self._folders.get(identity) for identity in above)
            self._places[folder] = real, next((path for path in inside if path is not None), None)
        return self._places[folder]

    # --- the record ---

    def _is_own(self, place: Path) -> bool:
        known = self._own.get(place)
        if not known or place.is_symlink():
            return False
        try:
            return file_digest(place)[1] in known
        except OSError:
            return False

    def _recall(self, places: list[Path]) -> None:
        """Read from the record what was written to some places; those that are known already are not looked up again."""
        if self._record is None:
            return
        wanted = {self._name(place): place for place in places if place not in self._own}
        if not wanted:
            return
        try:
            with self._record.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    digest, _, name = line.rstrip("\n").partition(" ")
                    if name in wanted:
                        self._own.setdefault(wanted[name], set()).add(digest)
        except OSError:  # nothing was written yet, or nobody knows what
            pass
        for place in wanted.values():
            self._own.setdefault(place, set())

    def _name(self, place: Path) -> str:
        """Return how the record names a file."""
        try:
            return json.dumps(os.path.relpath(place, self._record and self._record.parent))
        except ValueError:  # another drive of Windows
            return json.dumps(str(place))

    def _remember(self, place: Path, digest: str) -> None:
        """Note a file before it gets its name: one that is killed in between is known all the same."""
        if digest in self._own.get(place, ()):
            return
        self._own.setdefault(place, set()).add(digest)
        if self._record is None:
            return
        try:
            with self._record.open("ab", buffering=0) as file:
                # the break comes first: a line that was cut short spoils none but itself
                file.write(f"\n{digest} {self._name(place)}".encode())
        except OSError as error:  # a store that cannot be written can be used all the same
            log.warning("%s: %s; the same command will ask for --overwrite", self._record, error.strerror)
            self._record = None


def _identity(path: Path, status: os.stat_result) -> Hashable:
    """Return what all the names of a file or folder have in common, links and other cases of letters included."""
    if status.st_ino:
        return status.st_dev, status.st_ino
    return os.path.normcase(path.resolve())  # a file system without inodes
