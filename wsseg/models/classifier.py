"""The classifier: a timm backbone, global average pooling and a 1x1 convolution head, so that the CAM is exact."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from wsseg.config import setting
from wsseg.errors import StageError
from wsseg.models.weights import (
    PACKAGE,
    check_statistics,
    load_matching,
    load_network,
    packaged_state,
    read_spec,
    read_state,
)
from wsseg.saliency.layers import spatial


@dataclass(frozen=True)
class ClassifierSpec:
    """What it takes to build a classifier again, kept beside its weights.

    Args:
        backbone: name of a timm model.
        classes: class names, without the background.
        mean: of the input, three values in [0, 1].
        std: likewise.
    """

    backbone: str
    classes: tuple[str, ...]
    mean: tuple[float, ...] = setting(low=0.0, high=1.0)
    std: tuple[float, ...] = setting(low=0.001, high=1.0)

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std)


class Classifier(nn.Module):
    """Multi-label classifier whose logits are the mean over space of its class maps.

    head(mean(features)) == mean(head(features)), because the head is linear and has no bias: the map of a class is its
    evidence at each place, exactly (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").

    The layer ``last`` passes on what is pooled: saliency looks at it where no other layer is named.
    """

    last_layer = "last"

    def __init__(self, backbone: nn.Module, features: int, classes: int, channels_last: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels_last = channels_last  # of what the backbone returns
        self.last = nn.Identity()
        self.head = nn.Conv2d(features, classes, kernel_size=1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature maps, (N, F, h, w); a vision transformer's are its patch tokens."""
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
        return self.head(features.mean(dim=(2, 3), keepdim=True)).flatten(1)  # type: ignore[no-any-return]

    def class_maps(self, images: Tensor) -> Tensor:
        """Return the evidence of each class at each place, (N, K, h, w); its mean over space is the logit."""
        return self.head(self.features(images))  # type: ignore[no-any-return]


def check_backbone(name: str) -> None:
    """Raise StageError unless a name is that of an architecture that timm itself holds: a hub or a folder is never asked."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise StageError(f"backbone: timm has no model {name!r}{hint}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise StageError(f"backbone: {name!r}: {error}") from error


def backbone_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) that a timm backbone's weights expect of their input.

    Raises:
        StageError: timm has no such model.
    """
    check_backbone(name)
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return tuple(config.mean), tuple(config.std)


def build_classifier(spec: ClassifierSpec, output_stride: int = 32) -> Classifier:
    """Return a classifier without trained weights.

    Args:
        spec: what to build.
        output_stride: input pixels per feature, 8, 16 or 32. Weights trained at 32 serve at 8 and 16 as well: strides
            become dilations, and the same filters look at more places (Chen et al. 2018, DeepLab, section 3.1).

    Raises:
        StageError: unknown backbone, an output stride it does not have, or no spatial features.
    """
    check_backbone(spec.backbone)
    features, channels_last = _features_of(spec.backbone, output_stride)
    return Classifier(_backbone(spec.backbone, output_stride), features, len(spec.classes), channels_last)


def _backbone(name: str, output_stride: int) -> nn.Module:
    options: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
    if is_model_in_modules(name, ["vision_transformer", "deit"]):
        options |= {"dynamic_img_size": True, "dynamic_img_pad": True}  # images of any size
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)
    return network


@cache
def _features_of(name: str, output_stride: int) -> tuple[int, bool]:
    """Return how many feature maps a backbone has, and whether it keeps them last.

    Told by its outline alone, which has no weights: what of its output's shape stays when the image gets another size.

    Raises:
        StageError: no such output stride, or no feature maps for images of any size.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            outline = _backbone(name, output_stride).eval()
        except (TypeError, NotImplementedError, AssertionError, RuntimeError, ValueError) as error:
            why = f"cannot have output stride {output_stride}; choose 32" if output_stride != 32 else "cannot be built"
            raise StageError(f"backbone {name!r} {why}") from error
        try:
            with torch.no_grad():
                images = [torch.zeros(1, 3, *size) for size in ((64, 64), (96, 128))]
                found = [outline.forward_features(image) for image in images]  # type: ignore[operator]
            if found[0].ndim == 3:
                found = [spatial(f, i, outline, "forward_features", False) for f, i in zip(found, images, strict=True)]
            kept = [a for a in (1, 2, 3) if found[0].shape[a] == found[1].shape[a]]
            if kept not in ([1], [3]):
                raise StageError("no axis of the output, or several, are features")
        # networks that are bound to a size, or need a multiple of another number, fail in any way
        except (StageError, AssertionError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise StageError(
                f"backbone {name!r} has no spatial feature maps for images of any size; choose a CNN, or a vit or deit"
            ) from error
    return found[0].shape[kept[0]], kept == [3]


def check_hub(backbone: str) -> None:
    """Raise StageError unless timm's hub has weights of a backbone, by timm's own list; the hub is not asked."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise StageError(f'weights = "hub": timm lists no trained weights of {backbone!r}; expected: "file", "none"')


def load_backbone_weights(model: Classifier, backbone: str, weights: str, file: Path | None) -> None:
    """Load a backbone's starting weights.

    Args:
        model: the classifier.
        backbone: name of the timm model.
        weights: ``package``, ``hub`` (timm's, downloaded), ``file`` or ``none``.
        file: the weights, for ``file``.

    Raises:
        StageError: they cannot be had or do not fit.
    """
    if weights == "package":
        load_matching(model.backbone, packaged_state(model.backbone), PACKAGE)
    elif weights == "hub":
        try:
            source = timm.create_model(backbone, pretrained=True, num_classes=0, global_pool="")
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise StageError(
                f"weights of {backbone!r} cannot be had from timm's hub ({reason}); "
                'give weights = "file" and weights_file'
            ) from error
        load_matching(model.backbone, source.state_dict(), "timm's hub")
    elif weights == "file":
        if file is None:
            raise StageError('classifier.weights = "file" needs classifier.weights_file')
        load_matching(model.backbone, read_state(file), str(file))


def load_classifier(
    read: Callable[[str], bytes], where: str, output_stride: int = 32
) -> tuple[Classifier, ClassifierSpec]:
    """Build a trained classifier from its files.

    Args:
        read: returns the bytes of ``network.json`` and ``network.safetensors``.
        where: what errors call it.
        output_stride: see `build_classifier`.

    Returns:
        The classifier in eval mode, and its spec.
    """
    spec = read_spec(ClassifierSpec, read("network.json"), where)
    model = load_network(lambda: build_classifier(spec, output_stride), read("network.safetensors"), where)
    return model, spec
