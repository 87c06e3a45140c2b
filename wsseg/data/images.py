"""Images with image-level labels, in five layouts. This module cannot see masks: they are in `wsseg.data.truth`."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

from wsseg import files
from wsseg.data.coco import read_coco
from wsseg.data.config import CocoData, CocoSplit, CsvData, CsvSplit, FolderData, FolderSplit, VocData, VocSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.reading import IMAGE_SUFFIXES, read_image
from wsseg.data.sampling import evenly_spaced
from wsseg.data.tables import label_table
from wsseg.data.voc import annotated_classes, label_map, list_file, listed_ids
from wsseg.data.walk import PassedOver, data_files, data_folders, images_below, is_image, passed_over_line
from wsseg.errors import DatasetError, nearest
from wsseg.labels import VOC_CLASSES, ClassMap
from wsseg.names import check_id, composed, printable
from wsseg.progress import track
from wsseg.types import Image, LabeledImage

log = logging.getLogger("wsseg")

SHOWN = 20  # how many ids an error lists before it counts the rest


@dataclass
class Listing:
    """What the files of a split say, before anything is judged.

    Args:
        paths: image file by id.
        labels: class names by id.
        names: all class names of the data set, in its own order.
        label_without_image: ids that have a label but no image file.
        image_without_label: ids that have an image file but no label; they are not used.
        passed_over: files and folders that may be data and were not listed, with the reason.
        notes: a line for each thing that was assumed.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    label_without_image: list[str] = field(default_factory=list)
    image_without_label: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def said(self) -> list[str]:
        """Return a line for each thing that a user should know of."""
        lines = list(self.notes)
        if self.passed_over:
            lines.append(passed_over_line(self.passed_over))
        if self.image_without_label:
            ids = self.image_without_label
            lines.append(f"{len(ids)} images have no label and are not used: {listed(ids)}")
        return lines


@dataclass(frozen=True)
class LabeledImages:
    """One split: readable images, sorted by id, with their classes.

    Args:
        split: ``train`` or ``val``.
        classes: the classes that are learned.
        items: the images.
        skipped: reason by id of images left out under ``on_bad_image = "skip"``.
        key: fingerprint: sha256 of the sorted ids, contents, class names and labels.
    """

    split: str
    classes: ClassMap
    items: tuple[LabeledImage, ...]
    skipped: dict[str, str]
    key: str

    def __len__(self) -> int:
        return len(self.items)


def listed(problems: Iterable[str]) -> str:
    """Return problems as one line: all of them up to `SHOWN`, then how many more."""
    texts = list(problems)
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def load_images(
    data: Any, split: str, memory: FileMemory, classes: ClassMap | None = None, listing: Listing | None = None
) -> LabeledImages:
    """Read a split's labels and inspect its images (each file once, then remembered in `memory`).

    Args:
        data: one of the data configs.
        split: ``train`` or ``val``.
        memory: what is known of files.
        classes: the classes of the training split, for another split of the same data set.
        listing: what `list_split` returned, if the caller has it and tells what it says; else both are done here.

    Raises:
        DatasetError: labels without image, unreadable images (unless they are to be skipped), unknown classes, no image.
    """
    if listing is None:
        listing = list_split(data, split)
        for line in listing.said():
            log.warning("%s: %s", split, line)
    if classes is None:
        classes = class_map(data, listing)
    elif not data.classes and (unknown := sorted(set(listing.names) - set(classes.names))):
        raise DatasetError(
            f"{split}: it has classes that train has not: {listed(unknown)}; name those to learn in data.classes"
        )
    if listing.label_without_image and data.on_bad_image == "stop":
        raise DatasetError(
            f"{split}: {len(listing.label_without_image)} labels have no image: {listed(listing.label_without_image)}; "
            'add the images, remove the labels, or set data.on_bad_image = "skip"'
        )
    skipped = dict.fromkeys(listing.label_without_image, "no image file")
    ids = evenly_spaced(sorted(listing.paths), getattr(data, split).limit or len(listing.paths))
    seen = memory.inspect([listing.paths[i] for i in ids], f"reading {split} images")
    items = []
    for item_id in ids:
        path = listing.paths[item_id]
        if seen[path].error:
            skipped[item_id] = seen[path].error
            continue
        class_ids = sorted(classes.id_of(name) for name in listing.labels[item_id] if name in classes.names)
        items.append(LabeledImage(item_id, path, tuple(class_ids), seen[path].size, seen[path].sha256))
    unreadable = [f"{listing.paths[i]} ({reason})" for i, reason in skipped.items() if i in listing.paths]
    if unreadable and data.on_bad_image == "stop":
        raise DatasetError(
            f"{split}: {len(unreadable)} images cannot be read: {', '.join(unreadable)}; "
            'repair or remove them, or set data.on_bad_image = "skip"'
        )
    if not items:
        reasons = listed(f"{listing.paths.get(i, i)} ({why})" for i, why in skipped.items())
        raise DatasetError(f"{split}: none of {len(skipped)} images can be read: {reasons}")
    return LabeledImages(split, classes, tuple(items), skipped, _fingerprint(classes, items))


def _fingerprint(classes: ClassMap, items: list[LabeledImage]) -> str:
    content = {"classes": classes.names, "items": [[i.id, i.sha256, i.class_ids] for i in items]}
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def class_map(data: Any, listing: Listing) -> ClassMap:
    """Return the classes that are learned: those the config chooses, or all that the data set names."""
    for name in data.classes:
        if name not in listing.names:
            raise DatasetError(
                f"data.classes: the data set has no class {name!r}; it has {', '.join(listing.names)}{nearest(name, listing.names)}"
            )
    return ClassMap(tuple(data.classes) or listing.names)


# --- layouts ---------------------------------------------------------------------------------------------------------


def list_split(data: Any, split: str) -> Listing:
    """List one split of a data set.

    Raises:
        DatasetError: the split is not configured, files are missing or malformed, ids are invalid or doubled.
    """
    part = getattr(data, split)
    if part is None:
        raise DatasetError(f"data.{split} is not configured; add the table [data.{split}]")
    reader: Callable[..., Listing] = _LAYOUTS[data.kind]
    listing = reader(data, part)
    if not listing.paths and not listing.label_without_image:
        raise DatasetError(f"data.{split}: no labelled image was found; look at the paths in the config")
    return listing


def _list_folder(data: FolderData, part: FolderSplit) -> Listing:
    listing = Listing()
    without = _other_folders(data, part)
    folders = [p for p in data_folders(part.images, listing.passed_over) if p.resolve() not in without]
    by_path = {folder: composed(folder.name) for folder in folders}
    if reserved := [name for name in by_path.values() if name.casefold() == "background" and name != data.background]:
        raise DatasetError(
            f"{part.images}: the folder {reserved[0]!r} has the name of class id 0; set data.background = {reserved[0]!r} if its "
            "images show none of the classes, or rename it"
        )
    listing.passed_over += [
        (path, "an image beside the class folders") for path in data_files(part.images) if is_image(path)
    ]
    listing.names = tuple(dict.fromkeys(name for name in by_path.values() if name != data.background))
    if data.background and part is data.train and data.background not in by_path.values():
        listing.notes.append(
            f"{part.images}: there is no folder {data.background!r} (data.background){nearest(data.background, by_path.values())}"
        )
    for folder, class_name in by_path.items():
        for name, path in image_files(folder, listing.passed_over, without).items():
            item_id = check_id(f"{class_name}/{name}", str(part.images))
            if item_id in listing.paths:
                raise DatasetError(f"{path} and {listing.paths[item_id]} have the same id {item_id!r}; rename one")
            listing.paths[item_id] = path
            listing.labels[item_id] = frozenset({class_name} - {data.background})
    return listing


def _other_folders(data: FolderData | CsvData, part: FolderSplit | CsvSplit) -> frozenset[Path]:
    """Return the folders of the data set that do not hold this split's images: masks, and the other split's images."""
    named = [folder for s in (data.train, data.val) if s for folder in (s.images, s.masks) if folder]
    return frozenset(folder.resolve() for folder in named) - {part.images.resolve()}


def _list_csv(data: CsvData, part: CsvSplit) -> Listing:
    listing = Listing()
    labels = read_label_csv(part.labels, data.separator, (*data.classes, *data.mask_classes), listing.notes)
    files = image_files(part.images, listing.passed_over, _other_folders(data, part))
    labels = _by_image(labels, files, part.images, part.labels)
    found = frozenset().union(*labels.values())
    listing.names = data.mask_classes or tuple(sorted(found))
    if unknown := sorted(found - set(listing.names)):
        raise DatasetError(
            f"labels name classes that data.mask_classes does not: {listed(unknown)}; known: {', '.join(listing.names)}"
        )
    if not listing.names and part is data.train:
        raise DatasetError(
            f"{part.labels}: none of its {len(labels)} rows names a class; expected some in the column classes"
        )
    both = labels.keys() & files.keys()
    listing.paths = {i: files[i] for i in both}
    listing.labels = {i: labels[i] for i in both}
    listing.label_without_image = sorted(labels.keys() - both)
    listing.image_without_label = sorted(files.keys() - both)
    unpadded = {name.lstrip("0") for name in listing.image_without_label}
    if lost := [item_id for item_id in listing.label_without_image if item_id in unpadded]:
        listing.notes.append(f"{part.labels}: a spreadsheet seems to have removed the leading zeros of {listed(lost)}")
    return listing


def _by_image(
    labels: dict[str, frozenset[str]], files: Mapping[str, Path], images: Path, table: Path
) -> dict[str, frozenset[str]]:
    """Return labels by the id of their image: a table may name it with its suffix, or with the folder of the images."""
    folders = ["", f"{composed(images.name)}/"]
    if images.is_relative_to(table.parent):
        folders.append(f"{composed(images.relative_to(table.parent).as_posix())}/")
    found: dict[str, frozenset[str]] = {}
    written: dict[str, str] = {}
    for name, classes in labels.items():
        rests = [name.removeprefix(folder) for folder in folders if name.startswith(folder)]
        forms = [form for rest in rests for form in (rest, _without_suffix(rest))]
        item_id = next((form for form in forms if form in files), name)
        if item_id in found:
            raise DatasetError(
                f"{table}: {written[item_id]!r} and {name!r} are the same image; write all its classes in one row"
            )
        found[item_id], written[item_id] = classes, name
    return found


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _list_voc(data: VocData, part: VocSplit) -> Listing:
    listing = Listing()
    folder, path = data.root / "JPEGImages", list_file(data.root, part.list)
    files = image_files(folder, listing.passed_over)
    ids = listed_ids(read_text(path), str(path), files)
    if data.labels is not None:
        labels = read_label_csv(data.labels, " ", (*data.classes, *data.mask_classes, *VOC_CLASSES), listing.notes)
        labels = _by_image(labels, files, folder, data.labels)
        if missing := [i for i in ids if i not in labels]:
            raise DatasetError(f"{data.labels}: {len(missing)} images of {path.name} have no label: {listed(missing)}")
    else:
        # by the file's own name: an annotation has the Unicode form of its photograph
        names = {i: files[i].relative_to(folder).with_suffix("") if i in files else Path(i) for i in ids}
        xml = {i: data.root / "Annotations" / f"{name}.xml" for i, name in names.items()}
        if missing := [i for i, file in xml.items() if not file.exists()]:
            raise DatasetError(
                f"{data.root / 'Annotations'}: {len(missing)} images of {path.name} have no XML file: {listed(missing)}; "
                "add them, or set data.labels to a CSV"
            )
        labels = {i: annotated_classes(file, data.difficult) for i, file in xml.items()}
    listing.names = voc_names(data, frozenset().union(*(labels[i] for i in ids)))
    listing.label_without_image = [i for i in ids if i not in files]
    listing.paths = {i: files[i] for i in ids if i in files}
    listing.labels = {i: labels[i] for i in listing.paths}
    return listing


def voc_names(data: VocData, found: frozenset[str]) -> tuple[str, ...]:
    """Return the classes of a devkit in the order of their mask values: ``data.mask_classes``, ``labelmap.txt``, or VOC's own.

    Args:
        data: the config.
        found: the classes that labels name. If none of the three knows all of them, they themselves are the classes,
            sorted; then nothing says what mask values mean.

    Raises:
        DatasetError: labels name classes that ``data.mask_classes`` or ``labelmap.txt`` does not.
    """
    stated = data.mask_classes
    where = "data.mask_classes"
    if not stated and (path := data.root / "labelmap.txt").is_file():
        stated = tuple(name for name in label_map(read_text(path), str(path)) if name.lower() != "background")
        where = str(path)
    if stated and (unknown := sorted(found - set(stated))):
        raise DatasetError(f"labels name classes that {where} does not: {listed(unknown)}; known: {', '.join(stated)}")
    return stated or (VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found)))


def _list_coco(data: CocoData, part: CocoSplit) -> Listing:
    coco = read_coco(part.annotations)
    listing = Listing(names=coco.names)
    for image in coco.images:
        if path := _coco_file(part.images, image.file_name):
            listing.paths[image.item_id] = path
            found = {o.name for o in coco.objects[image.item_id] if o.name is not None}
            listing.labels[image.item_id] = frozenset(found)
        else:
            listing.label_without_image.append(image.item_id)
    return listing


def _coco_file(folder: Path, name: str) -> Path | None:
    """Return the file of an image record.

    Its name may begin with the images' folder, be percent-encoded, or have another Unicode form or case of its suffix.
    """
    names = [name]
    with suppress(DatasetError):  # decoded, it may name a place outside
        names.append(check_id(unquote(name), str(folder)))
    named = [text.removeprefix(start) for text in names for start in ("", f"{folder.name}/")]
    forms = (normalize(form, text) for text in named for form in ("NFC", "NFD"))
    paths = [Path(form) for form in dict.fromkeys(forms)]
    paths += [path.with_suffix(suffix) for path in paths for suffix in (path.suffix.lower(), path.suffix.upper())]
    return next((folder / path for path in paths if (folder / path).is_file()), None)


_LAYOUTS: dict[str, Callable[..., Listing]] = {
    "folder": _list_folder,
    "csv": _list_csv,
    "voc": _list_voc,
    "coco": _list_coco,
}


# --- files -----------------------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Return a text file's content; DatasetError where it cannot be read."""
    try:
        return files.read_text(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error


def image_files(
    folder: Path,
    passed_over: PassedOver | None = None,
    without: Collection[Path] = (),
    refused: list[tuple[Path, str]] | None = None,
) -> dict[str, Path]:
    """Return the image files below `folder` by id (relative path without suffix), sorted.

    Args:
        folder: where to begin.
        passed_over: takes what may be an image and is not listed, with the reason.
        without: resolved folders below it that are left out.
        refused: takes the files that cannot have an id of their own, with the reason; without it they are an error.

    Raises:
        DatasetError: no such folder, or (without `refused`) a name that cannot be an id, or two files that differ only
            in their suffix or in the Unicode form of their name.
    """
    files: dict[str, Path] = {}
    faults: list[tuple[Path, str]] = []
    where = printable(str(folder))
    for path in sorted(images_below(folder, passed_over if passed_over is not None else [], without)):
        try:
            item_id = check_id(_relative_id(path, folder), where)
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


def _relative_id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().removesuffix(path.suffix)


def photograph_files(images: Path, refused: list[tuple[Path, str]] | None = None) -> dict[str, Path]:
    """Return the photographs that a person names, by id: a file, or all below a folder. What is passed over is logged.

    Args:
        images: a file or a folder.
        refused: takes the files that cannot have an id of their own, with the reason; without it they are an error.

    Raises:
        DatasetError: no such file or folder, or no image in it.
    """
    if images.is_file():
        return {check_id(images.stem, printable(str(images))): images}
    passed_over: PassedOver = []
    files = image_files(images, passed_over, refused=refused)
    said = passed_over_line(passed_over) if passed_over else ""
    if not files:
        reasons = [said, *(why for _, why in (refused or [])[:1])]
        raise DatasetError("; ".join(filter(None, [f"{printable(str(images))}: no image was found in it", *reasons])))
    if said:
        log.warning("%s: %s", printable(str(images)), said)
    return files


def open_images(files: Mapping[str, Path], what: str, refused: list[tuple[Path, str]]) -> Iterator[tuple[str, Image]]:
    """Yield (id, photograph (H, W, 3) uint8) of each file.

    Args:
        files: by id.
        what: a word for the progress line.
        refused: takes the files that cannot be read, with the reason.
    """
    for item_id, path in track(files.items(), len(files), what):
        try:
            image = read_image(path)
        except DatasetError as error:
            refused.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        yield item_id, image


def read_label_csv(
    path: Path, separator: str, known: Collection[str] = (), notes: list[str] | None = None
) -> dict[str, frozenset[str]]:
    """Read a CSV ``image_id,classes``, as `label_table` does.

    Raises:
        DatasetError: it cannot be read, or is no such table.
    """
    return label_table(read_text(path), str(path), separator, known, notes if notes is not None else [])
