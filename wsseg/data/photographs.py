"""Photographs in a folder, by image id."""

import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from wsseg.data.mask_folders import mask_folders
from wsseg.data.reading import read_image
from wsseg.data.walk import SkippedPaths, images_below, skipped_line
from wsseg.errors import DatasetError
from wsseg.names import check_id, printable
from wsseg.progress import track
from wsseg.types import Image

log = logging.getLogger("wsseg")


def image_files(
    folder: Path,
    skipped: SkippedPaths | None = None,
    excluded: Collection[Path] = (),
    refused: list[tuple[Path, str]] | None = None,
    outputs: bool = False,
) -> dict[str, Path]:
    """Return the image files below `folder` by id (relative path without suffix), sorted.

    Args:
        folder: the folder to search.
        skipped: files and folders that may be images and are not used are appended, with the reason.
        excluded: resolved folders below `folder` that are not searched.
        refused: files that cannot have an id of their own are appended, with the reason; None to raise an error instead.
        outputs: whether to return images that wsseg has written.

    Raises:
        DatasetError: no such folder, or (without `refused`) a name that cannot be an id, or two files that differ only
            in their suffix or in the Unicode form of their name.
    """
    files: dict[str, Path] = {}
    faults: list[tuple[Path, str]] = []
    where = printable(str(folder))
    for path in sorted(images_below(folder, skipped if skipped is not None else [], excluded, outputs)):
        try:
            item_id = check_id(path.relative_to(folder).as_posix().removesuffix(path.suffix), where)
        except DatasetError as error:
            faults.append((path, str(error).removeprefix(f"{where}: ")))
            continue
        if item_id in files:
            names = f"{printable(path.name)} and {printable(files[item_id].name)}"
            faults.append((path, f"{names} have the same id {item_id!r}; rename one"))
        else:
            files[item_id] = path
    if refused is not None:
        refused += faults
    elif faults:
        more = f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""
        raise DatasetError(f"{where}: {faults[0][1]}{more}")
    return files


def photograph_files(images: Path, refused: list[tuple[Path, str]] | None = None) -> dict[str, Path]:
    """Return a single photograph, or all photographs below a folder, by id. Skipped files are logged.

    Folders of masks and images that wsseg has written are skipped.

    Args:
        images: a file or a folder.
        refused: as in `image_files`.

    Raises:
        DatasetError: no such file or folder, no image in it, or (without `refused`) a name that cannot be an id.
    """
    if images.is_file():
        return {check_id(images.stem, printable(str(images))): images}
    skipped: SkippedPaths = []
    files = image_files(images, skipped, refused=refused)
    masks = mask_folders(files.values(), images)
    skipped += [(folder, "a folder of masks") for folder in sorted(masks)]
    files = {item_id: path for item_id, path in files.items() if path.parent not in masks}
    line = skipped_line(skipped) if skipped else ""
    if not files:
        reasons = [line, *(why for _, why in (refused or [])[:1])]
        raise DatasetError("; ".join(filter(None, [f"{printable(str(images))}: no image was found in it", *reasons])))
    if line:
        log.warning("%s: %s", printable(str(images)), line)
    return files


def open_images(files: Mapping[str, Path], what: str, refused: list[tuple[Path, str]]) -> Iterator[tuple[str, Image]]:
    """Yield (id, photograph (H, W, 3) uint8) of each file that can be read.

    Args:
        files: image file by id.
        what: title of the progress line.
        refused: files that cannot be read are appended, with the reason.
    """
    for item_id, path in track(files.items(), len(files), what):
        try:
            image = read_image(path)
        except DatasetError as error:
            refused.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        yield item_id, image
