"""Sentences are computed from the metrics."""

from types import SimpleNamespace

import numpy as np

from wsseg.labels import ClassMap
from wsseg.metrics.confusion import confusion
from wsseg.metrics.objects import MEASURES, SIZES, object_counts
from wsseg.report.findings import changes, of_class, size_text
from wsseg.report.quality import MaskQuality


def quality(truth, mask):
    counts = object_counts(truth, mask, 3)[1].tolist()
    sizes = {size: dict(zip(MEASURES, row, strict=True)) for size, row in zip(SIZES, counts, strict=True)}
    return MaskQuality(ClassMap(("scratch", "patch")), [], confusion(truth, mask, 3), {"scratch": sizes})


def test_a_class_that_is_missed_in_small_objects():
    truth = np.zeros((100, 100), np.uint8)
    truth[5:15, 5:15] = truth[40:50, 40:50] = 1
    truth[60:, :] = 2
    mask = truth.copy()
    mask[40:50, 40:50] = 0
    mask[5, 5:8] = 2
    mask[0, 0] = 1
    assert of_class(quality(truth, mask), 1, "val") == (
        "scratch (val): IoU 48.3 %; its errors are 96 % missed, 3 % wrong class (mostly patch); "
        "most missed pixels are in small objects (under 32 x 32 px)."
    )
    assert of_class(quality(truth, truth), 2, "val") == "patch (val): no errors."


def test_sizes_in_words():
    assert [size_text(size) for size in SIZES] == ["under 32 x 32 px", "up to 96 x 96 px", "96 x 96 px and more"]


def test_changes_from_one_run_to_another():
    report_a, report_b = (
        SimpleNamespace(result={"metrics": {"miou": miou, "iou": {"background": 0.9, "cat": cat, "dog": None}}})
        for miou, cat in ((0.6, 0.3), (0.55, 0.2))
    )
    assert changes(report_a, report_b, {"train": {"a": 0.0}, "val": {"b": 0.05, "c": -0.2, "d": 0.001}}) == [
        "The mIoU changed from 60.0 % to 55.0 %.",
        "The class that changed most is cat: -10.0 points.",
        "train: the mean IoU of every image is unchanged.",
        "val: 1 of 3 images improved by more than a point and 1 became worse; c changed most, by -20.0 points.",
    ]
    assert changes(report_a, report_a, {}) == ["The mIoU changed from 60.0 % to 60.0 %."]
