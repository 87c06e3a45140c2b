"""The chain CRF: its marginals are those of the exhaustive sum, and it removes single places."""

import itertools

import numpy as np
import pytest

from wsseg.crf.chain import chain_marginals


def exhaustive(scores, stay):
    """Return the marginals as sums over all labellings of a short sequence."""
    labels, length = scores.shape[0], scores.shape[2]
    totals = np.zeros((labels, 1, length))
    for labelling in itertools.product(range(labels), repeat=length):
        weight = np.prod([scores[label, 0, place] for place, label in enumerate(labelling)])
        weight *= np.exp(stay * sum(a == b for a, b in itertools.pairwise(labelling)))
        for place, label in enumerate(labelling):
            totals[label, 0, place] += weight
    return totals / totals.sum(axis=0)


@pytest.mark.parametrize("stay", [0.0, 1.5, 4.0])
def test_marginals_equal_the_sum_over_all_labellings(stay):
    scores = np.random.default_rng(0).dirichlet(np.ones(3), size=6).T[:, None].astype(np.float32)
    np.testing.assert_allclose(chain_marginals(scores, stay), exhaustive(scores, stay), atol=1e-5)


def test_a_single_place_is_removed_and_a_gap_is_closed():
    foreground = np.full(40, 0.3)
    foreground[5], foreground[20:30], foreground[25] = 0.7, 0.9, 0.4
    scores = np.stack([1 - foreground, foreground])[:, None].astype(np.float32)
    mask = chain_marginals(scores).argmax(axis=0)[0]
    assert np.flatnonzero(mask).tolist() == list(range(20, 30))


def test_a_long_sequence_does_not_underflow():
    scores = np.random.default_rng(1).dirichlet(np.ones(2), size=20_000).T[:, None].astype(np.float32)
    marginals = chain_marginals(scores)
    assert np.isfinite(marginals).all()
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
