import torch

from wsseg.saliency.passes import images_at_once, in_parts


def test_large_images_go_alone_and_small_ones_together():
    assert images_at_once(torch.zeros(16, 3, 800, 800)) == 1
    assert images_at_once(torch.zeros(16, 3, 200, 300)) == 10
    assert images_at_once(torch.zeros(16, 3, 4000, 4000)) == 1
    assert images_at_once(torch.zeros(2, 3, 300)) == 2000


def test_parts_are_the_whole():
    images = torch.randn(7, 3, 400, 500)
    sizes = []

    def mean(part):
        sizes.append(len(part))
        return part.mean((1, 2, 3))

    assert torch.allclose(in_parts(mean, images), images.mean((1, 2, 3)), atol=1e-6) and sizes == [3, 3, 1]
