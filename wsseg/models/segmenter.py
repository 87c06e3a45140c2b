"""The segmenter: an architecture of segmentation-models-pytorch, or a decoder on patches, with an encoder of any kind."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.config import setting
from wsseg.errors import StageError, explained, nearest
from wsseg.models.classifier import backbone_statistics, check_backbone
from wsseg.models.patch_decoders import Light, Linear
from wsseg.models.sequences import ARCHITECTURE, SequenceUNet
from wsseg.models.weights import check_statistics, load_matching, load_network, read_spec
from wsseg.saliency.passes import in_parts
from wsseg.types import Mask, Scores

ARCHITECTURES = {
    name.lower(): cls for name, cls in vars(smp).items() if isinstance(cls, type) and hasattr(cls, "forward")
}
ARCHITECTURES |= {"linear": Linear, "light": Light}
LARGEST_DECODER = 4096  # channels
_FEWEST_CHANNELS = 16  # of a U-Net's finest level


@dataclass(frozen=True)
class SegmenterSpec:
    """Description from which a segmenter is rebuilt, stored beside its weights.

    Args:
        architecture: architecture of segmentation-models-pytorch, such as ``deeplabv3plus``; ``unet_1d`` for sequences.
        encoder: name of its encoder, such as ``tu-tf_efficientnet_lite0`` or ``resnet50``.
        decoder: further whole-number options of the architecture, such as ``decoder_pyramid_channels``.
        classes: class names, without the background.
        size: long side in pixels that images are scaled to.
        mean: mean of the input's channels, three values in [0, 1].
        std: standard deviation of the input's channels, three values in (0, 1].
        channels: names of the channels of sequences; empty for photographs.
    """

    architecture: str
    encoder: str
    decoder: dict[str, int] = setting(low=1, high=LARGEST_DECODER)
    classes: tuple[str, ...] = setting()
    size: int = setting(low=32, high=8192)
    mean: tuple[float, ...] = setting(low=0.0, high=1.0)
    std: tuple[float, ...] = setting(low=0.001, high=1.0)
    channels: tuple[str, ...] = setting(())

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std, self.channels)


def check_encoder(name: str) -> None:
    """Raise StageError if a name is neither an encoder of segmentation-models-pytorch nor ``tu-`` and a timm model."""
    if name.startswith(("tu-", "timm-")) and name not in smp.encoders.encoders:  # timm- is an older spelling of tu-
        check_backbone(name.removeprefix("tu-").removeprefix("timm-"))
    elif name not in smp.encoders.encoders:
        raise StageError(
            f"encoder: segmentation-models-pytorch has no {name!r}{nearest(name, smp.encoders.encoders)}; "
            "write models of timm as tu-NAME"
        )


def encoder_statistics(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) of the input that the ImageNet weights of an encoder expect."""
    if encoder.startswith("tu-"):
        return backbone_statistics(encoder.removeprefix("tu-"))
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_segmenter(spec: SegmenterSpec) -> nn.Module:
    """Return a segmenter without trained weights: (N, 3, H, W) -> logits (N, K + 1, H, W), background first.

    Raises:
        StageError: the architecture, the encoder or an option is unknown, or architecture and encoder do not fit.
    """
    if spec.channels:
        if spec.architecture != ARCHITECTURE:
            raise StageError(f"architecture: found {spec.architecture!r}; expected for sequences: {ARCHITECTURE}")
        return SequenceUNet(spec.channels, len(spec.classes) + 1)
    if spec.architecture not in ARCHITECTURES:
        expected = ", ".join(ARCHITECTURES)
        raise StageError(
            f"architecture: found {spec.architecture!r}; expected: {expected}{nearest(spec.architecture, ARCHITECTURES)}"
        )
    check_encoder(spec.encoder)
    signature = inspect.signature(ARCHITECTURES[spec.architecture]).parameters
    options = [
        n
        for n, p in signature.items()
        if n.startswith(("decoder_", "encoder_")) and (type(p.default) is int or n == "decoder_channels")
    ]
    for option in spec.decoder:  # the constructors ignore unknown options
        if option not in options:
            raise StageError(
                f"decoder: {spec.architecture} has no {option!r}; expected: {', '.join(options)}{nearest(option, options)}; "
                "decoder = {} keeps the defaults"
            )
    decoder: dict[str, int | list[int]] = dict(spec.decoder)
    default = signature["decoder_channels"].default if "decoder_channels" in signature else None
    if "decoder_channels" in decoder and isinstance(default, tuple):  # channels of each level, from coarse to fine
        decoder["decoder_channels"] = [
            max(spec.decoder["decoder_channels"] >> level, _FEWEST_CHANNELS) for level in range(len(default))
        ]
    try:
        model: nn.Module = ARCHITECTURES[spec.architecture](
            encoder_name=spec.encoder, encoder_weights=None, classes=len(spec.classes) + 1, **decoder
        )
    except (KeyError, ValueError, TypeError, RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StageError(
            f"architecture {spec.architecture!r} with encoder {spec.encoder!r} cannot be built: {reason}"
        ) from error
    return model


def check_size(outline: nn.Module, size: tuple[int, int]) -> None:
    """Raise StageError unless the output of a segmenter (on the device ``meta``) has the (H, W) of its input."""
    with torch.device("meta"), torch.no_grad():
        output = tuple(_scores(outline.eval(), torch.zeros(1, 3, *size)).shape[2:])
    if output != size:
        raise StageError(
            f"segmenter: the network's output is {output} px for images of {size} px; expected: the same size"
        )


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of a segmenter; StageError if its architecture does not accept images of that size."""
    try:
        logits: Tensor = in_parts(model, images)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        if explained(error):  # the machine's fault, not the network's
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"segmenter: the network does not accept images of {tuple(images.shape[2:])} px ({reason}); "
            "increase segmenter.size or choose another architecture"
        ) from error
    return logits


def load_encoder(model: nn.Module, backbone_state: Mapping[str, Tensor], where: str) -> None:
    """Load the weights of a timm backbone into a segmenter's encoder, in place.

    Raises:
        StageError: fewer than 90 % of the encoder's tensors match.
    """
    encoder = model.get_submodule("encoder")
    prefix = "model." if any(name.startswith("model.") for name in encoder.state_dict()) else ""
    load_matching(encoder, backbone_state, where, prefix)


def load_segmenter(read: Callable[[str], bytes], where: str) -> tuple[nn.Module, SegmenterSpec]:
    """Load a trained segmenter; returns it in eval mode, and its spec.

    Args:
        read: returns the bytes of ``network.json`` and ``network.safetensors``.
        where: the source of the files, for errors.
    """
    spec = read_spec(SegmenterSpec, read("network.json"), where)
    return load_network(lambda: build_segmenter(spec), read("network.safetensors"), where), spec


@torch.inference_mode()
def segment(
    model: nn.Module, inputs: Sequence[Tensor], output: tuple[int, int], flip: bool, mirror: Sequence[int] = (3,)
) -> Tensor:
    """Average class probabilities over scales and flips.

    Args:
        model: segmenter in eval mode.
        inputs: the images at each scale, (N, 3, h, w) float32, normalised; h and w are multiples of 32.
        output: (H, W) of the result.
        flip: average over the mirrored images as well.
        mirror: axes that the mirrored image reverses (`wsseg.data.sequences.mirror_axes`); none turn `flip` off.

    Returns:
        (N, K + 1, *output) float32 scores that sum to 1 over the classes.
    """
    total = inputs[0].new_zeros(())
    flip = flip and bool(mirror)
    for images in inputs:
        batch = torch.cat([images, images.flip(tuple(mirror))]) if flip else images
        scores = _scores(model, batch.contiguous(memory_format=torch.channels_last)).float().softmax(1)
        if flip:
            straight, mirrored = scores.chunk(2)
            scores = (straight + mirrored.flip(3)) / 2
        total = total + F.interpolate(scores, size=output, mode="bilinear", align_corners=False)
    return total / len(inputs)


def enlarged_argmax(scores: Scores, size: tuple[int, int]) -> tuple[Mask, NDArray[np.float32]]:
    """Return the class with the highest score after bilinear enlargement, and that score.

    Classes are enlarged one after another: memory use is three arrays of the result's size for any number of classes.

    Args:
        scores: (C, h, w) float32.
        size: (H, W) of the result.

    Returns:
        (H, W) uint8 class ids in 0..C-1 (the lowest one of equal scores), and (H, W) float32 scores.
    """
    height, width = size
    best = cv2.resize(scores[0], (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros(size, dtype=np.uint8)
    for class_id in range(1, len(scores)):
        score = cv2.resize(scores[class_id], (width, height), interpolation=cv2.INTER_LINEAR)
        higher = score > best
        mask[higher] = class_id
        np.maximum(best, score, out=best)
    return mask, best
