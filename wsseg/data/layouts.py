"""Layouts of a data set (class folders, CSV, VOC, COCO): the image files and image-level labels of one split."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

from wsseg.data.coco import read_coco
from wsseg.data.config import (
    CocoData,
    CocoSplit,
    CsvData,
    CsvSplit,
    FolderData,
    FolderSplit,
    SequencesData,
    SequencesSplit,
    VocData,
    VocSplit,
)
from wsseg.data.mask_folders import mask_folders
from wsseg.data.photographs import image_files
from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.data.sequences import Records, read_records
from wsseg.data.tables import read_covariates, read_label_csv
from wsseg.data.text_files import read_text
from wsseg.data.voc import annotated_classes, list_file, listed_ids, voc_names
from wsseg.data.walk import WRITTEN, SkippedPaths, data_files, data_folders, is_image, skipped_line
from wsseg.errors import DatasetError, listed, nearest
from wsseg.labels import VOC_CLASSES
from wsseg.names import check_id, composed


@dataclass
class Listing:
    """Image files and labels of one split, before any image is opened.

    Args:
        paths: image file by id.
        labels: class names by id.
        names: all class names of the data set, in the order of the data set.
        label_without_image: ids that have a label but no image file.
        image_without_label: ids that have an image file but no label; they are not used.
        skipped: files and folders that may be data and are not used, with the reason.
        notes: one line per assumption.
        records: the file of the sequences, if the items are its records; None if each item is a photograph.
        covariates: values of further columns of the label table by id.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    label_without_image: list[str] = field(default_factory=list)
    image_without_label: list[str] = field(default_factory=list)
    skipped: SkippedPaths = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: Records | None = None
    covariates: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return one line per finding that the user should see."""
        lines = list(self.notes)
        if self.skipped:
            lines.append(skipped_line(self.skipped))
        if self.image_without_label:
            ids = self.image_without_label
            what = "sequences" if self.records else "images"
            lines.append(f"{len(ids)} {what} have no label and are not used: {listed(ids)}")
        return lines


def list_split(data: Any, split: str) -> Listing:
    """List one split of a data set.

    Args:
        data: one of the data configs.
        split: ``train`` or ``val``.

    Raises:
        DatasetError: the split is not configured, files are missing or malformed, or ids are invalid or not unique.
    """
    part = getattr(data, split)
    if part is None:
        raise DatasetError(f"data.{split} is not configured; add the table [data.{split}]")
    reader: Callable[..., Listing] = _LAYOUTS[data.kind]
    listing = reader(data, part)
    if not listing.paths and not listing.label_without_image:
        what = "sequence" if data.kind == "sequences" else "image"
        raise DatasetError(f"data.{split}: no labelled {what} was found; check the paths in the config")
    return listing


# --- class folders and CSV -------------------------------------------------------------------------------------------


def _list_folder(data: FolderData, part: FolderSplit) -> Listing:
    listing = Listing()
    excluded = _other_folders(data, part)
    class_names: dict[Path, str] = {}
    files: dict[Path, dict[str, Path]] = {}
    for folder in data_folders(part.images, listing.skipped):
        if folder.resolve() not in excluded:
            skipped: SkippedPaths = []
            files[folder] = image_files(folder, skipped, excluded)
            if files[folder] or all(reason != WRITTEN for _, reason in skipped):  # else it is an output of `predict`
                class_names[folder] = composed(folder.name)
            listing.skipped += skipped
    if reserved := [n for n in class_names.values() if n.casefold() == "background" and n != data.background]:
        raise DatasetError(
            f"{part.images}: the folder {reserved[0]!r} has the name of class id 0; set data.background = {reserved[0]!r} if its "
            "images show none of the classes, or rename it"
        )
    listing.skipped += [
        (path, "an image beside the class folders") for path in data_files(part.images) if is_image(path)
    ]
    listing.names = tuple(dict.fromkeys(name for name in class_names.values() if name != data.background))
    if data.background and part is data.train and data.background not in class_names.values():
        listing.notes.append(
            f"{part.images}: there is no folder {data.background!r} (data.background)"
            f"{nearest(data.background, class_names.values())}"
        )
    for folder, class_name in class_names.items():
        for name, path in files[folder].items():
            item_id = check_id(f"{class_name}/{name}", str(part.images))
            if item_id in listing.paths:
                raise DatasetError(f"{path} and {listing.paths[item_id]} have the same id {item_id!r}; rename one")
            listing.paths[item_id] = path
            listing.labels[item_id] = frozenset({class_name} - {data.background})
    return listing


def _other_folders(data: FolderData | CsvData, part: FolderSplit | CsvSplit) -> frozenset[Path]:
    """Return the folders of the data set that hold masks, marks or the images of the other split."""
    folders = [folder for s in (data.train, data.val) if s for folder in (s.images, s.masks, s.marks) if folder]
    return frozenset(folder.resolve() for folder in folders) - {part.images.resolve()}


def _list_csv(data: CsvData, part: CsvSplit) -> Listing:
    listing = Listing()
    table = read_label_csv(part.labels, data.separator, (*data.classes, *data.mask_classes), listing.notes)
    files = image_files(part.images, listing.skipped, _other_folders(data, part))
    labels = _by_image(table, files, part.images, part.labels)
    label_names = frozenset().union(*labels.values())
    listing.names = data.mask_classes or tuple(sorted(label_names))
    if unknown := sorted(label_names - set(listing.names)):
        raise DatasetError(
            f"the labels hold classes that data.mask_classes does not name: {listed(unknown)}; "
            f"it names {', '.join(listing.names)}"
        )
    if not listing.names and part is data.train:
        raise DatasetError(
            f"{part.labels}: none of its {len(labels)} rows names a class; expected some in the column 'classes'"
        )
    both = labels.keys() & files.keys()
    listing.paths = {i: files[i] for i in both}
    listing.labels = {i: labels[i] for i in both}
    listing.label_without_image = sorted(labels.keys() - both)
    masks = mask_folders(files.values(), part.images) - {files[i].parent for i in both}
    listing.skipped += [(folder, "a folder of masks") for folder in sorted(masks)]
    unlabelled = files.keys() - both - _ids_of_other_split(data, part, files)
    listing.image_without_label = sorted(i for i in unlabelled if files[i].parent not in masks)
    unpadded = {name.lstrip("0") for name in listing.image_without_label}
    if lost := [item_id for item_id in listing.label_without_image if item_id in unpadded]:
        listing.notes.append(f"{part.labels}: a spreadsheet seems to have removed the leading zeros of {listed(lost)}")
    return listing


def _ids_of_other_split(data: CsvData, part: CsvSplit, files: Mapping[str, Path]) -> set[str]:
    """Return the image ids that the table of the other split names, if both splits share one folder of images."""
    other = data.val if part is data.train else data.train
    if other is None or other.images != part.images:
        return set()
    table = read_label_csv(other.labels, data.separator, (*data.classes, *data.mask_classes), [])
    return set(_by_image(table, files, other.images, other.labels))


def _by_image(
    table: dict[str, frozenset[str]], files: Mapping[str, Path], images: Path, table_file: Path
) -> dict[str, frozenset[str]]:
    """Return the rows of a table by image id.

    A table may name an image with its suffix, or with the folder of the images.
    """
    folders = ["", f"{composed(images.name)}/"]
    if images.is_relative_to(table_file.parent):
        folders.append(f"{composed(images.relative_to(table_file.parent).as_posix())}/")
    labels: dict[str, frozenset[str]] = {}
    table_names: dict[str, str] = {}
    for name, classes in table.items():
        relative = [name.removeprefix(folder) for folder in folders if name.startswith(folder)]
        candidates = [candidate for path in relative for candidate in (path, _without_suffix(path))]
        item_id = next((candidate for candidate in candidates if candidate in files), name)
        if item_id in labels:
            raise DatasetError(
                f"{table_file}: {table_names[item_id]!r} and {name!r} are the same image; write all its classes in one row"
            )
        labels[item_id], table_names[item_id] = classes, name
    return labels


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


# --- VOC and COCO ----------------------------------------------------------------------------------------------------


def _list_voc(data: VocData, part: VocSplit) -> Listing:
    listing = Listing()
    folder, path = data.root / "JPEGImages", list_file(data.root, part.list)
    files = image_files(folder, listing.skipped)
    ids = listed_ids(read_text(path), str(path), files)
    if data.labels is not None:
        table = read_label_csv(data.labels, " ", (*data.classes, *data.mask_classes, *VOC_CLASSES), listing.notes)
        labels = _by_image(table, files, folder, data.labels)
        if missing := [i for i in ids if i not in labels]:
            raise DatasetError(f"{data.labels}: {len(missing)} images of {path.name} have no label: {listed(missing)}")
    else:
        # by the name of the file, because an annotation has the Unicode form of its photograph
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


def _list_coco(data: CocoData, part: CocoSplit) -> Listing:
    coco = read_coco(part.annotations)
    listing = Listing(names=coco.names)
    for image in coco.images:
        if path := _coco_file(part.images, image.file_name):
            listing.paths[image.item_id] = path
            names = {o.name for o in coco.objects[image.item_id] if o.name is not None}
            listing.labels[image.item_id] = frozenset(names)
        else:
            listing.label_without_image.append(image.item_id)
    return listing


def _coco_file(folder: Path, name: str) -> Path | None:
    """Return the file of an image record, or None if there is no such file.

    The record's name may start with the folder of the images, be percent-encoded, or have another Unicode form or another
    case of its suffix.
    """
    names = [name]
    with suppress(DatasetError):  # the decoded name may point outside the folder
        names.append(check_id(unquote(name), str(folder)))
    relative = [text.removeprefix(start) for text in names for start in ("", f"{folder.name}/")]
    forms = (normalize(form, text) for text in relative for form in ("NFC", "NFD"))
    paths = [Path(form) for form in dict.fromkeys(forms)]
    paths += [path.with_suffix(suffix) for path in paths for suffix in (path.suffix.lower(), path.suffix.upper())]
    return next((folder / path for path in paths if (folder / path).is_file()), None)


# --- sequences -------------------------------------------------------------------------------------------------------


def _list_sequences(data: SequencesData, part: SequencesSplit) -> Listing:
    records = read_records(part.sequences)
    listing = Listing(records=records)
    labels = read_label_csv(part.labels, data.separator, data.classes, listing.notes, data.covariates)
    ids = set(records.ids)
    listing.names = tuple(sorted(frozenset().union(*labels.values())))
    if not listing.names and part is data.train:
        raise DatasetError(
            f"{part.labels}: none of its {len(labels)} rows names a class; expected some in the column 'classes'"
        )
    listing.paths = {name: part.sequences for name in records.ids if name in labels}
    listing.labels = {name: labels[name] for name in listing.paths}
    listing.label_without_image = sorted(labels.keys() - ids)
    other = data.val if part is data.train else data.train
    elsewhere: set[str] = set()
    if other is not None and other.sequences == part.sequences:  # one file, and a label table per split
        elsewhere = set(read_label_csv(other.labels, data.separator, data.classes, [], data.covariates))
    listing.image_without_label = sorted(ids - labels.keys() - elsewhere)
    if data.covariates:
        listing.covariates = read_covariates(part.labels, data.covariates)
    return listing


_LAYOUTS: dict[str, Callable[..., Listing]] = {
    "folder": _list_folder,
    "csv": _list_csv,
    "voc": _list_voc,
    "coco": _list_coco,
    "sequences": _list_sequences,
}
