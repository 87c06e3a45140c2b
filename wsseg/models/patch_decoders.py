"""Decoders on the last feature maps of one timm backbone, for vision transformers, whose blocks all have the same resolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.models.classifier import ClassifierSpec, build_classifier
from wsseg.saliency.feature_maps import spatial

_GROUPS = 8


class _PatchSegmenter(nn.Module):
    """A timm backbone, a head on its last feature maps, and bilinear enlargement to the size of the images.

    Images may have any size: patches at their edges are padded, position embeddings are interpolated, and class and register
    tokens are dropped.

    Args:
        encoder_name: ``tu-`` and the name of a timm model.
        classes: channels of the result, with the background.
    """

    def __init__(self, encoder_name: str, classes: int) -> None:
        super().__init__()
        if not encoder_name.startswith("tu-"):
            raise ValueError("expected: an encoder of timm, written tu-NAME")
        spec = ClassifierSpec(encoder_name.removeprefix("tu-"), ("any",), (0.5,) * 3, (0.5,) * 3)
        source = build_classifier(spec)
        self.encoder, self.channels_last = source.backbone, source.channels_last
        self.features = source.head.in_channels
        self.head = self.build_head(self.features, classes)

    def build_head(self, features: int, classes: int) -> nn.Module:
        """Return the head: (N, features, h, w) -> (N, classes, ...)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, 3, H, W)."""
        values = self.encoder.forward_features(images)  # type: ignore[operator]
        maps = spatial(values, images, self.encoder, "forward_features", self.channels_last)
        return F.interpolate(self.head(maps), size=images.shape[2:], mode="bilinear", align_corners=False)


class Linear(_PatchSegmenter):
    """One 1x1 convolution, as in the linear evaluation of DINOv2 (Oquab et al. 2023, section 7.4)."""

    def __init__(self, encoder_name: str, encoder_weights: None = None, classes: int = 1) -> None:
        super().__init__(encoder_name, classes)

    def build_head(self, features: int, classes: int) -> nn.Module:
        """Return the convolution."""
        return nn.Conv2d(features, classes, 1)


class Light(_PatchSegmenter):
    """Two steps that double the resolution, each with a 3x3 convolution.

    Args:
        encoder_name: ``tu-`` and the name of a timm model.
        encoder_weights: not used; weights are loaded afterwards.
        classes: channels of the result, with the background.
        decoder_channels: channels of the convolutions, a multiple of 8.
    """

    def __init__(
        self, encoder_name: str, encoder_weights: None = None, classes: int = 1, decoder_channels: int = 256
    ) -> None:
        self.channels = decoder_channels
        super().__init__(encoder_name, classes)

    def build_head(self, features: int, classes: int) -> nn.Module:
        """Return the convolutions."""
        return nn.Sequential(
            _doubled(features, self.channels),
            _doubled(self.channels, self.channels),
            nn.Conv2d(self.channels, classes, 1),
        )


def _doubled(features: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(features, channels, 3, padding=1, bias=False),
        nn.GroupNorm(_GROUPS, channels),
        nn.ReLU(inplace=True),
    )
