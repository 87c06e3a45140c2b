import pytest
import torch

from wsseg.stages.train_classifier.erasing import erased, random_cells, random_patches, salient_patches


def blob(y: int, x: int, size: int = 40) -> torch.Tensor:
    saliency = torch.zeros(1, size, size)
    saliency[0, y : y + 6, x : x + 6] = 1.0
    return saliency


@pytest.mark.parametrize(("y", "x"), [(0, 0), (17, 30), (34, 34)])
def test_the_patch_covers_the_planted_blob(y, x):
    patch = salient_patches(blob(y, x), side=12)
    assert patch.sum() == 144
    assert patch[blob(y, x) > 0].all()


def test_patches_of_a_batch_are_independent():
    patches = salient_patches(torch.cat([blob(2, 3), blob(30, 20)]), side=8)
    assert patches[0, 4, 5]
    assert patches[1, 32, 22]
    assert not patches[0, 32, 22]


def test_salient_erasing_hides_the_blob_in_half_of_the_images_and_no_distant_pixel():
    torch.manual_seed(0)
    count = 200
    saliency = torch.zeros(count, 10, 10)
    saliency[:, 2:4, 5:7] = 1.0  # in images of 80 px: rows 16 to 32, columns 40 to 56
    result = erased(torch.ones(count, 3, 80, 80), "salient", 0.15, saliency)
    hidden = (result[:, 0] == 0).float().mean(0)
    assert 0.4 < hidden[24, 48] < 0.6
    assert hidden[70, 5] == 0
    shares = (result[:, 0] == 0).flatten(1).float().mean(1)
    assert shares[shares > 0].sub(0.15).abs().max() < 0.02


def test_random_patches_reach_every_place_and_cells_have_their_probability():
    torch.manual_seed(0)
    patches = random_patches(2000, 10, 40, torch.device("cpu"))
    assert (patches.flatten(1).sum(1) == 100).all()
    assert (patches.float().mean(0)[5:35, 5:35] > 0).all()
    assert abs(random_cells(2000, 0.3, torch.device("cpu")).float().mean() - 0.3) < 0.01


def test_off_returns_the_images_themselves():
    images = torch.ones(2, 3, 64, 64)
    assert erased(images, "off", 0.2) is images
