import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from wsseg.models.classifier import Classifier
from wsseg.models.cpu.folding import folded

IMAGE = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def with_statistics(model):
    """Give every normalisation weights and running statistics of its own, as training does."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.running_mean, -0.3),
                (module.running_var, 0.6),
                (module.weight, 0.6),
                (module.bias, -0.2),
            ):
                tensor.data.copy_(low + 0.6 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


def norms(model):
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet10t", "mobilenetv3_small_050", "densenet121", "convnext_atto"]
)
def test_backbones_give_the_same_without_normalisations(name):
    torch.manual_seed(0)
    model = with_statistics(timm.create_model(name, pretrained=False, num_classes=3))
    before = {n: p.clone() for n, p in model.state_dict().items()}
    quick = folded(model, torch.zeros(1, 3, 64, 64))
    with torch.no_grad():
        expected, actual = model(IMAGE), quick(IMAGE)
    assert (expected - actual).abs().max() <= 1e-4 * expected.abs().max() and expected.std() > 0
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())
    assert norms(quick) == 0 or (name == "densenet121" and norms(quick) < norms(model))


def test_a_segmenter_and_its_class_maps():
    torch.manual_seed(0)
    segmenter = with_statistics(smp.FPN("tu-tf_efficientnet_lite0", encoder_weights=None, classes=4))
    with torch.no_grad():
        expected = segmenter(IMAGE)
        assert (
            expected - folded(segmenter, torch.zeros(1, 3, 64, 64))(IMAGE)
        ).abs().max() <= 1e-4 * expected.abs().max()
    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool="")
    classifier = with_statistics(Classifier(backbone, 1280, 3))
    with torch.no_grad():
        expected = classifier.class_maps(IMAGE)
        actual = folded(classifier, torch.zeros(1, 3, 64, 64)).class_maps(IMAGE)
    assert (expected - actual).abs().max() <= 1e-4 * expected.abs().max()


class Branching(nn.Module):
    """A convolution whose output goes to a normalisation and to another module."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + self.other(y)


def test_what_another_module_needs_is_left_alone():
    model = with_statistics(Branching())
    quick = folded(model, IMAGE[:1])
    assert norms(quick) == 1 and torch.equal(quick(IMAGE), model(IMAGE))


class Hidden(nn.Module):
    """A convolution whose output a function uses, which no module sees."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) * y


def test_what_a_function_needs_is_found_by_the_result():
    model = with_statistics(Hidden())
    quick = folded(model, IMAGE[:1])
    assert quick is not model and norms(quick) == 1 and torch.equal(quick(IMAGE), model(IMAGE))
