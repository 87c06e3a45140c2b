import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
from measure_estimates import Case, error_on_other_sets, fit, judged, rank_correlation, table


def case(data, evidence, true):
    return Case(f"a run of {data}", data, {"flip": np.array(evidence)}, np.array(true))


# odds of the evidence are three times those of the truth on one set, and nine times on the other
THREE = case("a", [0.75, 0.9], [0.5, 0.75])
NINE = case("b", [0.9, 0.5], [0.5, 0.1])


def test_every_data_set_has_the_same_weight():
    assert fit([THREE])["flip"] == pytest.approx(-np.log(3))
    assert fit([THREE, NINE])["flip"] == fit([THREE, THREE, NINE])["flip"] == pytest.approx(-np.log(3) * 1.5)


def test_no_set_is_judged_with_values_that_have_seen_it():
    """The other set divides odds by nine: 3 becomes 1/3."""
    estimates, mean = judged(THREE, [THREE, NINE])
    assert estimates[0][0] == pytest.approx(0.25) and estimates[1][0] == pytest.approx(0.5)
    assert mean[0] == pytest.approx(0.375)
    assert error_on_other_sets([THREE, NINE]) == pytest.approx(np.log(3))


def test_the_error_of_a_single_set_is_not_known():
    assert error_on_other_sets([THREE, THREE]) == 1.0


def test_a_class_that_does_not_occur_is_left_out():
    estimates, _ = judged(case("a", [0.75, 0.9], [0.5, np.nan]), [THREE, NINE])
    assert estimates[1] is None


def test_the_table_counts_close_estimates_and_intervals():
    cases = [
        case("a", [0.8, 0.7, 0.6, 0.5], [0.8, 0.7, 0.6, 0.5]),
        case("b", [0.8, 0.7, 0.5, 0.6], [0.2, 0.1, 0.2, 0.3]),
    ]
    header, rows, summary = table(cases)
    assert len(rows) == 2 and len(rows[0]) == len(header)
    assert summary.startswith("0 of 2 within 5 points")
    assert rank_correlation([(v, 0, 1) for v in (0.9, 0.1, 0.2, 0.3)], np.array([0.0, 0.2, 0.3, 0.4])) == 1
    assert np.isnan(
        rank_correlation([(0.9, 0, 1)] * 3, np.array([0.0, 0.2, 0.3]))
    )  # two classes have no rank correlation
