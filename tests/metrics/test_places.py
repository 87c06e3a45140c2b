"""Average precision per place against scikit-learn, and hits of the peak."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from wsseg.labels import ClassMap
from wsseg.metrics.places import PlaceJudge

CLASSES = ClassMap(("gata", "cre"))


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    judge, truths, scores = PlaceJudge(CLASSES), [], []
    for _ in range(20):
        truth = rng.choice([0, 1, 2, 255], size=(1, 50), p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8)
        score = rng.integers(0, 256, (2, 50)).astype(np.uint8)
        judge.add(truth, {1: score[0], 2: score[1]})
        truths.append(truth[0])
        scores.append(score)
    truth, score = np.concatenate(truths), np.concatenate(scores, axis=1)
    metrics = judge.metrics()
    for channel, name in enumerate(CLASSES.names):
        expected = average_precision_score(truth[truth != 255] == channel + 1, score[channel][truth != 255])
        assert metrics["place_ap"][name] == pytest.approx(expected)
    assert metrics["place_map"] == pytest.approx(np.mean(list(metrics["place_ap"].values())))


@pytest.mark.parametrize(("peak", "hit"), [(5, 1.0), (3, 1.0), (2, 0.0), (9, 1.0), (10, 0.0)])
def test_a_peak_within_two_places_of_the_truth_is_a_hit(peak, hit):
    truth = np.zeros((1, 20), np.uint8)
    truth[0, 5:8] = 1
    score = np.zeros(20, np.uint8)
    score[peak] = 9
    judge = PlaceJudge(CLASSES)
    judge.add(truth, {1: score})
    assert judge.metrics()["peak_hits"] == {"gata": hit, "cre": None}


def test_scores_of_zero_hit_nothing():
    judge = PlaceJudge(CLASSES)
    judge.add(np.array([[1, 0, 0]], np.uint8), {})
    assert judge.metrics()["peak_hits"]["gata"] == 0
