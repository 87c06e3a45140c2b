"""A conditional random field over a sequence: neighbouring places prefer the same label.

The model is a linear chain with the scores as unary potentials and a Potts potential between neighbours. Its marginals are exact
(forward-backward, Rabiner 1989), unlike the mean field of the dense CRF, whose colour kernel a sequence has no use for.
"""

import numpy as np

from wsseg.types import Scores

STAY = 3.0  # log of how much likelier two neighbours have the same label than two given different ones


def chain_marginals(scores: Scores, stay: float = STAY) -> Scores:
    """Return the marginal probability of each label at each place.

    Args:
        scores: (C, 1, L) float32, not negative, sum 1 over C.
        stay: weight of the Potts potential; 0 returns the scores.

    Returns:
        (C, 1, L) float32, sum 1 over C.
    """
    unary = scores[:, 0].T.astype(np.float64) + 1e-12  # (L, C)
    length, labels = unary.shape
    same = np.exp(stay)
    forward, backward = np.empty_like(unary), np.ones_like(unary)
    message = np.ones(labels) / labels
    for place in range(length):
        forward[place] = unary[place] * message
        forward[place] /= forward[place].sum()
        message = forward[place] * (same - 1) + 1  # the rows of a Potts matrix: sum + (same - 1) of the label itself
    for place in range(length - 1, 0, -1):
        ahead = unary[place] * backward[place]
        ahead /= ahead.sum()
        backward[place - 1] = ahead * (same - 1) + 1
    marginals = forward * backward
    marginals /= marginals.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(marginals.T[:, None].astype(np.float32))
