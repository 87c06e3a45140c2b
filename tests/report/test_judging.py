"""Errors by class, image and size, on masks small enough to count by hand."""

import numpy as np
import pytest

from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.metrics.confusion import threshold_counts
from wsseg.report.judging import ClassErrors, Judged, Judgement, judge, object_errors, seed_curves, shown, worst_first

TRUTH = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 2, 2, 0, 255]], np.uint8)
GIVEN = np.array([[1, 0, 2, 255, 1, 0], [1, 1, 2, 1, 2, 1]], np.uint8)


def test_every_kind_of_error_is_counted_where_it_belongs():
    judged, counts, _ = judge("x", TRUTH, GIVEN, 3)
    # class 1: hits (0,0) (1,0) (1,1); missed (0,1); undecided (0,3); wrong (0,2) as 2, and (1,3), which is 2; spill (0,4)
    assert judged.classes[1] == ClassErrors(hits=3, missed=1, spill=1, wrong=2, undecided=1)
    assert judged.classes[2] == ClassErrors(hits=1, missed=0, spill=1, wrong=2, undecided=0)
    assert judged.classes[1].iou == pytest.approx(3 / 8)
    assert judged.shares == pytest.approx((1 / 11, 2 / 11, 2 / 11, 1 / 11))  # 255 in the truth is not judged
    assert counts.sum() == 11


def test_the_iou_of_a_class_is_that_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    truth, given = (rng.choice([0, 1, 2, 3, 255], (40, 50)).astype(np.uint8) for _ in range(2))
    judgement = Judgement(ClassMap(("a", "b", "c")))
    judgement.add(*judge("x", truth, given, 4))
    for k in range(4):
        inside = truth != 255
        both = ((truth == k) & (given == k) & inside).sum()
        either = (((truth == k) | (given == k)) & inside).sum()
        assert judgement.errors(k).iou == pytest.approx(both / either)
    assert judgement.errors(0).missed == sum(judgement.errors(k).spill for k in (1, 2, 3))


def test_errors_add_up_over_images():
    judgement = Judgement(ClassMap(("a", "b")))
    for name in "xy":
        judgement.add(*judge(name, TRUTH, GIVEN, 3))
    assert judgement.errors(1) == ClassErrors(6, 2, 2, 4, 2)
    assert judgement.confused_with(1) == ("b", 4)
    assert judgement.by_size[2]["small"].objects == 2
    single = judge("x", TRUTH, GIVEN, 3)[0].classes[1]
    assert single + single == judgement.errors(1)


def test_objects_are_regions_and_have_sizes():
    truth = np.zeros((120, 200), np.uint8)
    truth[:10, :10] = 1  # 100 px: small
    truth[10:60, 10:60] = 1  # 2500 px: it touches the small one at a corner, and so they are one object of 2600
    truth[:, 100:] = 1  # 12 000 px: large
    given = truth.copy()
    given[:10, :10] = 0
    given[0, 100:110] = 2
    given[1, 100:105] = 255
    found = object_errors(truth, given)[1]
    assert [found[n].objects for n in ("small", "medium", "large")] == [0, 1, 1]
    assert (found["medium"].pixels, found["medium"].missed, found["medium"].wrong) == (2600, 100, 0)
    assert (found["large"].missed, found["large"].wrong) == (5, 10)


def test_masks_of_other_sizes_are_refused():
    with pytest.raises(StageError):
        judge("x", TRUTH, GIVEN[:1], 3)


def test_the_worst_come_first_and_the_rest_is_spread():
    images = [Judged(f"{k:02}", k / 20, (0, 0, 0, 0), {}) for k in range(20)] + [Judged("none", None, (0, 0, 0, 0), {})]
    assert [j.id for j in worst_first(reversed(images))][:2] == ["00", "01"] and worst_first(images)[-1].id == "none"
    assert shown(images, 8) == ["00", "01", "02", "03", "04", "09", "14", "none"]
    assert len(shown(images, 100)) == 21 and len(set(shown(images, 20))) == 20


def test_curves_of_seeds_by_hand():
    truth = np.array([[1, 1, 0, 2]], np.uint8)
    best = np.array([[1, 1, 1, 1]], np.uint8)
    score = np.array([[255, 100, 50, 200]], np.uint8)
    curves = seed_curves(threshold_counts(truth, best, score, 3))
    assert len(curves.miou) == len(curves.precision) == 255
    assert curves.precision[0] == pytest.approx(2 / 4) and curves.recall[0] == pytest.approx(2 / 3)
    assert curves.precision[149] == pytest.approx(1 / 2)  # threshold 150: 255 and 200
    assert curves.recall[149] == pytest.approx(1 / 3)
    assert curves.miou[59] == pytest.approx((1 / 1 + 2 / 3 + 0) / 3)  # threshold 60: the background alone is right
    assert [c[1:] for c in curves.calibration] == [(0.0, 1), (1.0, 1), (0.0, 1), (1.0, 1)]
    assert curves.calibration[0][0] == pytest.approx(50 / 255)
