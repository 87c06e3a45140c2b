"""Images with image-level labels, in five layouts. This module cannot see masks: they are in `wsseg.data.truth`."""

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from wsseg import files
from wsseg.data.config import CocoData, CocoSplit, CsvData, CsvSplit, FolderData, FolderSplit, VocData, VocSplit
from wsseg.data.reading import FileMemory, read_image
from wsseg.data.walk import PassedOver, data_folders, images_below, passed_over_line
from wsseg.errors import DatasetError, nearest
from wsseg.files import open_file
from wsseg.labels import VOC_CLASSES, ClassMap
from wsseg.names import check_id
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
    """

    paths: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, frozenset[str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    label_without_image: list[str] = field(default_factory=list)
    image_without_label: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=list)


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


def load_images(data: Any, split: str, memory: FileMemory, classes: ClassMap | None = None) -> LabeledImages:
    """Read a split's labels and inspect its images (each file once, then remembered in `memory`).

    Args:
        data: one of the data configs.
        split: ``train`` or ``val``.
        memory: what is known of files.
        classes: the classes of the training split, for another split of the same data set.

    Raises:
        DatasetError: labels without image, unreadable images (unless they are to be skipped), unknown classes, no image.
    """
    listing = list_split(data, split)
    if classes is None:
        classes = class_map(data, listing)
    elif not data.classes and (unknown := sorted(set(listing.names) - set(classes.names))):
        raise DatasetError(
            f"{split}: it has classes that train has not: {listed(unknown)}; name those to learn in data.classes"
        )
    if listing.passed_over:
        log.warning("%s: %s", split, passed_over_line(listing.passed_over))
    if listing.image_without_label:
        log.warning(
            "%s: %d images have no label and are not used: %s",
            split, len(listing.image_without_label), listed(listing.image_without_label),
        )  # fmt: skip
    if listing.label_without_image and data.on_bad_image == "stop":
        raise DatasetError(
            f"{split}: {len(listing.label_without_image)} labels have no image: {listed(listing.label_without_image)}; "
            'add the images, remove the labels, or set data.on_bad_image = "skip"'
        )
    skipped = dict.fromkeys(listing.label_without_image, "no image file")
    ids = thinned(sorted(listing.paths), getattr(data, split).limit)
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


def thinned(ids: list[str], limit: int) -> list[str]:
    """Return `limit` of the ids, evenly spaced; all of them where `limit` is 0 or not smaller."""
    if not 0 < limit < len(ids):
        return ids
    return [ids[i * len(ids) // limit] for i in range(limit)]


# --- layouts ---------------------------------------------------------------------------------------------------------


def list_split(data: Any, split: str) -> Listing:
    """List one split of a data set.

    Raises:
        DatasetError: the split is not configured, files are missing or malformed, ids are illegal or doubled.
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
    listing.names = tuple(p.name for p in folders if p.name != data.background)
    for folder in folders:
        for name, path in image_files(folder, listing.passed_over, without).items():
            item_id = check_id(f"{folder.name}/{name}", str(part.images))
            listing.paths[item_id] = path
            listing.labels[item_id] = frozenset({folder.name} - {data.background})
    return listing


def _other_folders(data: FolderData | CsvData, part: FolderSplit | CsvSplit) -> frozenset[Path]:
    """Return the folders of the data set that do not hold this split's images: masks, and the other split's images."""
    named = [folder for s in (data.train, data.val) if s for folder in (s.images, s.masks) if folder]
    return frozenset(folder.resolve() for folder in named) - {part.images.resolve()}


def _list_csv(data: CsvData, part: CsvSplit) -> Listing:
    labels = read_label_csv(part.labels, data.separator)
    names = data.mask_classes or tuple(sorted(frozenset().union(*labels.values())))
    passed_over: PassedOver = []
    listing = _joined(labels, image_files(part.images, passed_over, _other_folders(data, part)), names)
    listing.passed_over = passed_over
    return listing


def _list_voc(data: VocData, part: VocSplit) -> Listing:
    list_file = data.root / "ImageSets" / "Segmentation" / f"{part.list}.txt"
    ids = [check_id(line.strip(), str(list_file)) for line in read_text(list_file).splitlines() if line.strip()]
    if data.labels is not None:
        by_id = read_label_csv(data.labels, " ")
        missing = [i for i in ids if i not in by_id]
        if missing:
            raise DatasetError(
                f"{data.labels}: {len(missing)} images of {list_file.name} have no label: {listed(missing)}"
            )
    else:
        by_id = {i: _voc_xml_classes(data.root / "Annotations" / f"{i}.xml", data.difficult) for i in ids}
    unknown = sorted({name for i in ids for name in by_id[i]} - set(VOC_CLASSES))
    if unknown:
        raise DatasetError(f"{data.root}: labels name classes that VOC does not have: {listed(unknown)}")
    listing = Listing(names=VOC_CLASSES)
    for item_id in ids:
        path = data.root / "JPEGImages" / f"{item_id}.jpg"
        if path.is_file():
            listing.paths[item_id] = path
            listing.labels[item_id] = by_id[item_id]
        else:
            listing.label_without_image.append(item_id)
    return listing


def _voc_xml_classes(path: Path, difficult: bool) -> frozenset[str]:
    """Return the class names of the objects in a VOC annotation."""
    try:
        with open_file(path) as file:
            objects = list(parse_xml(file).iter("object"))
        return frozenset(
            (o.findtext("name") or "").strip()
            for o in objects
            if difficult or (o.findtext("difficult") or "0").strip() != "1"
        )
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); set data.labels to a CSV where there is no XML"
        ) from error
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: not a legal VOC annotation: {error or type(error).__name__}") from error


def _list_coco(data: CocoData, part: CocoSplit) -> Listing:
    coco = read_coco(part.annotations)
    category_names = {c["id"]: c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"])}
    by_image: dict[int, set[str]] = {image["id"]: set() for image in coco["images"]}
    for annotation in coco["annotations"]:
        if annotation["image_id"] not in by_image or annotation["category_id"] not in category_names:
            raise DatasetError(
                f"{part.annotations}: annotation {annotation.get('id')} names an unknown image or category"
            )
        by_image[annotation["image_id"]].add(category_names[annotation["category_id"]])
    listing = Listing(names=tuple(category_names.values()))
    for image in coco["images"]:
        item_id = coco_id(image, part.annotations)
        if item_id in listing.labels:
            raise DatasetError(f"{part.annotations}: two images have the id {item_id!r}")
        path = part.images / image["file_name"]
        if path.is_file():
            listing.paths[item_id] = path
            listing.labels[item_id] = frozenset(by_image[image["id"]])
        else:
            listing.label_without_image.append(item_id)
    return listing


_LAYOUTS: dict[str, Callable[..., Listing]] = {
    "folder": _list_folder,
    "csv": _list_csv,
    "voc": _list_voc,
    "coco": _list_coco,
}


def _joined(labels: dict[str, frozenset[str]], files: dict[str, Path], names: tuple[str, ...]) -> Listing:
    unknown = sorted(frozenset().union(*labels.values()) - set(names)) if labels else []
    if unknown:
        raise DatasetError(
            f"labels name classes that data.mask_classes does not: {listed(unknown)}; known: {', '.join(names)}"
        )
    both = labels.keys() & files.keys()
    return Listing(
        paths={i: files[i] for i in both},
        labels={i: labels[i] for i in both},
        names=names,
        label_without_image=sorted(labels.keys() - both),
        image_without_label=sorted(files.keys() - both),
    )


# --- files -----------------------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Return a text file's content; DatasetError where it cannot be read."""
    try:
        return files.read_text(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error


def image_files(folder: Path, passed_over: PassedOver | None = None, without: Collection[Path] = ()) -> dict[str, Path]:
    """Return the image files below `folder` by id (relative path without suffix), sorted.

    Args:
        folder: where to begin.
        passed_over: takes what may be an image and is not listed, with the reason.
        without: resolved folders below it that are left out.

    Raises:
        DatasetError: no such folder, or two files that differ only in their suffix or in the Unicode form of their name.
    """
    files: dict[str, Path] = {}
    for path in sorted(images_below(folder, passed_over if passed_over is not None else [], without)):
        item_id = check_id(path.relative_to(folder).with_suffix("").as_posix(), str(folder))
        if item_id in files:
            raise DatasetError(f"{path} and {files[item_id].name} have the same id {item_id!r}; rename one")
        files[item_id] = path
    return files


def open_images(images: Path, what: str, refused: list[tuple[Path, str]]) -> Iterator[tuple[str, Image]]:
    """Yield (id, photograph (H, W, 3) uint8) of a file, or of all below a folder.

    Args:
        images: a file or a folder.
        what: a word for the progress line.
        refused: takes the files that cannot be read, with the reason.

    Raises:
        DatasetError: no such file or folder, or no image in it.
    """
    files = {check_id(images.stem, str(images)): images} if images.is_file() else image_files(images)
    if not files:
        raise DatasetError(f"{images}: no image was found in it")
    for item_id, path in track(files.items(), len(files), what):
        try:
            image = read_image(path)
        except DatasetError as error:
            refused.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        yield item_id, image


def read_label_csv(path: Path, separator: str) -> dict[str, frozenset[str]]:
    """Read a CSV ``image_id,classes``; an empty second field is an image without any class.

    Raises:
        DatasetError: another header, a row with other than two fields, a doubled or illegal id.
    """
    rows = csv.reader(read_text(path).splitlines())
    labels: dict[str, frozenset[str]] = {}
    try:
        header = [cell.strip() for cell in next(rows, [])]
        if header != ["image_id", "classes"]:
            raise DatasetError(f"{path}: line 1: found {','.join(header)[:60]!r}; legal: 'image_id,classes'")
        for row in rows:
            if not row:
                continue
            where = f"{path}: line {rows.line_num}"
            if len(row) != 2:
                raise DatasetError(f"{where}: found {len(row)} fields; legal: image_id,classes")
            item_id = check_id(row[0].strip(), where)
            if item_id in labels:
                raise DatasetError(f"{where}: the image id {item_id!r} stands twice")
            labels[item_id] = frozenset(n.strip() for n in row[1].split(separator) if n.strip())
    except csv.Error as error:
        raise DatasetError(f"{path}: line {rows.line_num}: {error}") from error
    return labels


_COCO_TYPES = {"id": int, "image_id": int, "category_id": int, "file_name": str, "name": str}


def read_coco(path: Path) -> dict[str, Any]:
    """Read a COCO instances JSON and check the keys that wsseg uses.

    Raises:
        DatasetError: not JSON, or without the lists images, annotations and categories in COCO's form.
    """
    try:
        coco = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON: {error}") from error
    needed = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}
    for part, keys in needed.items():
        rows = coco.get(part) if isinstance(coco, dict) else None
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: the list {part!r} is missing; legal: a COCO instances file")
        for i, row in enumerate(rows):
            if not isinstance(row, dict) or any(not isinstance(row.get(key), _COCO_TYPES[key]) for key in keys):
                raise DatasetError(
                    f"{path}: {part}[{i}]: legal: an object with {', '.join(keys)} (ids numbers, names texts)"
                )
    return dict(coco)


def coco_id(image: dict[str, Any], where: Path) -> str:
    """Return the item id of a COCO image record: its file name without suffix."""
    path = Path(check_id(image["file_name"], str(where)))
    return check_id(path.with_suffix("").as_posix(), str(where))
