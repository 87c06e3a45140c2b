import pytest
import torch
from torch.nn import functional as F

from wsseg.models.cpu.depthwise import DepthwiseGradientsInFloat32

OPTIONS = {"bias": None, "stride": (2, 1), "padding": 2, "dilation": 1, "groups": 6}


def gradients(fast, bias=False):
    """Return the output and all gradients of one depthwise convolution under bfloat16 autocast."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 6, 17, 20, generator=generator, requires_grad=True)
    weight = torch.randn(6, 1, 5, 5, generator=generator, requires_grad=True)
    offset = torch.randn(6, generator=generator, requires_grad=True)
    options = OPTIONS | {"bias": offset if bias else None}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if fast:
            with DepthwiseGradientsInFloat32():
                result = F.conv2d(images, weight, **options)
        else:
            result = F.conv2d(images, weight, **options)
    result.float().square().sum().backward()
    return [result.float(), images.grad, weight.grad, *([offset.grad] if bias else [])]


@pytest.mark.parametrize("bias", [False, True])
def test_the_same_convolution_and_the_same_gradients(bias):
    for ours, torchs in zip(gradients(True, bias), gradients(False, bias), strict=True):
        assert ours.dtype == torchs.dtype
        assert (ours - torchs).abs().max() < 0.02 * torchs.abs().max()


def test_it_is_closer_to_float32_than_plain_bfloat16():
    exact = torch.randn(1, 4, 40, 40, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(4, 1, 3, 3)

    def gradient(mode):
        w = weight.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode != "float32"):
            if mode == "ours":
                with DepthwiseGradientsInFloat32():
                    F.conv2d(exact, w, groups=4).float().sum().backward()
            else:
                F.conv2d(exact, w, groups=4).float().sum().backward()
        return w.grad

    plain, ours = (float((gradient(mode) - gradient("float32")).abs().mean()) for mode in ("plain", "ours"))
    assert ours <= plain + 1e-3


def test_other_convolutions_and_float32_pass_through():
    images, weight = torch.randn(1, 4, 8, 8), torch.randn(2, 4, 3, 3)
    with DepthwiseGradientsInFloat32():
        assert torch.equal(F.conv2d(images, weight), torch.conv2d(images, weight))
        assert F.conv2d(images, torch.randn(4, 1, 3, 3), groups=4).dtype == torch.float32
