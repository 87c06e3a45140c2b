"""Scan a folder for photographs, masks and label files (`wsseg init`)."""

import re
from functools import cached_property
from pathlib import Path

from wsseg.data.label_files import (
    SPLITS,
    ParsedLabels,
    coco_labels,
    is_coco,
    label_studio_labels,
    labelme_classes,
    name_parts,
    read_json,
    read_xml,
    without_upload_prefix,
)
from wsseg.data.mask_folders import are_masks, has_mask_name
from wsseg.data.walk import data_files, folders_below, is_image
from wsseg.data.written import outputs_among
from wsseg.names import composed

ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"})
_DEPTH = 8  # levels of sub-folders that are scanned


class FolderScan:
    """All folders, photographs and label files below a folder.

    Args:
        root: the folder, resolved.
        label_files: the label files that the user chose, resolved; empty for all.
        separator: the separator of class names in tables that the user chose; None to infer it.

    Attributes:
        folders: `root` and all data folders below it.
        photographs: image files by folder, without the folders of masks.
        mask_folders: folders whose images are masks.
        files: all other files.
        written: files that wsseg has written, which are no data unless the user chose them.
        unused: one line for each label source that cannot be used, with the reason.
    """

    def __init__(self, root: Path, label_files: frozenset[Path] = frozenset(), separator: str | None = None) -> None:
        self.root, self.chosen_files, self.separator = root, label_files, separator
        self.folders = list(folders_below(root, _DEPTH))
        self.files: list[Path] = []
        self.unused: list[str] = []
        images: dict[Path, list[Path]] = {}
        self.written: list[Path] = []
        for folder in self.folders:
            names = sorted(path.name for path in folder.iterdir())
            self.written += (folder / name for name in outputs_among(folder, names))
            for path in data_files(folder):
                if is_image(path):
                    images.setdefault(folder, []).append(path)
                else:
                    self.files.append(path)
        self.files += [path for path in self.written if path.resolve() in label_files]
        masks = {folder for folder, paths in images.items() if has_mask_name(folder, self.root) or are_masks(paths)}
        if masks == images.keys():  # photographs may have few grey values, too
            masks = {folder for folder in masks if has_mask_name(folder, self.root)}
        self.mask_folders = masks
        self._masks = {path for folder in masks for path in images[folder]}
        self.photographs = {folder: paths for folder, paths in images.items() if folder not in masks}

    # --- photographs and masks ---

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """Photographs by file name without suffix, in composed Unicode."""
        by_stem: dict[str, list[Path]] = {}
        for paths in self.photographs.values():
            for path in paths:
                by_stem.setdefault(composed(path.stem), []).append(path)
        return by_stem

    @cached_property
    def _photograph_folders(self) -> dict[Path, list[Path]]:
        """Folders of photographs by each folder that contains them, themselves included."""
        folders: dict[Path, list[Path]] = {}
        for folder in self.photographs:
            for parent in (folder, *folder.parents):
                if parent.is_relative_to(self.root):
                    folders.setdefault(parent, []).append(folder)
        return folders

    def has_photographs(self, folder: Path) -> bool:
        """Return whether there is a photograph in a folder or below it."""
        return folder in self._photograph_folders

    def photographs_below(self, folder: Path) -> list[Path]:
        """Return the photographs in a folder and below it."""
        return [path for place in self._photograph_folders.get(folder, []) for path in self.photographs[place]]

    def is_photograph_name(self, name: str) -> bool:
        """Return whether a photograph of that name exists in any folder."""
        last = name_parts(name)[-1:]
        return any(composed(stem) in self.by_stem for part in last for stem in (part, without_upload_prefix(part)))

    def masks_for(self, ids: list[str], split: str) -> Path | None:
        """Return the folder that has a mask ``<id>.png`` for each image id; folders of the same split come first."""
        folders = sorted(self.mask_folders, key=lambda folder: (self.split_of(folder) != split, folder))
        candidates = (parent for folder in folders for parent in (folder, *folder.parents))
        for folder in dict.fromkeys(c for c in candidates if self._has_masks_alone(c)):
            masks = [folder / f"{item_id}.png" for item_id in ids]
            if self._masks.issuperset(masks):
                if are_masks(masks):
                    return folder
                self.unused.append(f"{self.relative(folder)}: expected masks as indexed or grey PNG files")
        return None

    def _has_masks_alone(self, folder: Path) -> bool:
        """Return whether a folder contains masks, maybe in sub-folders, and no photograph."""
        return (
            folder.is_relative_to(self.root)
            and not self.has_photographs(folder)
            and any(place.is_relative_to(folder) for place in self.mask_folders)
        )

    # --- label files ---

    def label_files(self, *suffixes: str) -> list[Path]:
        """Return the files with these suffixes: those that the user chose, or all."""
        return [
            path
            for path in self.files
            if path.suffix.lower() in suffixes and (not self.chosen_files or path.resolve() in self.chosen_files)
        ]

    @cached_property
    def voc_devkits(self) -> list[Path]:
        """Root folders of PASCAL VOC devkits."""
        return [f for f in self.folders if (f / "JPEGImages").is_dir() and (f / "ImageSets").is_dir()]

    @cached_property
    def json_labels(self) -> dict[str, list[ParsedLabels]]:
        """Labels of JSON files by format (``coco``, ``labelstudio``, ``labelme``); each file is read once."""
        labels: dict[str, list[ParsedLabels]] = {"coco": [], "labelstudio": [], "labelme": []}
        per_image: dict[Path, dict[str, frozenset[str]]] = {}  # labelme has one file per image
        for path in self.label_files(".json", ".jsonl"):
            content = read_json(path)
            if is_coco(content):
                if isinstance(content.get("annotations"), list):
                    labels["coco"].append(coco_labels(path, content))
                else:
                    self.unused.append(f"{self.relative(path)}: COCO file without a list of annotations")
            elif (names := labelme_classes(content)) is not None:
                per_image.setdefault(path.parent, {})[path.stem] = names
            elif tasks := label_studio_labels(path, content):
                labels["labelstudio"].append(tasks)
        labels["labelme"] = [ParsedLabels(folder, classes) for folder, classes in per_image.items()]
        return labels

    @cached_property
    def xml_labels(self) -> dict[str, list[ParsedLabels]]:
        """Labels of XML files outside VOC devkits by format (``voc``, ``cvat``); each file is read once."""
        labels: dict[str, list[ParsedLabels]] = {"voc": [], "cvat": []}
        per_image: dict[Path, dict[str, frozenset[str]]] = {}  # VOC has one file per image
        for path in self.label_files(".xml"):
            if any(path.is_relative_to(root) for root in self.voc_devkits):
                continue
            content = read_xml(path)
            if isinstance(content, list):
                labels["cvat"] += content
            elif content is not None:
                per_image.setdefault(path.parent, {})[path.stem] = content
        labels["voc"] = [ParsedLabels(folder, classes) for folder, classes in per_image.items()]
        return labels

    # --- paths ---

    def split_of(self, path: Path) -> str:
        """Return ``train``, ``val`` or ``test`` if the path names one, else an empty string; the deepest part decides."""
        for part in reversed(path.relative_to(self.root).parts):
            words = [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", part.lower())]
            if splits := [SPLITS[word] for word in words if word in SPLITS]:
                return splits[0]
        return ""

    def relative(self, path: Path) -> str:
        """Return a path relative to the scanned folder, for messages."""
        return path.relative_to(self.root).as_posix() if path != self.root else self.root.name
