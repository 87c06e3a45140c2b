"""Evidence inside marks, by hand on small maps."""

import torch
from torch import nn

from wsseg.saliency.marked import evidence_of, gradient_evidence, marked_regions, share_inside

NOTHING = 255


def test_regions_of_each_class():
    marks = torch.full((1, 4, 4), NOTHING)
    marks[0, 0, :2] = 0  # none of the classes
    marks[0, 3, 2:] = 1
    minus, plus = marked_regions(marks, torch.tensor([[1.0, 1.0, 0.0]]), (2, 2))
    assert minus[0, 0].tolist() == [[0.5, 0.0], [0.0, 0.0]]  # half of the place is said to be none of the classes
    assert minus[0, 1].tolist() == [[0.5, 0.0], [0.0, 0.5]]  # and what is class 1 is not class 2, which is there too
    assert minus[0, 2].tolist() == [[0.5, 0.0], [0.0, 0.0]]  # class 3 is not in the image: nothing speaks about it
    assert plus[0, 0].tolist() == [[0.0, 0.0], [0.0, 0.5]] and plus[0, 1:].sum() == 0


def test_the_share_counts_only_classes_with_a_region():
    maps = torch.tensor([[[[3.0, -1.0]], [[100.0, 100.0]]]])  # (1, 2, 1, 2)
    region = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])
    same = torch.full_like(maps, 0.5)
    assert share_inside(evidence_of(maps, same, "cam"), region)[0].tolist() == [
        0.25
    ]  # what speaks against a class is evidence
    assert share_inside(evidence_of(maps, same, "energy"), region)[0].tolist() == [0.0]
    share, denied = share_inside(evidence_of(maps, same, "cam"), torch.zeros_like(region))
    assert share.tolist() == [0.0] and denied.tolist() == [False]


def test_gradient_evidence_is_that_of_a_linear_network_and_can_be_trained_through():
    torch.manual_seed(0)
    network = nn.Linear(3 * 4, 2, bias=False)
    images = torch.randn(1, 3, 2, 2, requires_grad=True)
    logits = network(images.flatten(1))
    evidence = gradient_evidence(logits, images)
    factor = 1 - 2 * logits.sigmoid()  # derivative of log p + log(1 - p)
    expected = (factor @ network.weight).reshape(1, 3, 2, 2).pow(2).sum(1, keepdim=True)
    assert torch.allclose(evidence, expected, atol=1e-6)
    evidence.sum().backward()
    assert network.weight.grad.abs().sum() > 0
