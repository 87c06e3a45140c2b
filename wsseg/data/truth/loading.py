"""The true masks of a data set, whatever its layout."""

from typing import Any

from wsseg.data.coco import read_coco
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import LabeledImages
from wsseg.data.truth.coco import CocoTruth
from wsseg.data.truth.masks import MaskFileTruth
from wsseg.data.truth.sequences import SequenceTruth
from wsseg.errors import DatasetError


def has_truth(data: Any, split: str) -> bool:
    """Return whether a split has true masks; a COCO file has them if one of its objects has an outline."""
    part = getattr(data, split)
    if part is None:
        return False
    if data.kind == "coco":
        return read_coco(part.annotations).has_outlines
    if data.kind == "voc":
        return bool(data.masks) and (data.root / data.masks).is_dir()
    return part.masks is not None


def load_truth(data: Any, images: LabeledImages, memory: FileMemory) -> MaskFileTruth | CocoTruth | SequenceTruth:
    """Return the true masks of a split, checked.

    Args:
        data: one of the data configs.
        images: the split.
        memory: inspections of earlier calls.

    Raises:
        DatasetError: the config names no masks, no image has one, some cannot be used (the message lists all; with
            ``on_bad_image = "skip"`` their images are not evaluated), or they contradict most of the image-level labels.
    """
    if not has_truth(data, images.split):
        raise DatasetError(f"data.{images.split}: the config names no masks; this step needs them")
    if data.kind == "sequences":
        return SequenceTruth(data, images)
    return CocoTruth(data, images, memory) if data.kind == "coco" else MaskFileTruth(data, images, memory)
