"""Evaluation of seeds: curves over thresholds, and counts per image."""

import numpy as np
import pytest

from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.metrics import confusion
from wsseg.metrics.confusion import threshold_counts
from wsseg.saliency.seeds import enlarged
from wsseg.stages.evaluate_masks.seeds import SeedJudge
from wsseg.types import Seed

CLASSES = ClassMap(("cat", "dog"))


TRUTH = np.array([[0, 0, 1, 1]], dtype=np.uint8)


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
