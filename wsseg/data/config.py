"""The table ``[data]`` of a config: one dataclass per layout of files, chosen by the key ``kind``.

Each layout has a split ``train``, whose image-level labels train the pipeline, and optionally a held-out split ``val``.
Masks are optional: they are used for evaluation only, and by recipes with ``supervision = "truth"``.
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
    """Values of all layouts.

    Args:
        kind: the layout.
        classes: names of the classes to learn, in the order of their ids; an empty list means all classes of the data set.
        other_classes: value of mask pixels of other classes: ``ignore`` (255) or ``background`` (0).
        on_bad_image: ``stop`` reports all unreadable images in an error; ``skip`` leaves them out and lists them in the manifest.
    """

    kind: str
    classes: tuple[str, ...] = setting(())
    other_classes: Literal["ignore", "background"] = setting("ignore")
    on_bad_image: Literal["stop", "skip"] = setting("stop")

    def __post_init__(self) -> None:
        """Convert class names to the Unicode form in which labels are read, and refuse marks of val."""
        for name in ("classes", "mask_classes"):
            if hasattr(self, name):
                object.__setattr__(self, name, tuple(map(composed, getattr(self, name))))
        if getattr(getattr(self, "val", None), "marks", None) is not None:
            raise ConfigError(
                "val.marks: images of val are evaluated and cannot be marked; remove it, or name train.marks"
            )


@dataclass(frozen=True)
class FolderSplit:
    """Images of one split.

    Args:
        images: folder with one sub-folder per class.
        masks: folder with the same layout that contains indexed PNG masks.
        limit: number of images to use, evenly spaced over the sorted ids; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
        marks: folder of marks, ``<image_id>.png``, of images of train; see `wsseg.data.marks`.
    """

    images: Path = setting()
    masks: Path | None = setting(None)
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)
    marks: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class FolderData(_Data):
    """One folder per class; `background` names the sub-folder whose images show none of the classes.

    `mask_classes` names the mask values 1..K if they differ from `classes` in order.
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
    """Images of one split.

    Args:
        images: folder of images.
        labels: CSV file with the header ``image_id,classes``; class names are separated by `separator`.
        masks: folder of indexed PNG masks, ``<image_id>.png``.
        limit: number of images to use, evenly spaced over the sorted ids; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
        marks: folder of marks, ``<image_id>.png``, of images of train; see `wsseg.data.marks`.
    """

    images: Path = setting()
    labels: Path = setting()
    masks: Path | None = setting(None)
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)
    marks: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class CsvData(_Data):
    """A CSV file of labels and a folder of images.

    `mask_classes` names the mask values 1..K if they differ from `classes` in order.
    """

    train: CsvSplit = setting()
    val: CsvSplit | None = setting(None)
    separator: str = setting(" ")
    mask_classes: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.separator:
            raise ConfigError("separator: found ''; expected: the separator of class names in a cell, such as ' '")


@dataclass(frozen=True)
class VocSplit:
    """Images of one split.

    Args:
        list: name of an image list in ``ImageSets/Segmentation``, or in ``ImageSets/Main`` if it is not there.
        limit: number of images to use, evenly spaced over the sorted ids; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
        marks: folder of marks, ``<image_id>.png``, of images of train; see `wsseg.data.marks`.
    """

    list: str = setting()
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)
    marks: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class VocData(_Data):
    """A devkit with the layout of PASCAL VOC, with VOC's classes or others.

    Args:
        root: folder that contains ``JPEGImages`` and ``ImageSets``.
        labels: CSV file with the header ``image_id,classes``, used instead of the XML files in ``Annotations``.
        masks: folder of palette masks below `root`; empty for none.
        difficult: use objects that are marked `difficult` in the XML as labels, too.
        mask_classes: names of the mask values 1..K; an empty list means those of ``labelmap.txt``, or VOC's.
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
    """Images of one split.

    Args:
        images: folder of images.
        annotations: JSON file of COCO instances.
        limit: number of images to use, evenly spaced over the sorted ids; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
        marks: folder of marks, ``<image_id>.png``, of images of train; see `wsseg.data.marks`.
    """

    images: Path = setting()
    annotations: Path = setting()
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)
    marks: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class CocoData(_Data):
    """COCO instances: labels are the categories of the annotations, true masks their polygons and RLE."""

    train: CocoSplit = setting()
    val: CocoSplit | None = setting(None)


@dataclass(frozen=True)
class DemoSplit:
    """Images of one split.

    Args:
        images: number of images to generate.
        limit: number of images to use; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
        marks: folder of marks, ``<image_id>.png``, of images of train; see `wsseg.data.marks`.
    """

    images: int = setting(low=1, high=100_000)
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)
    marks: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class DemoData(_Data):
    """The generated demo data set, which is created in the store at first use.

    Args:
        scene: ``objects`` (textured shapes, `wsseg.data.demo`) or ``surfaces`` (small defects, `wsseg.data.demo_surfaces`).
        size: height in pixels; objects are on square images, surfaces are twice as wide.
        seed: seed of the generated images; independent of `rng_seed`, so that runs with other seeds share one data set.
    """

    train: DemoSplit = setting()
    val: DemoSplit | None = setting(None)
    scene: Literal["objects", "surfaces"] = setting("objects")
    size: int = setting(128, low=64, high=1024)
    seed: int = setting(0, low=0, high=2**32 - 1)


@dataclass(frozen=True)
class SequencesSplit:
    """Sequences of one split.

    Args:
        sequences: FASTA file of DNA or RNA (``.fa``, ``.fasta``, ``.fna``, also with ``.gz``), or an array of signals
            (``.npy``, ``.npz``), see `wsseg.data.sequences`.
        labels: CSV file with the header ``image_id,classes`` and the columns that `covariates` names; records without a row
            are not used.
        masks: BED file (name of the sequence, start, end, class), or a ``.npy`` file of class ids, one row per sequence.
        limit: number of sequences to use, evenly spaced over the sorted ids; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
    """

    sequences: Path = setting()
    labels: Path = setting()
    masks: Path | None = setting(None)
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class SequencesData(_Data):
    """DNA or signals: items of height 1.

    Args:
        separator: separator of class names in a cell of the label table.
        covariates: further columns of the label table, such as ``subject`` or ``batch``; `data check` reports what they reveal.
        group: the covariate that names the person or the origin; one that occurs in both splits is a problem.
        sampling_rate: samples per second of signals; 0 for letters.
    """

    train: SequencesSplit = setting()
    val: SequencesSplit | None = setting(None)
    separator: str = setting(" ")
    covariates: tuple[str, ...] = setting(())
    group: str = setting("")
    sampling_rate: float = setting(0.0, low=0.0, high=1e9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.separator:
            raise ConfigError("separator: found ''; expected: the separator of class names in a cell, such as ' '")
        if self.group and self.group not in self.covariates:
            raise ConfigError(f"group: found {self.group!r}; expected: one of the covariates {list(self.covariates)}")


@dataclass(frozen=True)
class PlantedSplit:
    """Sequences of one split.

    Args:
        sequences: number of sequences to generate.
        limit: number of sequences to use; 0 means all.
        label_overlay: CSV file of corrected labels with the columns ``image,class,present``; see `wsseg.data.label_overlay`.
    """

    sequences: int = setting(low=1, high=1_000_000)
    limit: int = setting(0, low=0)
    label_overlay: Path | None = setting(None)


@dataclass(frozen=True, kw_only=True)
class PlantedData(_Data):
    """Generated DNA with planted motifs, which is created in the store at first use: `wsseg.data.planted`.

    Args:
        length: bases per sequence.
        adapter: a train confound: most sequences of the first class start with the same twelve bases, and val has none.
        seed: seed of the generated sequences; independent of `rng_seed`, so that runs with other seeds share one data set.
    """

    train: PlantedSplit = setting()
    val: PlantedSplit | None = setting(None)
    length: int = setting(200, low=64, high=100_000)
    adapter: bool = setting(False)
    seed: int = setting(0, low=0, high=2**32 - 1)


DATA_KINDS: dict[str, type] = {
    "folder": FolderData,
    "csv": CsvData,
    "voc": VocData,
    "coco": CocoData,
    "demo": DemoData,
    "sequences": SequencesData,
    "planted_dna": PlantedData,
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
