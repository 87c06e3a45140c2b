import numpy as np
import pytest
import timm
import torch
from torch import nn

from wsseg.data.batches import at_size
from wsseg.errors import StageError
from wsseg.models.classifier import Classifier, pooled
from wsseg.saliency.attention import ATTENTION_METHODS
from wsseg.saliency.cam import multiscale_maps, normalise
from wsseg.saliency.methods import METHODS, maps_of, methods_for


class Pixels(nn.Module):
    """A backbone whose features are the image's own channels."""

    def forward_features(self, images):
        return images


@pytest.fixture
def classifier():
    model = Classifier(Pixels(), features=3, classes=2)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]])[:, :, None, None])
    return model


def test_cam_by_hand(classifier):
    image = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 1.0], [3.0, 0.0]], [[0.0, 1.0], [2.0, 4.0]]])[None]
    # class 1: red - blue, class 2: 2 green
    assert classifier.class_maps(image)[0].tolist() == [[[1.0, 1.0], [-2.0, -3.0]], [[0.0, 2.0], [6.0, 0.0]]]
    cams = multiscale_maps(maps_of("cam", classifier, [0, 1]), [image], False, (2, 2))
    assert cams[0].tolist() == [[[1.0, 1.0], [0.0, 0.0]], [[0.0, 2.0], [6.0, 0.0]]]
    assert torch.allclose(normalise(cams[0]), torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 1 / 3], [1.0, 0.0]]]))


def test_the_mean_of_the_class_maps_is_the_logit(classifier):
    images = torch.randn(2, 3, 5, 7)
    assert torch.allclose(classifier.class_maps(images).mean((2, 3)), classifier(images), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "lse", "top"])
def test_logits_are_pooled_maps(classifier, pooling):
    classifier.pooling = pooling
    images = torch.randn(2, 3, 5, 7)
    maps = classifier.class_maps(images)
    by_hand = {
        "mean": maps.mean((2, 3)),
        "lse": maps.exp().mean((2, 3)).log(),
        "top": maps.flatten(2).sort(descending=True).values[:, :, :4].mean(2),  # a tenth of 35 places
    }
    assert torch.allclose(classifier(images), by_hand[pooling], atol=1e-5)


def test_a_small_object_is_not_diluted_by_log_sum_exp():
    maps = torch.full((1, 1, 20, 20), -4.0)
    maps[..., 3, 4] = 9
    assert float(pooled(maps, "mean")) < 0 < 2 < float(pooled(maps, "lse"))


def test_only_the_channels_asked_for_in_their_order(classifier):
    image = torch.rand(1, 3, 4, 4)
    both = multiscale_maps(maps_of("cam", classifier, [0, 1]), [image], False, (4, 4))
    second = multiscale_maps(maps_of("cam", classifier, [1]), [image], False, (4, 4))
    assert torch.equal(both[:, 1:], second)


def test_flip_average_of_a_mirrored_image_is_mirrored(classifier):
    image = torch.rand(1, 3, 6, 8)
    images = [image, at_size(image, (12, 16))]
    cams = multiscale_maps(maps_of("cam", classifier, [0, 1]), images, True, (6, 8))
    mirrored = multiscale_maps(maps_of("cam", classifier, [0, 1]), [i.flip(3) for i in images], True, (6, 8))
    assert torch.allclose(cams, mirrored.flip(3), atol=1e-6)


def test_a_batch_equals_its_images_one_by_one(classifier):
    images = torch.rand(3, 3, 12, 16)
    together = multiscale_maps(maps_of("cam", classifier, [0, 1]), [images], True, (3, 4))
    alone = [multiscale_maps(maps_of("cam", classifier, [0, 1]), [i[None]], True, (3, 4))[0] for i in images]
    assert torch.allclose(together, torch.stack(alone), atol=1e-6)


def test_a_map_of_zeros_stays_one_and_others_reach_one():
    cams = torch.stack([torch.zeros(3, 3), torch.eye(3) * 1e-3])
    result = normalise(cams)
    assert result[0].max() == 0 and result[1].max() == 1
    assert np.isfinite(result.numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ATTENTION_METHODS])
def test_every_method_gives_maps_of_the_classes_wanted(method):
    torch.manual_seed(0)
    backbone = timm.create_model("resnet10t", pretrained=False, num_classes=0, global_pool="")
    model = Classifier(backbone, 512, 3).eval()
    layers = ["backbone.layer1"] if method in ("score_cam", "ablation_cam") else []  # few channels
    maps = multiscale_maps(maps_of(method, model, [2, 0], layers), [torch.randn(2, 3, 64, 96)], True, (16, 24))
    assert maps.shape == (2, 2, 16, 24) and maps.min() >= 0 and torch.isfinite(maps).all()


def test_a_network_is_offered_what_it_allows():
    plain = nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU())
    assert not {"cam", "guided_backpropagation", *ATTENTION_METHODS} & {*methods_for(plain)}
    assert "guided_backpropagation" in methods_for(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    assert {*ATTENTION_METHODS} <= {*methods_for(timm.create_model("test_vit", pretrained=False))}


def test_unknown_methods_and_networks_without_class_maps_are_named():
    with pytest.raises(StageError, match="method: found 'cam2'; expected: cam, grad_cam"):
        maps_of("cam2", nn.Conv2d(3, 3, 1), [0], ["x"])
    with pytest.raises(StageError, match="cam requires a network with a linear head"):
        maps_of("cam", nn.Conv2d(3, 3, 1), [0])
    with pytest.raises(StageError, match="lists no feature levels"):
        maps_of("grad_cam", nn.Conv2d(3, 3, 1), [0])
