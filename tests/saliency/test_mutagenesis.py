"""In-silico mutagenesis against a network whose logits are known."""

import pytest
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.saliency.mutagenesis import importance, mutagenesis

WEIGHTS = torch.arange(24, dtype=torch.float32).view(4, 6)


class Linear(nn.Module):
    """Two logits: the sum of a weight per base and place, and its negative."""

    def forward(self, images):
        score = (images[:, :, 0] * WEIGHTS).sum((1, 2))
        return torch.stack([score, -score], 1)


def test_changes_of_a_linear_network_are_differences_of_its_weights():
    bases = torch.tensor([0, 3, 2, 1, 0, 2])
    image = torch.nn.functional.one_hot(bases, 4).T[None, :, None].float()
    changes = mutagenesis(Linear(), image, [0, 1])
    own = WEIGHTS[bases, torch.arange(6)]
    torch.testing.assert_close(changes[0, 0, :, 0], WEIGHTS - own)
    torch.testing.assert_close(changes[0, 1], -changes[0, 0])
    assert (changes[0, 0, bases, 0, torch.arange(6)] == 0).all()
    expected = ((own - WEIGHTS).sum(0) / 3).relu()
    torch.testing.assert_close(importance(changes)[0, 0, 0], expected)


def test_photographs_are_refused():
    with pytest.raises(StageError, match=r"expected: letters \(N, 4, 1, L\)"):
        mutagenesis(Linear(), torch.zeros(1, 3, 8, 8), [0])
