"""Folders of masks among folders of photographs, by their names and contents."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from wsseg.data.reading import read_mask_file
from wsseg.errors import DatasetError

MASK_FOLDERS = frozenset({
    "mask", "masks", "segmentationclass", "segmentationclassaug", "segmentationobject", "ground_truth", "groundtruth",
    "gt", "trimaps",
})  # fmt: skip
_MAX_MASK_VALUES = 32  # an image with more distinct values is a photograph


def has_mask_name(folder: Path, root: Path) -> bool:
    """Return whether a folder below `root`, or one of its parents there, has a name that is usual for masks."""
    return any(part.lower() in MASK_FOLDERS for part in folder.relative_to(root).parts)


def are_masks(paths: list[Path]) -> bool:
    """Return whether the first images are indexed or grey files with few values, which may be class ids."""
    if any(path.suffix.lower() in (".jpg", ".jpeg") for path in paths[:3]):
        return False
    try:
        return all(len(np.unique(read_mask_file(path)[0])) <= _MAX_MASK_VALUES for path in paths[:3])
    except DatasetError:
        return False


def mask_folders(images: Iterable[Path], root: Path) -> set[Path]:
    """Return the folders below `root` whose images are masks, by their names and contents; none if there are no others."""
    by_folder: dict[Path, list[Path]] = {}
    for path in images:
        by_folder.setdefault(path.parent, []).append(path)
    folders = {folder for folder, paths in by_folder.items() if has_mask_name(folder, root) and are_masks(paths)}
    return folders if folders != by_folder.keys() else set()
