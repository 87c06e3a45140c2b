"""Networks for sequences, as images of height 1: convolutions with kernels (1, k), so that all maps have the shape of images'.

Strides are 1, so that class maps have the resolution of the sequence.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.data.sequences import LETTERS

BACKBONES: tuple[str, ...] = ("cnn_1d", "dilated_1d")
ARCHITECTURE = "unet_1d"
FEATURES = 64  # channels of all networks
_MOTIF = 15  # places of the first filters, which see motifs
_DILATIONS = (1, 2, 4, 8)
_LEVELS = 3  # of the U-Net; each halves the length


def _block(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (1, kernel), padding="same", dilation=(1, dilation), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _normalisation(channels: tuple[str, ...]) -> nn.Module:
    """Return the first layer: letters stay 0 and 1, signals of any unit get mean 0 and variance 1 by channel."""
    if channels == LETTERS:
        return nn.Identity()
    return nn.BatchNorm2d(len(channels), eps=1e-30, affine=False)  # EEG in volts has a variance of 1e-10


class SequenceNetwork(nn.Module):
    """A backbone for the `Classifier`: `cnn_1d` has two layers and sees 19 places, `dilated_1d` has residual blocks and sees 75.

    Args:
        name: ``cnn_1d`` (DeepBind, Alipanahi et al. 2015, with a second layer) or ``dilated_1d`` (residual blocks with
            dilations 1, 2, 4 and 8 as in BPNet, Avsec et al. 2021).
        channels: names of the C channels of the sequence.
    """

    def __init__(self, name: str, channels: tuple[str, ...]) -> None:
        super().__init__()
        self.normalisation = _normalisation(channels)
        self.stem = _block(len(channels), FEATURES, _MOTIF)
        self.residual = name == "dilated_1d"
        self.blocks = nn.ModuleList(
            [_block(FEATURES, FEATURES, 5, dilation) for dilation in (_DILATIONS if self.residual else (1,))]
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Return features (N, 64, 1, L) of sequences (N, C, 1, L)."""
        features: Tensor = self.stem(self.normalisation(images))
        for block in self.blocks:
            features = features + block(features) if self.residual else block(features)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, as `forward_features`."""
        return self.forward_features(images)


class SequenceUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) for sequences: (N, C, 1, L) -> logits (N, K + 1, 1, L), for any length.

    Args:
        channels: names of the C channels of the sequence.
        outputs: number of class ids, K + 1.
    """

    def __init__(self, channels: tuple[str, ...], outputs: int) -> None:
        super().__init__()
        self.normalisation = _normalisation(channels)
        self.encoder = nn.ModuleList(
            [_block(len(channels), FEATURES, _MOTIF), *(_block(FEATURES, FEATURES, 5) for _ in range(_LEVELS))]
        )
        self.decoder = nn.ModuleList([_block(2 * FEATURES, FEATURES, 5) for _ in range(_LEVELS)])
        self.head = nn.Conv2d(FEATURES, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K + 1, 1, L)."""
        levels = [self.encoder[0](self.normalisation(images))]
        for block in list(self.encoder)[1:]:
            levels.append(block(F.max_pool2d(levels[-1], (1, 2), ceil_mode=True)))
        features = levels.pop()
        for block in self.decoder:
            finer = levels.pop()
            features = F.interpolate(features, size=finer.shape[2:], mode="nearest")
            features = block(torch.cat([finer, features], dim=1))
        return self.head(features)  # type: ignore[no-any-return]
