import numpy as np
import pytest

from wsseg.labels import ClassMap
from wsseg.metrics.classification import classification_metrics


def test_by_hand():
    present = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=np.float32)
    logits = np.array([[2, -1, -1], [1, 3, -1], [3, -1, -1]], dtype=np.float32)
    metrics = classification_metrics(logits, present, ClassMap(("a", "b", "c")))
    # a: both positives are ranked first -> 1; b: a positive first, then a tie of a negative and a positive -> 5 / 6
    assert metrics["ap"] == {"a": 1.0, "b": pytest.approx(5 / 6), "c": None}
    assert metrics["map"] == pytest.approx(11 / 12)
    assert metrics["exact_match"] == pytest.approx(1 / 3)
