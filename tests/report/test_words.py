"""Sentences are computed from the figures."""

import numpy as np

from wsseg.labels import ClassMap
from wsseg.report.judging import Judgement, judge
from wsseg.report.words import of_class


def test_a_class_that_is_missed_in_small_objects():
    truth = np.zeros((100, 100), np.uint8)
    truth[5:15, 5:15] = truth[40:50, 40:50] = 1
    truth[60:, :] = 2
    given = truth.copy()
    given[40:50, 40:50] = 0
    given[5, 5:8] = 2
    given[0, 0] = 1
    judgement = Judgement(ClassMap(("scratch", "patch")))
    judgement.add(*judge("x", truth, given, 3))
    said = of_class(judgement, 1, "val")
    assert said == (
        "scratch (val), IoU 48.3: its errors are 96 % missed area, 3 % wrong class (most with patch); "
        "most of what is missed lies in small objects (under 32 x 32 px)."
    )
    judgement = Judgement(ClassMap(("scratch", "patch")))
    judgement.add(*judge("x", truth, truth, 3))
    assert of_class(judgement, 2, "val") == "patch (val): no error."
