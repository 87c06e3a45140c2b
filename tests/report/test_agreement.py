"""Without true masks, images are ordered by the agreement of their layers, or by the confidence of the network."""

import numpy as np
import pytest

from tests.report.conftest import report_of
from wsseg.report.agreement import agreement, class_iou, confidence
from wsseg.report.run_report import Layer


def test_the_iou_of_a_class_in_two_masks():
    mask_a = np.array([[1, 1, 0, 2]], np.uint8)
    assert class_iou(mask_a, mask_a, 1) == 1
    assert class_iou(mask_a, np.array([[1, 0, 1, 2]], np.uint8), 1) == pytest.approx(1 / 3)
    assert class_iou(mask_a, np.array([[1, 255, 0, 2]], np.uint8), 1) == 1  # undecided pixels do not count
    assert class_iou(mask_a, mask_a, 3) == 0  # no mask shows the class


def test_seeds_and_masks_are_compared_by_class(runs):
    split = report_of(runs, truth=False).splits["train"]
    scores = split.scores
    assert scores.measure == "agreement" and "seeds, pseudo_masks" in scores.meaning
    labelled = {item.id for item in split.images.items if item.class_ids}
    assert set(scores.images) == labelled
    assert all(
        set(values) <= labelled and all(0 <= v <= 1 for v in values.values()) for values in scores.classes.values()
    )


def test_equal_masks_agree(runs):
    split = report_of(runs, truth=False).splits["train"]
    masks = split.of_kind("mask")[0]
    scores = agreement(split.images, [masks, Layer("copy", "mask", masks.artifact, masks.masks)])
    for item in split.images.items:
        shown = set(np.unique(masks.masks.mask(item.id)))
        assert all(scores.classes[k][item.id] == float(k in shown) for k in item.class_ids)
    assert agreement(split.images, [masks]) is None


def test_predictions_are_ordered_by_their_confidence(runs):
    split = report_of(runs, truth=False).splits["val"]
    assert split.scores.measure == "confidence" and split.scores == confidence(split.images, split.layers)
    assert confidence(split.images, split.layers[:1]) is None
