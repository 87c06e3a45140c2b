"""The table ``[data]`` of a config: one dataclass a layout of files, chosen by the key ``kind``.

Every layout has the splits ``train`` (its image-level labels train the pipeline) and, optionally, ``val`` (held out).
Masks are optional everywhere: they are only used to judge, and by recipes that say ``supervision = "truth"``.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wsseg.config import setting
from wsseg.errors import ConfigError
from wsseg.names import composed


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What all layouts share.

    Args:
        kind: the layout.
        classes: the classes to learn, in the order of their ids; empty for all that the data set has.
        other_classes: what mask pixels of classes that are not chosen become.
        on_bad_image: stop with the full list of unreadable images, or skip them and list them in the manifest.
    """

    kind: str
    classes: tuple[str, ...] = setting(())
    other_classes: Literal["ignore", "background"] = setting("ignore")
    on_bad_image: Literal["stop", "skip"] = setting("stop")

    def __post_init__(self) -> None:
        """Bring class names into the one Unicode form that labels are read in."""
        for name in ("classes", "mask_classes"):
            if hasattr(self, name):
                object.__setattr__(self, name, tuple(map(composed, getattr(self, name))))


@dataclass(frozen=True)
class FolderSplit:
    """Args:
    images: a folder with one sub-folder per class.
    masks: a folder with the same layout that holds indexed PNG masks.
    limit: use only so many images, evenly spaced over the sorted ids; 0 for all.
    """

    images: Path = setting()
    masks: Path | None = setting(None)
    limit: int = setting(0, low=0)


@dataclass(frozen=True, kw_only=True)
class FolderData(_Data):
    """A folder per class; `background` names the sub-folder whose images show none of the classes.

    `mask_classes` names the mask values 1..K where they are not `classes` in order.
    """

    train: FolderSplit = setting()
    val: FolderSplit | None = setting(None)
    background: str = setting("")
    mask_classes: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "background", composed(self.background))


@dataclass(frozen=True)
class CsvSplit:
    """Args:
    images: folder of images.
    labels: CSV file with the header ``image_id,classes``; classes are names separated by `separator`.
    masks: folder of indexed PNG masks, ``<image_id>.png``.
    limit: use only so many images, evenly spaced over the sorted ids; 0 for all.
    """

    images: Path = setting()
    labels: Path = setting()
    masks: Path | None = setting(None)
    limit: int = setting(0, low=0)


@dataclass(frozen=True, kw_only=True)
class CsvData(_Data):
    """A CSV file beside an image folder.

    `mask_classes` names the mask values 1..K where they are not `classes` in order.
    """

    train: CsvSplit = setting()
    val: CsvSplit | None = setting(None)
    separator: str = setting(" ")
    mask_classes: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.separator:
            raise ConfigError("separator: found ''; expected what stands between class names in a cell, such as ' '")


@dataclass(frozen=True)
class VocSplit:
    """Args:
    list: name of an image list in ``ImageSets/Segmentation``, or in ``ImageSets/Main`` if there is none.
    limit: use only so many images, evenly spaced over the sorted ids; 0 for all.
    """

    list: str = setting()
    limit: int = setting(0, low=0)


@dataclass(frozen=True, kw_only=True)
class VocData(_Data):
    """A devkit in the form of PASCAL VOC, with VOC's classes or its own.

    Args:
        root: the folder that holds ``JPEGImages`` and ``ImageSets``.
        labels: a CSV ``image_id,classes`` instead of the XML files in ``Annotations``.
        masks: folder of palette masks below `root`; empty for none.
        difficult: whether objects marked `difficult` in the XML give a label.
        mask_classes: names of the mask values 1..K; empty for those of ``labelmap.txt``, or VOC's own.
    """

    root: Path = setting()
    train: VocSplit = setting()
    val: VocSplit | None = setting(None)
    labels: Path | None = setting(None)
    masks: str = setting("SegmentationClass")
    difficult: bool = setting(False)
    mask_classes: tuple[str, ...] = setting(())


@dataclass(frozen=True)
class CocoSplit:
    """Args:
    images: folder of images.
    annotations: instances JSON.
    limit: use only so many images, evenly spaced over the sorted ids; 0 for all.
    """

    images: Path = setting()
    annotations: Path = setting()
    limit: int = setting(0, low=0)


@dataclass(frozen=True, kw_only=True)
class CocoData(_Data):
    """COCO instances: labels from the categories of the annotations, truth from their polygons and RLE."""

    train: CocoSplit = setting()
    val: CocoSplit | None = setting(None)


@dataclass(frozen=True)
class DemoSplit:
    """Args:
    images: how many to generate.
    limit: use only so many of them; 0 for all.
    """

    images: int = setting(low=1, high=100_000)
    limit: int = setting(0, low=0)


@dataclass(frozen=True, kw_only=True)
class DemoData(_Data):
    """The generated demo data set; it is made in the store where it is not there yet.

    Args:
        scene: ``objects`` (textured shapes, `wsseg.data.demo`) or ``surfaces`` (small defects, `wsseg.data.demo_surfaces`).
        size: height in pixels; objects are on square images, surfaces are twice as wide.
        seed: the seed it is generated from; not `rng_seed`, so that runs with other seeds share one data set.
    """

    train: DemoSplit = setting()
    val: DemoSplit | None = setting(None)
    scene: Literal["objects", "surfaces"] = setting("objects")
    size: int = setting(128, low=64, high=1024)
    seed: int = setting(0, low=0, high=2**32 - 1)


DATA_KINDS: dict[str, type] = {
    "folder": FolderData,
    "csv": CsvData,
    "voc": VocData,
    "coco": CocoData,
    "demo": DemoData,
}


def input_paths(data: Any) -> list[Path]:
    """Return the files and folders that a data set is read from."""
    paths = []
    for value in (data, data.train, data.val):
        paths += (
            [v for f in dataclasses.fields(value) if isinstance(v := getattr(value, f.name), Path)] if value else []
        )
    if isinstance(data, VocData):  # other folders of the devkit are not read
        paths.remove(data.root)
        paths += [data.root / name for name in ("JPEGImages", "Annotations", "ImageSets", data.masks) if name]
    return paths
