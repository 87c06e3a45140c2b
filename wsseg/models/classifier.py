"""The classifier: a timm backbone, a 1x1 convolution as head, and a pooling of its maps, for which CAM is one forward pass."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from wsseg.config import setting
from wsseg.errors import StageError
from wsseg.models.sequences import BACKBONES, FEATURES, SequenceNetwork
from wsseg.models.weights import (
    check_statistics,
    load_matching,
    load_network,
    packaged_state,
    read_spec,
    read_state,
)
from wsseg.saliency.feature_maps import spatial

Pooling = Literal["mean", "lse", "top"]
OutputStride = Literal[8, 16, 32]
_SHARPNESS = 1.0  # of the log-sum-exp
_TOP = 0.1  # fraction of the places


def pooled(maps: Tensor, pooling: Pooling) -> Tensor:
    """Return the logits (N, K) of class maps (N, K, h, w).

    Args:
        maps: evidence of each class at each place.
        pooling: ``mean`` (Zhou et al. 2016); ``lse``, log(mean(exp(maps))), which weights the places by their own evidence, so
            that a small object is not diluted by the rest of the image (Pinheiro & Collobert 2015, equation 6); or ``top``, the
            mean of the highest tenth of the places (Durand et al. 2017, WILDCAT).
    """
    if pooling == "mean":
        return maps.mean(dim=(2, 3))
    places = maps.float().flatten(2)
    if pooling == "lse":
        return (torch.logsumexp(_SHARPNESS * places, dim=2) - math.log(places.shape[2])) / _SHARPNESS
    return places.topk(max(1, round(_TOP * places.shape[2])), dim=2).values.mean(2)


def pooling_weights(maps: Tensor, pooling: Pooling) -> Tensor:
    """Return the weight of each place in the logit of its class, (N, K, h, w): the derivative of `pooled`, sum 1 over the places."""
    places = maps.float().flatten(2)
    if pooling == "mean":
        weights = torch.full_like(places, 1 / places.shape[2])
    elif pooling == "lse":
        weights = (_SHARPNESS * places).softmax(2)
    else:
        count = max(1, round(_TOP * places.shape[2]))
        weights = torch.zeros_like(places).scatter(2, places.topk(count, dim=2).indices, 1 / count)
    return weights.reshape(maps.shape)


@dataclass(frozen=True)
class ClassifierSpec:
    """Description from which a classifier is rebuilt, stored beside its weights.

    Args:
        backbone: name of a timm model, or of a network for sequences (`wsseg.models.sequences`).
        classes: class names, without the background.
        mean: mean of the input's channels, three values in [0, 1].
        std: standard deviation of the input's channels, three values in (0, 1].
        size: long side in pixels of the images that it was trained on, at zoom 1.
        pooling: how the maps become logits, see `pooled`.
        output_stride: input pixels per place of the maps that it was trained with.
        channels: names of the channels of sequences; empty for photographs.
    """

    backbone: str
    classes: tuple[str, ...]
    mean: tuple[float, ...] = setting(low=0.0, high=1.0)
    std: tuple[float, ...] = setting(low=0.001, high=1.0)
    size: int = setting(320, low=32, high=8192)
    pooling: Pooling = setting("mean")
    output_stride: OutputStride = setting(32)
    channels: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std, self.channels)


class Classifier(nn.Module):
    """Multi-label classifier whose logits are pooled from its class maps.

    The head is linear and has no bias: a class map is the evidence of its class at each place (Zhou et al. 2016, "Learning
    Deep Features for Discriminative Localization"). With the pooling ``mean``, the logit is exactly the mean of the map.

    The identity layer ``last`` returns the features that are pooled; saliency methods read it if no other layer is named.

    Args:
        backbone: a timm model without head and pooling.
        features: number of its feature maps, F.
        classes: number of classes without the background, K.
        channels_last: whether the backbone returns (N, h, w, F).
        pooling: how the maps become logits, see `pooled`.
    """

    last_layer = "last"

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        classes: int,
        channels_last: bool = False,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.channels_last = channels_last
        self.last = nn.Identity()
        self.head = nn.Conv2d(features, classes, kernel_size=1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature maps (N, F, h, w) of images (N, 3, H, W); for a vision transformer, its patch tokens."""
        features: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        maps = spatial(features, images, self.backbone, "forward_features", self.channels_last)
        return self.last(maps)  # type: ignore[no-any-return]

    def forward(self, images: Tensor, as_maps: bool = False) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W), or their `class_maps`."""
        if as_maps:
            return self.class_maps(images)
        return self.logits(self.features(images))

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of the last feature maps (N, F, h, w)."""
        if self.pooling == "mean":  # head and mean commute, and the mean is smaller
            return self.head(features.mean(dim=(2, 3), keepdim=True)).flatten(1)  # type: ignore[no-any-return]
        return pooled(self.head(features), self.pooling)

    def class_maps(self, images: Tensor) -> Tensor:
        """Return the evidence of each class at each place, (N, K, h, w); `pooled`, it is the logit."""
        return self.head(self.features(images))  # type: ignore[no-any-return]


def check_sequence_backbone(name: str) -> None:
    """Raise StageError if there is no network for sequences of this name."""
    if name not in BACKBONES:
        raise StageError(f"backbone: found {name!r}; expected for sequences: {', '.join(BACKBONES)}")


def input_statistics(backbone: str, channels: tuple[str, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) of a backbone's input; sequences are not normalised, a network for signals does it itself.

    Raises:
        StageError: the backbone does not fit photographs (no channels) or sequences.
    """
    if channels:
        check_sequence_backbone(backbone)
        return (0.0,) * len(channels), (1.0,) * len(channels)
    return backbone_statistics(backbone)


def check_backbone(name: str) -> None:
    """Raise StageError if timm itself has no architecture of this name; no hub or folder is searched."""
    if name in BACKBONES:
        raise StageError(f'backbone: {name!r} is for sequences (data.kind = "sequences"); expected: a timm model')
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise StageError(f"backbone: timm has no model {name!r}{hint}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise StageError(f"backbone: {name!r}: {error}") from error


def backbone_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) of the input that the weights of a timm backbone expect.

    Raises:
        StageError: timm has no such model.
    """
    check_backbone(name)
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return tuple(config.mean), tuple(config.std)


def build_classifier(spec: ClassifierSpec, output_stride: int | None = None) -> Classifier:
    """Return a classifier without trained weights.

    Args:
        spec: its description.
        output_stride: input pixels per feature, 8, 16 or 32; None means that of the training. Weights trained at 32 can be used
            at 8 and 16: strides become dilations, and the same filters are applied at more places (Chen et al. 2018, DeepLab,
            section 3.1).

    Raises:
        StageError: the backbone is unknown, does not support the output stride, or has no spatial features.
    """
    if spec.channels:
        check_sequence_backbone(spec.backbone)
        network = SequenceNetwork(spec.backbone, spec.channels)
        return Classifier(network, FEATURES, len(spec.classes), pooling=spec.pooling)
    check_backbone(spec.backbone)
    stride = output_stride or spec.output_stride
    features, channels_last = _features_of(spec.backbone, stride)
    return Classifier(_backbone(spec.backbone, stride), features, len(spec.classes), channels_last, spec.pooling)


def _backbone(name: str, output_stride: int) -> nn.Module:
    options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    if is_model_in_modules(name, ["vision_transformer", "deit", "eva"]):
        options |= {"dynamic_img_size": True, "dynamic_img_pad": True}  # images of any size
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)
    return network


@cache
def _features_of(name: str, output_stride: int) -> tuple[int, bool]:
    """Return the number of feature maps of a backbone, and whether they are the last axis of its output.

    The feature axis is the one whose length does not depend on the size of the image. The backbone is built on the device
    ``meta``, without weights.

    Raises:
        StageError: the backbone does not support the output stride, or has no feature maps for images of any size.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            outline = _backbone(name, output_stride).eval()
        except (TypeError, NotImplementedError, AssertionError, RuntimeError, ValueError) as error:
            if output_stride != 32:
                raise StageError(
                    f"backbone {name!r} cannot have output stride {output_stride}; expected: 32"
                ) from error
            raise StageError(f"backbone {name!r} cannot be built") from error
        try:
            with torch.no_grad():
                images = [torch.zeros(1, 3, *size) for size in ((64, 64), (96, 128))]
                outputs = [outline.forward_features(image) for image in images]  # type: ignore[operator]
            if outputs[0].ndim == 3:
                outputs = [
                    spatial(f, i, outline, "forward_features", False) for f, i in zip(outputs, images, strict=True)
                ]
            axes = [a for a in (1, 2, 3) if outputs[0].shape[a] == outputs[1].shape[a]]
            if axes not in ([1], [3]):
                raise StageError("the feature axis is ambiguous")
        # networks for one size, or for multiples of another number, raise any of these
        except (StageError, AssertionError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise StageError(
                f"backbone {name!r} has no spatial feature maps for images of any size; choose a CNN, or a vit or deit"
            ) from error
    return outputs[0].shape[axes[0]], axes == [3]


def check_hub(backbone: str) -> None:
    """Raise StageError if timm lists no trained weights of a backbone; nothing is downloaded."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise StageError(f'weights = "hub": timm lists no trained weights of {backbone!r}; expected: "file", "none"')


def load_backbone_weights(model: Classifier, backbone: str, weights: str, file: Path | None) -> None:
    """Load the initial weights of a classifier's backbone, in place.

    Args:
        model: the classifier.
        backbone: name of the timm model.
        weights: ``package``, ``hub`` (timm's, downloaded), ``file`` or ``none``.
        file: path of the weights; required by ``file``.

    Raises:
        StageError: the weights cannot be read or downloaded, or do not fit.
    """
    if weights == "package":
        load_matching(model.backbone, packaged_state(model.backbone, backbone), f"the package of {backbone}")
    elif weights == "hub":
        try:
            source = timm.create_model(backbone, pretrained=True, num_classes=0, global_pool="")
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise StageError(
                f"cannot download the weights of {backbone!r} from timm's hub ({reason}); "
                'download them elsewhere and set weights = "file" and weights_file'
            ) from error
        load_matching(model.backbone, source.state_dict(), "timm's hub")
    elif weights == "file":
        if file is None:
            raise StageError('classifier.weights = "file" requires classifier.weights_file')
        load_matching(model.backbone, read_state(file), str(file))


def load_classifier(
    read: Callable[[str], bytes], where: str, output_stride: int | None = None
) -> tuple[Classifier, ClassifierSpec]:
    """Load a trained classifier; returns it in eval mode, and its spec.

    Args:
        read: returns the bytes of ``network.json`` and ``network.safetensors``.
        where: the source of the files, for errors.
        output_stride: see `build_classifier`.
    """
    spec = read_spec(ClassifierSpec, read("network.json"), where)
    model = load_network(lambda: build_classifier(spec, output_stride), read("network.safetensors"), where)
    return model, spec
