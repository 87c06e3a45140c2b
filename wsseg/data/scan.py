"""What lies in a folder that `wsseg init` looks at: photographs, masks and label files, and which photograph a label means."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from wsseg.data.label_files import (
    SPLITS,
    AmbiguousLabelsError,
    ParsedLabels,
    coco_names,
    is_coco,
    label_studio_names,
    labelme_classes,
    name_parts,
    read_json,
    read_xml,
    without_upload,
)
from wsseg.data.reading import read_mask_file
from wsseg.data.walk import data_files, folders_below, is_image
from wsseg.errors import DatasetError
from wsseg.names import composed

Labels = dict[Path, frozenset[str]]  # class names by photograph

MASK_FOLDERS = frozenset({
    "mask", "masks", "segmentationclass", "segmentationclassaug", "segmentationobject", "ground_truth", "groundtruth",
    "gt", "trimaps",
})  # fmt: skip
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"})
_DEPTH = 8  # folders below the one given that are looked into
_FEW_VALUES = 32  # of a mask


@dataclass
class SplitLabels:
    """The labels of one split as one source states them.

    Args:
        where: the label file or folder, for messages.
        split: ``train``, ``val``, ``test`` or empty.
        base: the folder that the images' ids are relative to.
        labels: class names by photograph.
        lost: names of images that were not found.
        named: the label file's content, of forms that have one.
    """

    where: Path
    split: str
    base: Path
    labels: Labels
    lost: list[str] = field(default_factory=list)
    named: ParsedLabels | None = None


class FolderScan:
    """All folders, photographs and label files below a folder.

    Args:
        root: the folder, resolved.
        wanted: the label files that the user chose, resolved; empty for all.
        separator: what the user says separates class names in tables.
    """

    def __init__(self, root: Path, wanted: frozenset[Path] = frozenset(), separator: str | None = None) -> None:
        self.root, self.wanted, self.separator = root, wanted, separator
        self.folders = list(folders_below(root, _DEPTH))
        self.files: list[Path] = []
        self.reasons: list[str] = []  # what was looked at and cannot be used
        pictures: dict[Path, list[Path]] = {}
        for folder in self.folders:
            for path in data_files(folder):
                if is_image(path):
                    pictures.setdefault(folder, []).append(path)
                else:
                    self.files.append(path)
        masks = {folder for folder, paths in pictures.items() if self._said_to_be_masks(folder) or few_values(paths)}
        if masks == pictures.keys():  # photographs of few grey values
            masks = {folder for folder in masks if self._said_to_be_masks(folder)}
        self.mask_folders = masks
        self.pictures = {folder: paths for folder, paths in pictures.items() if folder not in masks}

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """Photographs by name without suffix, in composed Unicode."""
        found: dict[str, list[Path]] = {}
        for paths in self.pictures.values():
            for path in paths:
                found.setdefault(composed(path.stem), []).append(path)
        return found

    @cached_property
    def _places(self) -> dict[Path, list[Path]]:
        """Folders of photographs by the folders above them (and themselves)."""
        found: dict[Path, list[Path]] = {}
        for folder in self.pictures:
            for above in (folder, *folder.parents):
                if above.is_relative_to(self.root):
                    found.setdefault(above, []).append(folder)
        return found

    def holds(self, folder: Path) -> bool:
        """Return whether there is a photograph in a folder or below it."""
        return folder in self._places

    def below(self, folder: Path) -> list[Path]:
        """Return the photographs in a folder and below it."""
        return [path for place in self._places.get(folder, []) for path in self.pictures[place]]

    def is_for_masks(self, folder: Path) -> bool:
        """Return whether a folder holds masks, or folders of masks alone."""
        return not self.holds(folder) and any(place.is_relative_to(folder) for place in self.mask_folders)

    def knows(self, name: str) -> bool:
        """Return whether a photograph of that name was found, in whatever folder."""
        parts = name_parts(name)
        return bool(parts) and any(composed(part) in self.by_stem for part in (parts[-1], without_upload(parts[-1])))

    def label_files(self, *suffixes: str) -> list[Path]:
        """Return the files that may hold labels: those that the user chose, or all."""
        return [
            path
            for path in self.files
            if path.suffix.lower() in suffixes and (not self.wanted or path.resolve() in self.wanted)
        ]

    @cached_property
    def devkits(self) -> list[Path]:
        """Roots of PASCAL VOC's layout."""
        return [f for f in self.folders if (f / "JPEGImages").is_dir() and (f / "ImageSets").is_dir()]

    @cached_property
    def json_labels(self) -> dict[str, list[ParsedLabels]]:
        """Labels in JSON by form; each file is read once."""
        found: dict[str, list[ParsedLabels]] = {"coco": [], "labelstudio": [], "labelme": []}
        single: dict[Path, dict[str, frozenset[str]]] = {}
        for path in self.label_files(".json", ".jsonl"):
            content = read_json(path)
            if is_coco(content):
                if isinstance(content.get("annotations"), list):
                    found["coco"].append(coco_names(path, content))
                else:
                    self.reasons.append(f"{self.shown(path)} has no list of annotations")
            elif (names := labelme_classes(content)) is not None:
                single.setdefault(path.parent, {})[path.stem] = names
            elif tasks := label_studio_names(path, content):
                found["labelstudio"].append(tasks)
        found["labelme"] = [ParsedLabels(folder, classes) for folder, classes in single.items()]
        return found

    @cached_property
    def xml_labels(self) -> dict[str, list[ParsedLabels]]:
        """Labels in XML by form, but those of VOC devkits; each file is read once."""
        found: dict[str, list[ParsedLabels]] = {"voc": [], "cvat": []}
        single: dict[Path, dict[str, frozenset[str]]] = {}
        for path in self.label_files(".xml"):
            if any(path.is_relative_to(root) for root in self.devkits):
                continue
            labels = read_xml(path)
            if isinstance(labels, list):
                found["cvat"] += labels
            elif labels is not None:
                single.setdefault(path.parent, {})[path.stem] = labels
        found["voc"] = [ParsedLabels(folder, classes) for folder, classes in single.items()]
        return found

    def split_of(self, path: Path) -> str:
        """Return ``train``, ``val`` or ``test`` if a path says so; the part nearest to the file counts."""
        for part in reversed(path.relative_to(self.root).parts):
            words = [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", part.lower())]
            if splits := [SPLITS[word] for word in words if word in SPLITS]:
                return splits[0]
        return ""

    def shown(self, path: Path) -> str:
        """Return a path for a message, relative to the folder."""
        return path.relative_to(self.root).as_posix() if path != self.root else self.root.name

    def masks_of(self, part: SplitLabels) -> Path | None:
        """Return the folder of masks that has ``<id>.png`` for each photograph of a part, those of its own split first."""
        ids = [path.relative_to(part.base).with_suffix("").as_posix() for path in part.labels]
        places = sorted(self.mask_folders, key=lambda place: (self.split_of(place) != part.split, place))
        for folder in dict.fromkeys(p for place in places for p in (place, *place.parents) if self.is_for_masks(p)):
            if all((folder / f"{i}.png").is_file() for i in ids):
                if few_values([folder / f"{i}.png" for i in ids]):
                    return folder
                self.reasons.append(f"{self.shown(folder)}: masks that are not indexed or grey PNG files")
        return None

    def _said_to_be_masks(self, folder: Path) -> bool:
        return any(part.lower() in MASK_FOLDERS for part in folder.relative_to(self.root).parts)


def few_values(paths: list[Path]) -> bool:
    """Return whether the first images are indexed or grey files whose few values are class ids."""
    if any(path.suffix.lower() in (".jpg", ".jpeg") for path in paths[:3]):
        return False
    try:
        return all(len(np.unique(read_mask_file(path)[0])) <= _FEW_VALUES for path in paths[:3])
    except DatasetError:
        return False


# --- names to photographs --------------------------------------------------------------------------------------------


def joined(found: FolderScan, named: ParsedLabels) -> list[SplitLabels]:
    """Find the photographs that a label file names: those of one folder, the likeliest.

    Returns:
        One part, or one a split if only the folders of the photographs tell the splits; none if less than every second
        photograph was found.

    Raises:
        AmbiguousLabelsError: photographs of the same names lie in several folders, and nothing tells them apart.
    """
    split = named.split or found.split_of(named.where)
    best: dict[Path, dict[str, Path]] = {}
    for parts_of in (name_parts, _last_part, _without_upload):
        places = _places(found, named, parts_of)
        if _most(places) > _most(best):
            best = places
        if _most(best) == len(named.classes):
            break
    if 2 * _most(best) < len(named.classes) or not best:
        return []
    base = _likeliest(found, named, split, best)
    return _parts(found, named, split, base, best[base])


def _most(places: dict[Path, dict[str, Path]]) -> int:
    return max(map(len, places.values()), default=0)


def _places(
    found: FolderScan, named: ParsedLabels, parts_of: Callable[[str], tuple[str, ...]]
) -> dict[Path, dict[str, Path]]:
    """Return photographs by name for each folder that has at least every second one."""
    places: dict[Path, dict[str, Path]] = {}
    for name in named.classes:
        parts = tuple(map(composed, parts_of(name)))
        for path in found.by_stem.get(parts[-1], []) if parts else []:
            base = _base(path, parts)
            if base is not None and base.is_relative_to(found.root):
                known = places.setdefault(base, {})
                if name not in known or path.name == Path(name).name:
                    known[name] = path
    if 10 * _most(places) < 9 * len(named.classes):
        single = _unique(places)
        if len(single) > _most(places):
            return {found.root: single}
    return {base: paths for base, paths in places.items() if 2 * len(paths) >= len(named.classes)}


def _base(path: Path, parts: tuple[str, ...]) -> Path | None:
    """Return the folder from which `parts` lead to `path`, or None."""
    tail = (*map(composed, path.parts[-len(parts) : -1]), composed(path.stem))
    return path.parents[len(parts) - 1] if tail == parts else None


def _last_part(name: str) -> tuple[str, ...]:
    return name_parts(name)[-1:]


def _without_upload(name: str) -> tuple[str, ...]:
    return tuple(map(without_upload, name_parts(name)[-1:]))


def _unique(places: dict[Path, dict[str, Path]]) -> dict[str, Path]:
    """Return the photographs whose name occurs in one folder alone, such as those of classes."""
    found: dict[str, Path] = {}
    doubled: set[str] = set()
    for paths in places.values():
        doubled |= paths.keys() & found.keys()
        found |= paths
    return {name: path for name, path in found.items() if name not in doubled}


def _likeliest(found: FolderScan, named: ParsedLabels, split: str, places: dict[Path, dict[str, Path]]) -> Path:
    """Return the folder of the label file's split, with the most photographs, nearest to the label file."""

    def rank(base: Path) -> tuple[int, int, int]:
        own = found.split_of(base)
        agrees = 2 if own and own == split else 1 if not own or not split else 0
        near = 2 if base == named.where.parent else 1 if base.is_relative_to(named.where.parent) else 0
        return agrees, len(places[base]), near

    best = sorted(places, key=rank, reverse=True)
    if len(best) > 1 and rank(best[0]) == rank(best[1]):
        first, second = sorted(map(found.shown, best[:2]))
        raise AmbiguousLabelsError(
            f"{named.where}: its photographs may be those of {first} or of {second}, which have the same names; "
            "put the label file into one of them, and give that as FOLDER"
        )
    return best[0]


def _parts(found: FolderScan, named: ParsedLabels, split: str, base: Path, paths: dict[str, Path]) -> list[SplitLabels]:
    """Return the labels by split: what the label file says, or the folders of the photographs."""
    lost = [name for name in named.classes if name not in paths]
    groups: dict[str, dict[str, Path]] = {}
    for name, path in paths.items():
        groups.setdefault(split or found.split_of(path.parent), {})[name] = path
    if len(groups) > 1 and ("train" not in groups or groups.keys() <= {"train", ""}):
        groups = {split: paths}
    return [
        SplitLabels(
            named.where, own, base, _merged((path, named.classes[name]) for name, path in group.items()), lost, named
        )
        for own, group in groups.items()
    ]


def _merged(pairs: Iterable[tuple[Path, frozenset[str]]]) -> Labels:
    labels: Labels = {}
    for path, names in pairs:
        labels[path] = labels.get(path, frozenset()) | frozenset(map(composed, names))
    return labels
