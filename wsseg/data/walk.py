"""The one walk through folders of photographs: which folders and files are data, and what is passed over and why.

Hidden folders, folders of file managers, notebooks and NAS boxes, virtual environments, stores and other outputs of
wsseg are never data. A folder that a caller names itself is always looked into.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.errors import DatasetError
from wsseg.names import printable
from wsseg.store.objects import FOLDERS, is_store

PassedOver = list[tuple[Path, str]]  # a path and the reason

_SYSTEM_FOLDERS = frozenset({
    "__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
    "lost+found", "found.000", "__pycache__", "node_modules",
})  # fmt: skip
# AppleDouble, our own unfinished files, Android's bin and downloads
_LITTER = ("._", ".partial-", ".trashed-", ".pending-")
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_OF_A_STORE = frozenset({*FOLDERS, "data", "reports"})
_ARTIFACT = ("manifest.json", "files.txt")
_COMPANIONS = frozenset({
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".toml", ".yaml", ".yml", ".md", ".rst", ".html", ".npz", ".npy",
    ".xls", ".xlsx", ".ods", ".pdf", ".py", ".ipynb", ".sh", ".log", ".names", ".data", ".cache", ".ini", ".db",
    ".xmp", ".aae", "readme", "license",
})  # fmt: skip


def data_folders(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """Return the folders in `folder` that may hold data, sorted by name.

    A linked folder counts unless its target holds `folder` or lies in it: that is a loop, or the same images twice.

    Args:
        folder: any folder; its own name does not matter.
        passed_over: takes what was left out that may be data, with the reason.

    Raises:
        DatasetError: `folder` cannot be listed.
    """
    return _split(folder, passed_over if passed_over is not None else [], linked=True)[0]


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield `folder` and the data folders below it, nearest first, at most `depth` levels down.

    Raises:
        DatasetError: `folder` itself cannot be listed.
    """
    yield folder
    level = data_folders(folder) if depth else []
    for deeper in range(depth, 0, -1):
        yield from level
        if deeper > 1:
            level = [child for parent in level for child in _listed(parent, [], linked=True)[0]]


def data_files(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """Return the regular files directly in `folder`, sorted by name, without the litter of systems.

    Raises:
        DatasetError: `folder` cannot be listed.
    """
    return _split(folder, passed_over if passed_over is not None else [], linked=True)[1]


def is_image(path: Path) -> bool:
    """Return whether a file's suffix is that of an image format that is read, in any case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_below(folder: Path, passed_over: PassedOver, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the image files in `folder` and in the data folders below it; linked folders are not followed.

    Args:
        folder: where to begin.
        passed_over: takes the files and folders that may be data and are not used, with the reason.
        without: resolved folders that hold something else (masks, the other split).

    Raises:
        DatasetError: `folder` itself cannot be listed.
    """
    pending = [folder]
    while pending:
        place = pending.pop()
        folders, files = (_split if place == folder else _listed)(place, passed_over, linked=False)
        for path in files:
            if is_image(path):
                yield path
            elif path.name.lower() in IMAGE_SUFFIXES:
                passed_over.append((path, "no name before the suffix"))
            elif not path.name.startswith(".") and (path.suffix or path.name).lower() not in _COMPANIONS:
                passed_over.append((path, f"{path.suffix or 'a name without suffix'} is not read"))
        pending += [child for child in reversed(folders) if not without or child.resolve() not in without]


def passed_over_line(passed_over: PassedOver) -> str:
    """Return one line: how many were passed over, and for each reason how many and the first of them."""
    reasons: dict[str, list[str]] = {}
    for path, why in passed_over:
        reasons.setdefault(why, []).append(path.name)
    parts = [f"{why} ({len(names)}: {', '.join(map(printable, names[:3]))}{', ...' if len(names) > 3 else ''})"
             for why, names in reasons.items()]  # fmt: skip
    line = f"{len(passed_over)} files or folders are passed over: {'; '.join(parts)}"
    return line + ("; convert those that are photographs to JPEG or PNG" if "is not read" in line else "")


# --- one folder ------------------------------------------------------------------------------------------------------


def _listed(folder: Path, passed_over: PassedOver, linked: bool) -> tuple[list[Path], list[Path]]:
    """Return what `_split` does; a folder that cannot be listed is passed over."""
    try:
        return _split(folder, passed_over, linked)
    except DatasetError as error:
        passed_over.append((folder, str(error).removeprefix(f"{folder}: ")))
        return [], []


def _split(folder: Path, passed_over: PassedOver, linked: bool) -> tuple[list[Path], list[Path]]:
    """Return the data folders and the files in a folder; linked folders are passed over unless `linked`."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{printable(str(folder))}: cannot be listed: {error.strerror}") from error
    own = _OF_A_STORE if is_store(folder) else frozenset()  # a store may have been made among the photographs
    folders, files = [], []
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(_LITTER) or entry.name.lower() in _SYSTEM_FILES or entry.name in own:
            continue
        if _is(entry.is_dir):
            if not _is_litter(path):
                if _is_link(entry) and not (linked and _elsewhere(path, folder)):
                    passed_over.append((path, "a linked folder"))
                else:
                    folders.append(path)
        elif _is(entry.is_file):
            files.append(path)
        elif is_image(path):
            broken = entry.is_symlink() and not path.exists()
            passed_over.append((path, "a broken link" if broken else "no regular file"))
    return folders, files


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself, or into a folder that may not be read
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a link, or what Windows has instead (Python 3.12 tells)."""
    return entry.is_symlink() or bool(getattr(entry, "is_junction", lambda: False)())


def _is_litter(folder: Path) -> bool:
    """Return whether a folder is hidden, a system's, a virtual environment, a store or an artifact."""
    return (
        folder.name.startswith(".")
        or folder.name.lower() in _SYSTEM_FOLDERS
        or (folder / "pyvenv.cfg").is_file()
        or is_store(folder)
        or all((folder / name).is_file() for name in _ARTIFACT)
    )


def _elsewhere(link: Path, folder: Path) -> bool:
    """Return whether a link in `folder` leads to a folder that neither holds `folder` nor lies in it."""
    try:
        target, own = link.resolve(), folder.resolve()
    except (OSError, RuntimeError):
        return False
    return not (target.is_relative_to(own) or own.is_relative_to(target))
