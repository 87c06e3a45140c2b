"""IRNet's boundary branch: where classes meet, learnt from pseudo-masks alone (Ahn, Cho & Kwak 2019, section 4.1)."""

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

STRIDE = 4  # input pixels a boundary value
_CHANNELS, _GROUPS = 32, 4
_EPSILON = 1e-5


@dataclass(frozen=True)
class BoundarySpec:
    """What it takes to build a boundary network again, kept beside its weights.

    Args:
        backbone: name of a timm model; its weights are the classifier's.
        mean: of the input, three values in [0, 1].
        std: likewise.
    """

    backbone: str
    mean: tuple[float, ...] = setting(low=0.0, high=1.0)
    std: tuple[float, ...] = setting(low=0.001, high=1.0)

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std)


class BoundaryNetwork(nn.Module):
    """Every feature level of a frozen backbone, through a 1x1 convolution each, side by side at stride 4, to one logit."""

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
        """Set the branch's mode; the frozen backbone keeps to its statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return boundaries (N, h, w) in (0, 1) at stride 4 of images (N, 3, H, W), multiples of 32."""
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
    """Return the loss of affinities against whether the labels of pairs are equal (IRNet, equation 6).

    Pairs of background, pairs of a class and unequal pairs weigh as 1 : 1 : 2, whatever their number. Pairs that hold 255
    teach nothing.

    Args:
        boundary: (N, h, w) in (0, 1).
        masks: (N, h, w) int64.
        radius: how far apart pairs are at the most, in places.

    Returns:
        A scalar, and (3, 2) int64 how many pairs of background, pairs of a class and unequal pairs are told right (the
        highest boundary between them below one half; above, for unequal ones), and how many there are.
    """
    size = (masks.shape[1], masks.shape[2])
    sums = dict.fromkeys(("background", "class", "unequal"), torch.zeros((), device=boundary.device))
    counts = dict.fromkeys(sums, torch.zeros((), device=boundary.device))
    right = dict.fromkeys(sums, torch.zeros((), dtype=torch.long, device=boundary.device))
    for (dy, dx), highest in highest_on_paths(boundary, radius):
        one = masks[(slice(None), *starts(size, dy, dx))]
        other = masks[(slice(None), *ends(size, dy, dx))]
        valid = (one != IGNORE_INDEX) & (other != IGNORE_INDEX)
        equal = valid & (one == other)
        attract, repel = -torch.log(1 + _EPSILON - highest), -torch.log(highest + _EPSILON)
        near = highest.detach() < 0.5
        for name, pairs, loss, told in (
            ("background", equal & (one == BACKGROUND), attract, near),
            ("class", equal & (one != BACKGROUND), attract, near),
            ("unequal", valid & (one != other), repel, ~near),
        ):
            right[name] = right[name] + (pairs & told).sum()
            sums[name] = sums[name] + (loss * pairs).sum()
            counts[name] = counts[name] + pairs.sum()
    mean = {name: sums[name] / (counts[name] + _EPSILON) for name in sums}
    loss = (mean["background"] + mean["class"]) / 4 + mean["unequal"] / 2
    return loss, torch.stack([torch.stack([right[name], counts[name].long()]) for name in sums])


def load_boundary_network(read: Callable[[str], bytes], where: str) -> tuple[BoundaryNetwork, BoundarySpec]:
    """Build a trained boundary network from its files ``network.json`` and ``network.safetensors``; in eval mode."""
    spec = read_spec(BoundarySpec, read("network.json"), where)
    model = load_network(lambda: BoundaryNetwork(spec.backbone), read("network.safetensors"), where)
    return model, spec


@torch.no_grad()
def boundaries(model: BoundaryNetwork, images: Tensor) -> Tensor:
    """Return (N, H / 4, W / 4) float32 of images (N, 3, H, W), the mean over both mirror images."""
    batch = torch.cat([images, images.flip(3)]).contiguous(memory_format=torch.channels_last)
    straight, mirrored = in_parts(model, batch).chunk(2)
    return (straight + mirrored.flip(2)) / 2
