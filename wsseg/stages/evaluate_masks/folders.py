"""Evaluation of a folder of masks against a folder of true masks."""

from pathlib import Path
from typing import Any

import numpy as np

from wsseg.data.photographs import image_files
from wsseg.data.reading import read_mask_file
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError, StageError, listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap
from wsseg.progress import track
from wsseg.stages.evaluate_masks.masks import MaskJudge


def evaluate_folders(predictions: Path, truth: Path, class_file: Path, undecided: bool) -> dict[str, Any]:
    """Evaluate a folder of masks against a folder of true masks with the same ids.

    Args:
        predictions: folder of indexed PNG masks.
        truth: folder of the true masks.
        class_file: text file; line K is the name of class id K.
        undecided: whether 255 in predictions counts as a miss; otherwise it is an error.

    Raises:
        DatasetError: both folders are the same, ids occur in one folder only, masks cannot be read, differ in size or
            hold values that are not class ids (all are listed), or no mask shows a class.
    """
    classes = ClassMap(tuple(line.strip() for line in read_text(class_file).splitlines() if line.strip()))
    if predictions.resolve() == truth.resolve():
        raise DatasetError(f"{predictions}: it is given as predictions and as truth; expected: two folders")
    predicted, true = (image_files(folder, outputs=True) for folder in (predictions, truth))
    for name, ids, folder in (
        ("no prediction", true.keys() - predicted.keys(), predictions),
        ("no truth", predicted.keys() - true.keys(), truth),
    ):
        if ids:
            raise DatasetError(
                f"{len(ids)} masks have {name} in {folder}: {listed(sorted(ids))}; expected: the same names in both folders"
            )
    if not true:
        raise DatasetError(f"{truth}: no mask was found in it")
    judge = MaskJudge(classes, boundary=True, undecided=undecided)
    values: dict[Path, set[int]] = {predictions: set(), truth: set()}
    faults: dict[str, list[str]] = {}
    for item_id in track(sorted(true), len(true), "evaluating masks"):
        try:
            masks = [read_mask_file(files[item_id])[0] for files in (true, predicted)]
            judge.add(judge.count("", *masks))
        except (DatasetError, StageError) as error:
            faults.setdefault(str(error).removeprefix(": "), []).append(item_id)
            continue
        for folder, mask in zip((truth, predictions), masks, strict=True):
            values[folder] |= set(np.unique(mask).tolist())
    if faults:
        lines = listed(
            f"{', '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: {fault}" for fault, ids in faults.items()
        )
        count = sum(map(len, faults.values()))
        raise DatasetError(f"{count} of {len(true)} masks cannot be evaluated: {lines}")
    for folder, values_in in values.items():
        if values_in <= {BACKGROUND, IGNORE_INDEX} and (IGNORE_INDEX in values_in or folder == truth):
            raise DatasetError(
                f"{folder}: no mask shows a class, the values are {', '.join(map(str, sorted(values_in)))}; expected: class "
                f"ids 1 to {len(classes)}, where 255 means 'not evaluated'; divide masks of 0 and 255 by 255"
            )
    return judge.metrics()
