import pytest
import torch

from wsseg.saliency.normality import distances, patch_features, remembered, unusual, weighted


def test_distance_to_the_nearest_patches_by_hand():
    patches = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [100.0, 0.0]])
    assert distances(torch.tensor([[0.0, 0.0], [6.0, 8.0]]), patches).tolist() == pytest.approx([5.0, 5.0])
    assert distances(torch.tensor([[3.0, 4.0]]), patches[:1]).tolist() == pytest.approx([5.0])


def test_levels_are_averaged_and_brought_to_the_finest_size():
    fine, coarse = torch.randn(2, 3, 8, 6), torch.randn(2, 5, 4, 3)
    features = patch_features([fine, coarse])
    assert features.shape == (2, 8, 8, 6)
    assert torch.allclose(features[:, :3, 4, 3], fine[:, :, 3:6, 2:5].mean((2, 3)), atol=1e-6)


def test_an_odd_patch_is_unusual_and_the_others_are_not():
    generator = torch.Generator().manual_seed(0)
    normality = remembered([torch.randn(6, 10, 10, generator=generator) for _ in range(8)], 400, generator)
    assert normality.patches.shape == (400, 6)
    features = torch.randn(1, 6, 10, 10, generator=generator)
    features[0, :, 3, 7] = 9
    excess = unusual(normality, features)[0]
    assert excess.argmax() == 37 and float(excess[3, 7]) > 3 * float(excess[excess < excess.max()].max())
    assert float((excess == 0).float().mean()) > 0.75  # nine of ten normal patches lie below the usual distance


def test_the_same_seed_remembers_the_same_patches():
    features = [torch.randn(4, 5, 5) for _ in range(3)]
    first, second = (remembered(features, 30, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.patches, second.patches) and torch.equal(first.usual, second.usual)


def test_maps_are_weighted_unless_nothing_is_unusual():
    maps = torch.rand(2, 3, 4, 4)
    excess = torch.zeros(2, 4, 4)
    excess[0, 1, 2] = 5
    result = weighted(maps, excess)
    assert torch.equal(result[1], maps[1])
    assert torch.allclose(result[0, :, 1, 2], 5 * maps[0, :, 1, 2]) and int((result[0] > 0).sum()) == 3
