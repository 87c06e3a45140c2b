import pytest
import torch

from wsseg.saliency.prototypes import Prototypes, prototype_maps, prototypes_of

HEAD = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])  # two classes: the first two features
OWN, SURROUNDINGS = torch.tensor([1.0, 0.0, 0.3]), torch.tensor([0.0, 0.0, 1.0])


def noisy(centre, count):
    return centre + 0.01 * torch.randn(count, 3, generator=torch.Generator().manual_seed(0))


def test_what_the_classifier_knows_is_the_class_and_the_rest_its_surroundings():
    result = prototypes_of(torch.cat([noisy(OWN, 60), noisy(SURROUNDINGS, 40)]), HEAD, 0, rng_seed=0)
    assert len(result.own) + len(result.surroundings) == 16 and len(result.surroundings) > 1
    assert torch.allclose(result.own.norm(dim=1), torch.ones(len(result.own)))
    assert ((result.own - OWN / OWN.norm()).norm(dim=1) < 0.1).all()
    assert ((result.surroundings - SURROUNDINGS).norm(dim=1) < 0.1).all()


def test_without_a_sure_cluster_the_likeliest_is_the_class():
    result = prototypes_of(torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), HEAD, 0, rng_seed=0)
    assert result.own.tolist() == [[0.0, 0.0, 1.0]]  # probability 1/3, the other has 1e-4
    assert result.surroundings.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("count", [1, 30])
def test_places_that_are_all_the_same(count):
    result = prototypes_of(OWN.repeat(count, 1), HEAD, 0, rng_seed=0)
    assert result.own.shape == (1, 3) and result.surroundings.shape == (0, 3)


def test_maps_by_hand():
    both = Prototypes(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0]]))
    alone = Prototypes(torch.tensor([[0.0, 1.0]]), torch.zeros(0, 2))
    features = torch.tensor(
        [[[[5.0, 0.0, 3.0]], [[0.0, 2.0, 4.0]]]]
    )  # (1, 2, 1, 3): directions (1, 0), (0, 1), (.6, .8)
    result = prototype_maps(features, [both, alone])
    # both: (1 + .6) / 2 - 0; (0 + .8) / 2 - 1 < 0; (.6 + .36 + .64) / 2 - .8 = 0
    assert torch.allclose(result, torch.tensor([[[[0.8, 0.0, 0.0]], [[0.0, 1.0, 0.8]]]]), atol=1e-6)


def test_a_bright_place_is_worth_no_more_than_a_dim_one():
    prototypes = [Prototypes(torch.tensor([[1.0, 0.0]]), torch.zeros(0, 2))]
    features = torch.rand(2, 2, 3, 4)
    assert torch.allclose(prototype_maps(features, prototypes), prototype_maps(7 * features, prototypes), atol=1e-6)
