"""The only walk through folders of photographs: which folders and files are data, and which are skipped and why.

Hidden folders, folders of file managers, notebooks and NAS boxes, virtual environments, stores and other outputs of wsseg
are never data. A folder that the caller names is always searched; files that wsseg wrote into it are skipped.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.data.written import RECORD, outputs_among, read_record
from wsseg.errors import DatasetError
from wsseg.names import composed, printable
from wsseg.store.objects import FOLDERS, is_store

SkippedPaths = list[tuple[Path, str]]  # a path and the reason

_SYSTEM_FOLDERS = frozenset({
    "__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
    "lost+found", "found.000", "__pycache__", "node_modules",
})  # fmt: skip
# AppleDouble, unfinished files of wsseg, Android's bin and downloads
_SYSTEM_PREFIXES = ("._", ".partial-", ".trashed-", ".pending-")
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", RECORD})
_STORE_FOLDERS = frozenset({*FOLDERS, "data"})
_ARTIFACT = ("manifest.json", "files.txt")
WRITTEN = f"written by wsseg (listed in {RECORD})"  # the reason why an image is skipped
_COMPANIONS = frozenset({
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".toml", ".yaml", ".yml", ".md", ".rst", ".html", ".npz", ".npy",
    ".xls", ".xlsx", ".ods", ".pdf", ".py", ".ipynb", ".sh", ".log", ".names", ".data", ".cache", ".ini", ".db",
    ".xmp", ".aae", "readme", "license",
})  # fmt: skip


def data_folders(folder: Path, skipped: SkippedPaths | None = None) -> list[Path]:
    """Return the folders in `folder` that may hold data, sorted by name.

    A linked folder counts unless its target contains `folder` or is inside it: that is a loop, or the same images twice.

    Args:
        folder: any folder, whatever its own name.
        skipped: folders that may be data and are left out are appended, with the reason.

    Raises:
        DatasetError: `folder` cannot be listed.
    """
    return _split(folder, skipped if skipped is not None else [], follow_links=True)[0]


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield `folder` and the data folders below it, level by level, at most `depth` levels down.

    Raises:
        DatasetError: `folder` itself cannot be listed.
    """
    yield folder
    level = data_folders(folder) if depth else []
    for remaining in range(depth, 0, -1):
        yield from level
        if remaining > 1:
            level = [child for parent in level for child in _split_or_skip(parent, [], follow_links=True)[0]]


def data_files(folder: Path, skipped: SkippedPaths | None = None) -> list[Path]:
    """Return the regular files directly in `folder`, sorted by name, without files of operating systems and of wsseg.

    Raises:
        DatasetError: `folder` cannot be listed.
    """
    files = _split(folder, skipped if skipped is not None else [], follow_links=True)[1]
    written = set(outputs_among(folder, (path.name for path in files)))
    return [path for path in files if path.name not in written]


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of a supported image format, in upper or lower case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def images_below(
    folder: Path, skipped: SkippedPaths, excluded: Collection[Path] = (), outputs: bool = False
) -> Iterator[Path]:
    """Yield the image files in `folder` and in the data folders below it. Linked folders are not followed.

    Args:
        folder: the folder to search.
        skipped: files and folders that may be data and are not used are appended, with the reason.
        excluded: resolved folders that hold other files (masks, the other split).
        outputs: whether to yield images that wsseg has written.

    Raises:
        DatasetError: `folder` itself cannot be listed.
    """
    pending = [folder]
    while pending:
        current = pending.pop()
        folders, files = (_split if current == folder else _split_or_skip)(current, skipped, follow_links=False)
        written = {} if outputs else read_record(current)  # a mask is no photograph, even if the user has corrected it
        for path in files:
            if is_image(path) and composed(path.name) in written:
                skipped.append((path, WRITTEN))
            elif is_image(path):
                yield path
            elif path.name.lower() in IMAGE_SUFFIXES:
                skipped.append((path, "no name before the suffix"))
            elif not path.name.startswith(".") and (path.suffix or path.name).lower() not in _COMPANIONS:
                skipped.append((path, f"{path.suffix or 'a name without suffix'} is not supported"))
        pending += [child for child in reversed(folders) if not excluded or child.resolve() not in excluded]


def skipped_line(skipped: SkippedPaths) -> str:
    """Return one line: the number of skipped paths, and for each reason the number and the first names."""
    reasons: dict[str, list[str]] = {}
    for path, reason in skipped:
        reasons.setdefault(reason, []).append(path.name)
    parts = [f"{reason} ({len(names)}: {', '.join(map(printable, names[:3]))}{', ...' if len(names) > 3 else ''})"
             for reason, names in reasons.items()]  # fmt: skip
    line = f"{len(skipped)} files or folders are skipped: {'; '.join(parts)}"
    return line + ("; convert photographs among them to JPEG or PNG" if "is not supported" in line else "")


# --- one folder ------------------------------------------------------------------------------------------------------


def _split_or_skip(folder: Path, skipped: SkippedPaths, follow_links: bool) -> tuple[list[Path], list[Path]]:
    """Return the result of `_split`, or nothing if the folder cannot be listed; then the folder is skipped."""
    try:
        return _split(folder, skipped, follow_links)
    except DatasetError as error:
        skipped.append((folder, str(error).removeprefix(f"{folder}: ")))
        return [], []


def _split(folder: Path, skipped: SkippedPaths, follow_links: bool) -> tuple[list[Path], list[Path]]:
    """Return the data folders and the files in a folder. Without `follow_links`, linked folders are skipped."""
    try:
        with os.scandir(folder) as iterator:
            entries = sorted(iterator, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{printable(str(folder))}: cannot be listed: {error.strerror}") from error
    ignored = _STORE_FOLDERS if is_store(folder) else frozenset()  # a store may be in the folder of the photographs
    folders, files = [], []
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(_SYSTEM_PREFIXES) or entry.name.lower() in _SYSTEM_FILES or entry.name in ignored:
            continue
        if _is(entry.is_dir):
            if not _is_never_data(path):
                if _is_link(entry) and not (follow_links and _leads_elsewhere(path, folder)):
                    skipped.append((path, "a linked folder"))
                else:
                    folders.append(path)
        elif _is(entry.is_file):
            files.append(path)
        elif is_image(path):
            broken = entry.is_symlink() and not path.exists()
            skipped.append((path, "a broken link" if broken else "not a regular file"))
    return folders, files


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself, or into a folder without read permission
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a symbolic link or a Windows junction (Python 3.12 detects junctions)."""
    return entry.is_symlink() or bool(getattr(entry, "is_junction", lambda: False)())


def _is_never_data(folder: Path) -> bool:
    """Return whether a folder is hidden, a system folder, a virtual environment, a store or an artifact."""
    return (
        folder.name.startswith(".")
        or folder.name.lower() in _SYSTEM_FOLDERS
        or (folder / "pyvenv.cfg").is_file()
        or is_store(folder)
        or all((folder / name).is_file() for name in _ARTIFACT)
    )


def _leads_elsewhere(link: Path, folder: Path) -> bool:
    """Return whether the target of a link in `folder` neither contains `folder` nor is inside it."""
    try:
        target, source = link.resolve(), folder.resolve()
    except (OSError, RuntimeError):
        return False
    return not (target.is_relative_to(source) or source.is_relative_to(target))
