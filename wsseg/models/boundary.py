"""IRNet's boundary branch: predicts class boundaries, learned from pseudo-masks (Ahn, Cho & Kwak 2019, section 4.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.config import setting
from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.models.classifier import check_backbone
from wsseg.models.weights import check_statistics, load_network, read_spec
from wsseg.saliency.passes import in_parts
from wsseg.saliency.walk import ends, highest_on_paths, starts

STRIDE = 4  # input pixels per boundary value
_CHANNELS, _GROUPS = 32, 4
_EPSILON = 1e-5


@dataclass(frozen=True)
class BoundarySpec:
    """Description from which a boundary network is rebuilt, stored beside its weights.

    Args:
        backbone: name of a timm model.
        mean: mean of the input's channels, three values in [0, 1].
        std: standard deviation of the input's channels, three values in (0, 1].
    """

    backbone: str
    mean: tuple[float, ...] = setting(low=0.0, high=1.0)
    std: tuple[float, ...] = setting(low=0.001, high=1.0)

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std)


class BoundaryNetwork(nn.Module):
    """Boundary head over a frozen backbone.

    Each feature level passes through a 1x1 convolution; the results are concatenated at stride 4 and reduced to one logit.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        check_backbone(backbone)
        features: Any = timm.create_model(backbone, pretrained=False, features_only=True)
        self.backbone = features.requires_grad_(False)
        channels = features.feature_info.channels()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, _CHANNELS, 1, bias=False), nn.GroupNorm(_GROUPS, _CHANNELS)) for c in channels
        )
        self.head = nn.Conv2d(_CHANNELS * len(channels), 1, 1)

    def train(self, mode: bool = True) -> "BoundaryNetwork":
        """Set the mode of the head; the frozen backbone always uses its running statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return boundaries (N, H / 4, W / 4) in (0, 1) of images (N, 3, H, W); H and W are multiples of 32."""
        with torch.no_grad():
            features = self.backbone(images)
        size = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
        levels = [
            F.interpolate(level(f), size=size, mode="bilinear", align_corners=False).relu()
            for level, f in zip(self.levels, features, strict=True)
        ]
        logits: Tensor = self.head(torch.cat(levels, dim=1))[:, 0]
        return logits.float().sigmoid()


def affinity_loss(boundary: Tensor, masks: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return the loss of the affinities of pixel pairs, given whether their labels are equal (IRNet, equation 6).

    Background pairs, pairs of one class and unequal pairs have the weights 1 : 1 : 2, independent of their numbers. Pairs
    with a pixel of 255 are ignored.

    Args:
        boundary: (N, h, w) in (0, 1).
        masks: (N, h, w) int64.
        radius: largest distance of a pair, in boundary values.

    Returns:
        The scalar loss, and (3, 2) int64 counts for background pairs, pairs of one class and unequal pairs: the number of
        correct pairs (the highest boundary between them is below 0.5 for equal labels, and not below for unequal ones), and
        the number of all pairs.
    """
    size = (masks.shape[1], masks.shape[2])
    sums = dict.fromkeys(("background", "class", "unequal"), torch.zeros((), device=boundary.device))
    counts = dict.fromkeys(sums, torch.zeros((), device=boundary.device))
    correct = dict.fromkeys(sums, torch.zeros((), dtype=torch.long, device=boundary.device))
    for (dy, dx), highest in highest_on_paths(boundary, radius):
        start = masks[(slice(None), *starts(size, dy, dx))]
        end = masks[(slice(None), *ends(size, dy, dx))]
        valid = (start != IGNORE_INDEX) & (end != IGNORE_INDEX)
        equal = valid & (start == end)
        attract, repel = -torch.log(1 + _EPSILON - highest), -torch.log(highest + _EPSILON)
        joined = highest.detach() < 0.5
        for name, pairs, loss, predicted in (
            ("background", equal & (start == BACKGROUND), attract, joined),
            ("class", equal & (start != BACKGROUND), attract, joined),
            ("unequal", valid & (start != end), repel, ~joined),
        ):
            correct[name] = correct[name] + (pairs & predicted).sum()
            sums[name] = sums[name] + (loss * pairs).sum()
            counts[name] = counts[name] + pairs.sum()
    mean = {name: sums[name] / (counts[name] + _EPSILON) for name in sums}
    loss = (mean["background"] + mean["class"]) / 4 + mean["unequal"] / 2
    return loss, torch.stack([torch.stack([correct[name], counts[name].long()]) for name in sums])


def load_boundary_network(read: Callable[[str], bytes], where: str) -> tuple[BoundaryNetwork, BoundarySpec]:
    """Load a trained boundary network; returns it in eval mode, and its spec.

    Args:
        read: returns the bytes of ``network.json`` and ``network.safetensors``.
        where: the source of the files, for errors.
    """
    spec = read_spec(BoundarySpec, read("network.json"), where)
    model = load_network(lambda: BoundaryNetwork(spec.backbone), read("network.safetensors"), where)
    return model, spec


@torch.no_grad()
def boundaries(model: BoundaryNetwork, images: Tensor) -> Tensor:
    """Return boundaries (N, H / 4, W / 4) float32 of images (N, 3, H, W), averaged over the images and their mirror images."""
    batch = torch.cat([images, images.flip(3)]).contiguous(memory_format=torch.channels_last)
    straight, mirrored = in_parts(model, batch).chunk(2)
    return (straight + mirrored.flip(2)) / 2
