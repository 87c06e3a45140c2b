"""`wsseg evaluate`: a folder of masks against a folder of true masks."""

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.masks import encode_mask
from wsseg.errors import DatasetError
from wsseg.stages.evaluate_masks.folders import evaluate_folders


def write(folder, **masks):
    folder.mkdir()
    for name, mask in masks.items():
        (folder / f"{name}.png").write_bytes(encode_mask(np.array(mask, dtype=np.uint8)))
    return folder


def test_any_two_folders_can_be_evaluated(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    truth = write(tmp_path / "truth", a=[[0, 1]], b=[[2, 2]])
    given = write(tmp_path / "given", a=[[0, 1]], b=[[2, 0]])
    metrics = evaluate_folders(given, truth, tmp_path / "classes.txt", False)
    assert metrics["iou"] == {"background": 0.5, "cat": 1.0, "dog": 0.5}
    (given / "b.png").unlink()
    with pytest.raises(DatasetError, match="1 masks have no prediction in .*given: b; expected: the same names"):
        evaluate_folders(given, truth, tmp_path / "classes.txt", False)
    PILImage.new("RGB", (2, 1), "red").save(given / "b.png")
    with pytest.raises(DatasetError, match="a mask of colours"):
        evaluate_folders(given, truth, tmp_path / "classes.txt", False)


WRONG = {
    "sizes": ({"a": [[0, 1]]}, {"a": [[0], [1]]}, r"1 of 1 masks cannot be evaluated: a: the mask has the size \(2, 1\)"),
    "values in predictions": ({"a": [[0, 1]]}, {"a": [[0, 3]]}, r"a: the mask contains 3; expected: 0..2, 255"),
    "values in truth": ({"a": [[0, 7]]}, {"a": [[0, 1]]}, r"a: the truth contains 7; expected: 0..2, 255"),
    "truth of 0 and 255": ({"a": [[0, 255]]}, {"a": [[0, 1]]}, "truth: no mask shows a class, the values are 0, 255"),
    "truth of 255": ({"a": [[255, 255]]}, {"a": [[0, 1]]}, "truth: no mask shows a class, the values are 255"),
    "empty truth": ({"a": [[0, 0]]}, {"a": [[0, 0]]}, "truth: no mask shows a class, the values are 0"),
    "predictions of 0 and 255": ({"a": [[0, 1]]}, {"a": [[0, 255]]}, "given: no mask shows a class"),
    "other names": ({"a": [[0, 1]]}, {"a_mask": [[0, 1]]}, "1 masks have no prediction in .*given: a"),
    "more predictions": ({"a": [[0, 1]]}, {"a": [[0, 1]], "b": [[0, 1]]}, "1 masks have no truth in .*truth: b"),
}  # fmt: skip


@pytest.mark.parametrize(("true", "given", "message"), WRONG.values(), ids=WRONG.keys())
def test_folders_that_cannot_be_evaluated(tmp_path, true, given, message):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    folders = write(tmp_path / "given", **given), write(tmp_path / "truth", **true)
    with pytest.raises(DatasetError, match=message) as refused:
        evaluate_folders(*folders, tmp_path / "classes.txt", True)
    assert "\n" not in str(refused.value)


def test_all_masks_that_cannot_be_evaluated_are_listed_at_once(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n")
    truth = write(tmp_path / "truth", **{f"m{n}": [[0, 1]] for n in range(6)})
    given = write(tmp_path / "given", **{f"m{n}": [[0, 1], [0, 0]] if n else [[0, 9]] for n in range(6)})
    with pytest.raises(
        DatasetError, match=r"6 of 6 .*: m0: the mask contains 9.*, m1, m2, m3 ...: the mask has the size \(2, 2\)"
    ):
        evaluate_folders(given, truth, tmp_path / "classes.txt", False)


def test_predictions_without_any_class_can_be_evaluated(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n")
    truth, given = write(tmp_path / "truth", a=[[0, 1]]), write(tmp_path / "given", a=[[0, 0]])
    assert evaluate_folders(given, truth, tmp_path / "classes.txt", False)["iou"] == {"background": 0.5, "cat": 0.0}


def test_a_folder_cannot_be_compared_with_itself(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n")
    truth = write(tmp_path / "truth", a=[[0, 1]])
    (tmp_path / "given").symlink_to(truth)
    with pytest.raises(DatasetError, match="given as predictions and as truth"):
        evaluate_folders(tmp_path / "given", truth, tmp_path / "classes.txt", False)
