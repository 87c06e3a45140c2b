import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.masks import encode_mask
from wsseg.errors import DatasetError, StageError
from wsseg.labels import ClassMap
from wsseg.metrics import confusion
from wsseg.metrics.confusion import threshold_counts
from wsseg.saliency.seeds import enlarged
from wsseg.stages.evaluate_masks.folders import evaluate_folders
from wsseg.stages.evaluate_masks.masks import MaskJudge
from wsseg.stages.evaluate_masks.seeds import SeedJudge
from wsseg.types import Seed

CLASSES = ClassMap(("cat", "dog"))
TRUTH = np.array([[0, 0, 1, 1]], dtype=np.uint8)


def test_metrics_are_computed_from_one_matrix_over_all_images():
    judge = MaskJudge(CLASSES, boundary=False, undecided=False)
    judge.add(judge.count("a", TRUTH, np.array([[0, 0, 1, 0]], dtype=np.uint8)))
    judge.add(judge.count("b", np.zeros_like(TRUTH), np.zeros_like(TRUTH)))
    metrics = judge.metrics()
    # background 6 hits of 7, cat 1 of 2; the mean of two per-image means would differ
    assert metrics["iou"] == {"background": 6 / 7, "cat": 0.5, "dog": None}
    assert metrics["miou"] == pytest.approx((6 / 7 + 0.5) / 2)
    assert metrics["classes_counted"] == 2 and metrics["images"] == 2


def test_255_is_a_miss_in_pseudo_masks_and_refused_in_predictions():
    mask = np.array([[0, 255, 1, 1]], dtype=np.uint8)
    judge = MaskJudge(CLASSES, boundary=True, undecided=True)
    judge.add(judge.count("a", TRUTH, mask))
    metrics = judge.metrics()
    assert metrics["iou"]["background"] == 0.5 and metrics["coverage"] == 0.75 and metrics["miou_decided"] == 1.0
    with pytest.raises(StageError, match="a: the prediction holds 255; expected: a class id in every pixel"):
        MaskJudge(CLASSES, boundary=False, undecided=False).count("a", TRUTH, mask)


def test_calibration_by_hand():
    """The middle of each 8 x 8 block is sampled: two correct at 90 %, one wrong at 60 %, one not evaluated."""
    truth, mask = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    truth[:8, 8:], truth[8:, 8:], mask[8:, :8] = 255, 1, 2
    mask[8:, 8:] = 1
    judge = MaskJudge(CLASSES, boundary=False, undecided=False)
    judge.add(judge.count("a", truth, mask, np.array([[90, 20], [60, 90]], np.uint8)))
    assert judge.details()["calibration"] == [(0.6, 0.0, 1), (0.9, 1.0, 2)]
    assert judge.metrics()["calibration_error"] == pytest.approx((0.6 * 1 + 0.1 * 2) / 3)
    assert judge.metrics()["calibration_error_scaled"] is None  # there is no second image to fit a temperature on
    judge.add(judge.count("b", truth, mask, np.array([[90, 20], [60, 90]], np.uint8)))
    assert judge.metrics()["calibration_error_scaled"] < judge.metrics()["calibration_error"]
    assert judge.details()["calibration_scaled"] is not None and judge.metrics()["temperature"] < 1
    with pytest.raises(StageError, match="b: the confidence is"):
        judge.count("b", truth, mask, np.array([[90, 20]], np.uint8))


def test_curves_of_seeds_by_hand():
    """Four pixels with the values 255, 100, 50 and 200 of class 1; the truth is 1, 1, background and 2."""
    judge = SeedJudge(CLASSES)
    judge.histogram += threshold_counts(
        np.array([[1, 1, 0, 2]], np.uint8), np.ones((1, 4), np.uint8), np.array([[255, 100, 50, 200]], np.uint8), 3
    )
    details = judge.details()
    assert [t for t, _ in details["curve"]] == [t / 255 for t in range(1, 256, 2)]
    assert len(details["precision"]) == len(details["recall"]) == len(details["curve"]) == 128
    assert details["precision"][0] == pytest.approx(2 / 4) and details["recall"][0] == pytest.approx(2 / 3)
    # threshold 151: 255 and 200 are foreground
    assert details["precision"][75] == pytest.approx(1 / 2) and details["recall"][75] == pytest.approx(1 / 3)
    # threshold 61: the background is correct, class 1 has 2 of 3 pixels, class 2 none
    assert details["curve"][30][1] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert details["calibration"] == [
        (pytest.approx(v / 255), correct, 1) for v, correct in ((50, 0.0), (100, 1.0), (200, 0.0), (255, 1.0))
    ]


def test_seeds_are_evaluated_at_the_best_threshold():
    judge = SeedJudge(CLASSES)
    seed = Seed((1,), np.array([[[0.1, 0.4, 0.6, 1.0]]], dtype=np.float32), (1, 4))
    judge.add(judge.count("a", TRUTH, seed))
    metrics = judge.metrics()
    assert metrics["miou"] == 1.0 and 0.4 < metrics["best_threshold"] <= 0.6
    curve = dict(judge.details()["curve"])
    assert min(curve.values()) < 1.0


def test_counts_of_the_classes_of_each_image_add_up_to_those_of_all_classes(monkeypatch):
    """The counts of an image have its classes only; their sum is the histogram over all classes."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(confusion, "_PART", 7)
    judge = SeedJudge(ClassMap(tuple(f"c{k}" for k in range(1, 81))))
    expected = np.zeros((81, 81, 256), np.int64)
    for number, class_ids in enumerate([(3,), (7, 80), (), (1, 2, 3)]):
        truth = rng.choice([0, 3, 7, 80, 255], (9, 12)).astype(np.uint8)
        seed = Seed(class_ids, np.round(rng.random((len(class_ids), 5, 6)), 1).astype(np.float32), (9, 12))
        best, score = np.zeros((9, 12), np.uint8), np.zeros((9, 12), np.uint8)
        if class_ids:
            maps = enlarged(seed).maps
            best, score = np.array(class_ids, np.uint8)[maps.argmax(0)], np.rint(maps.max(0) * 255).astype(np.uint8)
        for pixel in zip(truth.flat, best.flat, score.flat, strict=True):
            if pixel[0] != 255:
                expected[pixel] += 1
        counted = judge.count(str(number), truth, seed)
        assert counted.counts.nbytes < 100_000  # 13 MB with all classes
        judge.add(counted)
    assert np.array_equal(judge.histogram, expected)
    with pytest.raises(StageError, match=r"x: the truth contains 90; expected: 0\.\.80, 255"):
        judge.count("x", np.full((9, 12), 90, np.uint8), seed)


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
