"""From evidence to an estimate with an interval."""

import numpy as np
import pytest

from wsseg.stages.estimate_quality.estimating import CORRECTIONS, estimate_classes, estimate_mean
from wsseg.stages.estimate_quality.evidence import EVIDENCE


def evidence(**kinds):
    return {kind: np.array(values, float) for kind, values in kinds.items()}


def test_corrections_are_added_to_log_odds():
    """Odds of 3 corrected by log 1/3 are odds of 1."""
    ((iou, low, high),) = estimate_classes(evidence(flip=[0.75]), {"flip": -np.log(3)}, error=1.0)
    assert iou == pytest.approx(0.5) and low == pytest.approx(1 - high)
    assert low == pytest.approx(1 / (1 + np.exp(1.2816)))


def test_kinds_that_disagree_widen_the_interval():
    corrections = {"flip": 0.0, "rounds": 0.0}
    ((iou, low, high),) = estimate_classes(evidence(flip=[0.5], rounds=[0.5]), corrections, error=0.3)
    ((other, lower, higher),) = estimate_classes(evidence(flip=[0.2], rounds=[0.8]), corrections, error=0.3)
    assert iou == pytest.approx(0.5) == pytest.approx(other) and lower < low < high < higher


def test_unknown_evidence_does_not_count_and_no_evidence_gives_none():
    corrections = {"flip": 0.0, "rounds": 0.0}
    first, second = estimate_classes(evidence(flip=[0.7, np.nan], rounds=[np.nan, np.nan]), corrections, error=0.1)
    assert first[0] == pytest.approx(0.7) and second is None


@pytest.mark.parametrize("agreement", [0.0, 1.0])
def test_perfect_agreement_and_none_are_no_certainty(agreement):
    ((iou, low, high),) = estimate_classes(evidence(flip=[agreement]), {"flip": 0.0}, error=0.5)
    assert 0 < low < iou < high < 1


def test_the_estimate_falls_with_the_evidence():
    kinds = {kind: [0.3, 0.6, 0.9] for kind in EVIDENCE}
    assert sorted(found := [e[0] for e in estimate_classes(evidence(**kinds))]) == found
    assert set(CORRECTIONS) <= set(EVIDENCE)


def test_the_mean_is_over_the_classes_with_an_estimate():
    assert estimate_mean([(0.9, 0.8, 1.0), None, (0.5, 0.2, 0.6)]) == pytest.approx((0.7, 0.5, 0.8))
    assert estimate_mean([None, None]) is None
