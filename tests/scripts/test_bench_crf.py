"""The CRF benchmark: its inputs and its summary."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).resolve().parents[2] / "scripts" / "bench_crf.py"
    spec = importlib.util.spec_from_file_location("bench_crf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_photographs_have_one_size_and_two_to_five_labels(bench, real_data, monkeypatch):
    monkeypatch.setenv("WSSEG_DATA", str(real_data))
    works = list(bench.photographs(10))
    assert len(works) == 10 and {name.split()[0] for name, *_ in works} == {"voc", "neu", "skimage"}
    for _, image, scores in works:
        assert image.shape == (375, 500, 3) and scores.shape[1:] == (375, 500)
        assert 2 <= len(scores) <= 5 and np.allclose(scores.sum(0), 1, atol=1e-5)


def test_the_summary_holds_medians_and_the_worst(bench):
    rows = [
        {"exact_speedup": s, "exact_difference": d, "exact_agreement": 1.0, "default_speedup": 2 * s, "default_agreement": a}
        for s, d, a in ((3.0, 1e-5, 0.99), (5.0, 1e-3, 0.999), (4.0, 1e-4, 1.0))
    ]  # fmt: skip
    result = bench.summary(rows)
    assert result["exact"]["speedup"] == 4 and result["exact"]["max_abs_diff"] == 1e-4
    assert result["exact"]["worst_max_abs_diff"] == 1e-3 and result["exact"]["worst_speedup"] == 3
    assert result["default"]["speedup"] == 8 and result["default"]["worst_label_agreement"] == 0.99
