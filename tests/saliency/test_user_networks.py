"""Saliency maps of arbitrary networks: correct maps, or one line that explains why there are none."""

from collections import namedtuple
from functools import partial

import pytest
import timm
import torch
from torch import nn

from wsseg.errors import StageError
from wsseg.inspect.receptive_field import effective_receptive_field
from wsseg.saliency.activation_maps import WEIGHTINGS, ablation_cam, eigen_cam, gradient_cam, score_cam
from wsseg.saliency.attention import attention_rollout, gradient_attention
from wsseg.saliency.feature_maps import _order_by_shape
from wsseg.saliency.gradients import gradient, integrated_gradients, smooth_grad

BY_LAYER = [gradient_cam, eigen_cam, score_cam, ablation_cam]
BY_IMAGE = [gradient, partial(smooth_grad, samples=2), partial(integrated_gradients, steps=2)]
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


class Permuted(nn.Module):
    """Convolutions whose output is permuted to channels last, normalised, permuted back and pooled."""

    def __init__(self, channels=24, output=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, channels, 3, stride=8, padding=1)
        self.last = nn.Identity()  # its type does not show where the channels are
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Identity()
        self.head = nn.Linear(channels, 4)
        self.output = output

    def forward(self, images):
        x = self.norm(self.last(self.conv(images).relu().permute(0, 2, 3, 1)))
        x = self.first(x.permute(0, 3, 1, 2))
        return self.output(self.head(x.mean((2, 3))))


@pytest.mark.parametrize("function", BY_LAYER)
@pytest.mark.parametrize("channels", [4, 8, 12, 24])  # 8 and 12 are also the rows and columns of the maps
def test_channels_first_and_last_give_the_same_map(function, channels):
    model = Permuted(channels)
    expected = function(model, IMAGES, [0, 3], "first", channels_last=False)
    assert expected.shape == (2, 2, 8, 12) and expected.max() > 0
    for layer in ("first", "norm"):
        assert torch.allclose(function(model, IMAGES, [0, 3], layer), expected, atol=1e-5)
    assert torch.allclose(function(model, IMAGES, [0, 3], "norm", channels_last=True), expected, atol=1e-5)
    assert function(model, IMAGES, [1], "last").shape == (
        2,
        1,
        8,
        12,
    )  # inferred from the shape, or from a pass with another image size


def test_channels_first_and_last_give_the_same_receptive_field():
    model = Permuted(12)
    last, first = (effective_receptive_field(model, IMAGES, layer) for layer in ("norm", "first"))
    assert last.extent == first.extent and torch.allclose(last.response, first.response, atol=1e-6)


def test_signals_with_channels_last():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 40, 5, padding=2), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(40, 3)
    )
    signals = torch.randn(2, 2, 40)
    assert gradient_cam(model, signals, [0], "1").shape == (
        2,
        1,
        40,
    )  # 40 channels and 40 places: inferred from a signal of length 20


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((768, 2, 3), (64, 96), False), ((2, 3, 768), (64, 96), True),
        ((512, 25, 25), (800, 800), False), ((25, 25, 512), (800, 800), True),
        ((512, 1, 100), (32, 3200), False), ((1, 100, 512), (32, 3200), True),
        ((16, 16, 16), (64, 64), None), ((64, 50, 50), (800, 800), None), ((512, 2, 200), (64, 800), None),
        ((40,), (40,), None),
    ],
)  # fmt: skip
def test_the_order_of_axes_is_inferred_from_the_shape(shape, size, expected):
    assert _order_by_shape(shape if len(shape) > 1 else (40, 40), size) is expected


class OneSize(nn.Module):
    """A network for 16 x 16 images only, with 16 channels of 16 x 16 places."""

    def __init__(self):
        super().__init__()
        self.middle = nn.Identity()
        self.head = nn.Linear(16**3, 2)

    def forward(self, images):
        return self.head(self.middle(images.repeat(1, 16, 1, 1)).flatten(1))


def test_an_ambiguous_order_of_axes_is_refused_until_the_user_passes_it():
    image = torch.randn(1, 1, 16, 16)
    with pytest.raises(StageError, match="channels could be first or last; pass channels_last=True or False"):
        gradient_cam(OneSize(), image, [0], "middle")
    assert gradient_cam(OneSize(), image, [0], "middle", channels_last=False).shape == (1, 1, 16, 16)


def test_swin_of_torchvision_and_of_timm():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.swin_t(weights=None, num_classes=4).eval()
    for method in WEIGHTINGS:
        first, last = (gradient_cam(model, IMAGES, [1], layer, method) for layer in ("permute", "norm"))
        assert first.shape == (2, 1, 2, 3) and torch.allclose(first, last, atol=1e-5)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=4, img_size=(64, 96), window_size=4, depths=(1, 1, 1, 1)
    )
    assert gradient_cam(swin, IMAGES, [0], "layers.3").shape == (2, 1, 2, 3)  # channels last
    assert gradient_cam(swin, IMAGES, [0], "patch_embed.proj").shape == (
        2,
        1,
        16,
        24,
    )  # channels first, in the same network
    with pytest.raises(StageError, match="expected: feature maps with as many spatial dimensions"):
        gradient_cam(swin, IMAGES, [0], "layers.0.blocks.0.attn.qkv")  # windows


def test_a_head_that_reads_only_the_class_token():
    model = timm.create_model("test_vit", num_classes=3, dynamic_img_size=True, class_token=True, global_pool="token")
    assert gradient_cam(model, IMAGES, [0], "blocks.1.norm1").max() > 0
    last = f"blocks.{len(model.blocks) - 1}"
    with pytest.raises(StageError, match="the logits read only the class token of layer"):
        gradient_cam(model, IMAGES, [0], last)


Named = namedtuple("Named", ["aux", "logits"])


@pytest.mark.parametrize(
    "output",
    [
        lambda x: (x,), lambda x: [x, None], lambda x: {"logits": x, "loss": x.sum()}, lambda x: Named(-x, x),
        lambda x: (x, x[:, :, None, None]), lambda x: {"out": x},
    ],
)  # fmt: skip
def test_logits_are_found_in_the_output_of_a_network(output):
    for function in BY_LAYER:
        maps = function(Permuted(output=output), IMAGES, [0, 3], "norm")
        assert torch.equal(maps, function(Permuted(), IMAGES, [0, 3], "norm"))
    for function in BY_IMAGE:
        assert torch.equal(function(Permuted(output=output), IMAGES, [0]), function(Permuted(), IMAGES, [0]))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: (x, x), r"returns tuple of \(2, 4\), \(2, 4\); expected: logits"),
        (lambda x: None, "returns NoneType of no tensor"),
        (lambda x: x[:, :, None], r"returns \(2, 4, 1\)"),
        (lambda x: x.argmax(1), r"returns \(2,\) of torch.int64"),
        (lambda x: x[:1], r"returns \(1, 4\) of torch.float32 for 2 images"),
        (lambda x: x * torch.nan, "hold NaN or infinity"),
        (lambda x: x.view(3, 3), "the network does not accept images .* shape"),
    ],
)
def test_networks_without_logits_are_refused_in_one_line(output, message):
    model = Permuted(output=output)
    for function in BY_LAYER:
        with pytest.raises(StageError, match=message) as error:
            function(model, IMAGES, [0], "norm")
        assert "\n" not in str(error.value)
    for function in BY_IMAGE:
        with pytest.raises(StageError, match=message):
            function(model, IMAGES, [0])
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([], "found no class channel"),
        ([-1], "found class channel -1; expected: 0 to 3"),
        ([0, 9], "channel 9"),
        ([0.5], "0.5"),
    ],
)
def test_channels_out_of_range_are_refused_by_every_function(channels, message):
    for function in BY_LAYER:
        with pytest.raises(StageError, match=message):
            function(Permuted(), IMAGES, channels, "norm")
    vit = timm.create_model("test_vit", num_classes=4, dynamic_img_size=True)
    for function in (*BY_IMAGE, attention_rollout, gradient_attention):
        with pytest.raises(StageError, match=message):
            function(vit, IMAGES, channels)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_gradient_mode_of_the_caller_changes_no_map(context):
    vit = timm.create_model("test_vit", num_classes=4, dynamic_img_size=True).eval()
    model = Permuted()
    with context():
        images = IMAGES.clone()
        maps = [function(model, images, [0, 3], "norm") for function in BY_LAYER]
        maps += [function(model, images, [0]) for function in BY_IMAGE]
        maps += [function(vit, images, [0]) for function in (attention_rollout, gradient_attention)]
        assert torch.is_inference_mode_enabled() is (context is torch.inference_mode)
        assert torch.is_grad_enabled() is (context is torch.enable_grad)
    expected = [function(Permuted(), IMAGES, [0, 3], "norm") for function in BY_LAYER]
    expected += [function(Permuted(), IMAGES, [0]) for function in BY_IMAGE]
    expected += [function(vit, IMAGES, [0]) for function in (attention_rollout, gradient_attention)]
    assert all(torch.equal(m, e) for m, e in zip(maps, expected, strict=True))


def test_a_network_created_in_inference_mode_is_explained_or_refused():
    with torch.inference_mode():
        model = Permuted()
    for function in BY_LAYER:
        try:
            assert torch.equal(function(model, IMAGES, [0], "norm"), function(Permuted(), IMAGES, [0], "norm"))
        except StageError as error:
            assert "inference" in str(error).lower()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precision(dtype):
    model, images = Permuted().to(dtype), IMAGES.to(dtype)
    for function in BY_LAYER:
        maps, expected = function(model, images, [0, 3], "norm"), function(Permuted(), IMAGES, [0, 3], "norm")
        assert maps.dtype in (torch.float32, torch.float64) and torch.isfinite(maps).all()
        assert (maps - expected).abs().max() < 0.1 * expected.max()
    for function in BY_IMAGE:
        assert torch.isfinite(function(model, images, [0])).all()
    with pytest.raises(StageError, match=f"does not accept images .* of {dtype}"):
        gradient_cam(Permuted(), images, [0], "norm")
    with pytest.raises(StageError, match="the images are torch.uint8; expected: normalised"):
        gradient_cam(Permuted(), images.byte(), [0], "norm")


class Zero(nn.Module):
    """A network whose head has constant weights; with weight 0 its logits are always 0."""

    def __init__(self, weight):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
        nn.init.constant_(self.head.weight, weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_a_score_of_zero_gives_a_map_of_zeros():
    for function in BY_LAYER:
        assert torch.isfinite(function(Zero(0.0), IMAGES, [0], "conv")).all()
    assert ablation_cam(Zero(0.0), IMAGES, [0], "conv").max() == 0
    assert ablation_cam(Zero(1.0), IMAGES, [0], "conv").max() > 0


class Twice(nn.Module):
    """A network with an activation that runs twice, a layer that the logits do not use, and one that never runs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(16, 4)
        self.aside, self.never = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.act(self.two(self.act(self.one(x))))
        self.aside(x)
        return self.head(x.mean((2, 3)))


def test_layers_that_run_twice_do_not_reach_the_logits_or_never_run():
    assert gradient_cam(Twice(), IMAGES, [0], "act").shape == (2, 1, 64, 96)  # the last run counts
    with pytest.raises(StageError, match="layer 'act' runs 2 times"):
        ablation_cam(Twice(), IMAGES, [0], "act")
    with pytest.raises(StageError, match="the logits do not depend on aside"):
        gradient_cam(Twice(), IMAGES, [0], "aside")
    for function in BY_LAYER:
        with pytest.raises(StageError, match="layer 'never' has no output .* the forward pass does not reach it"):
            function(Twice(), IMAGES, [0], "never")
    traced = torch.jit.trace(Permuted().eval(), IMAGES)
    with pytest.raises(StageError, match="the network is traced"):
        gradient_cam(traced, IMAGES, [0], "norm")


class Dense(nn.Module):
    """A layer whose output is concatenated with other features, as in a DenseNet, or returned in a tuple."""

    def __init__(self, wrapped):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head = nn.Conv2d(3, 8, 3, padding=1), Wrapped(8, wrapped), nn.Linear(16, 4)

    def forward(self, x):
        one = self.one(x)
        return self.head(
            torch.cat([one, self.two(one)[0] if self.two.wrapped else self.two(one)], 1).relu().mean((2, 3))
        )


class Wrapped(nn.Module):
    def __init__(self, channels, wrapped):
        super().__init__()
        self.conv, self.wrapped = nn.Conv2d(channels, channels, 3, padding=1), wrapped

    def forward(self, x):
        return (self.conv(x), None) if self.wrapped else self.conv(x)


@pytest.mark.parametrize("function", BY_LAYER)
def test_concatenated_layers_and_layers_that_return_a_tuple(function):
    maps = function(Dense(False), IMAGES, [0], "two")
    assert torch.equal(function(Dense(True), IMAGES, [0], "two"), maps) and maps.max() > 0


def test_wrapped_networks():
    expected = gradient_cam(Permuted(), IMAGES, [0], "norm")
    assert torch.equal(gradient_cam(nn.DataParallel(Permuted()), IMAGES, [0], "module.norm"), expected)
    frozen = Permuted().requires_grad_(False)
    assert torch.equal(gradient_cam(frozen, IMAGES, [0], "norm"), expected)
    assert not any(p.requires_grad for p in frozen.parameters())
