"""Checks the values of `make_seeds` with an untrained classifier."""

import torch

from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.models.classifier import ClassifierSpec, build_classifier, input_statistics
from wsseg.models.weights import outlined
from wsseg.saliency.activation_maps import ACTIVATION_METHODS, WEIGHTINGS, gradient_cams
from wsseg.saliency.attention import ATTENTION_METHODS, attention_rollout
from wsseg.saliency.gradients import GRADIENT_METHODS
from wsseg.saliency.layers import layer_of
from wsseg.saliency.methods import methods_for
from wsseg.stages.make_seeds.config import Config


def check(config: Config, images: LabeledImages, backbone: str) -> None:
    """Raise StageError unless the backbone supports the method, the layers and the output stride.

    Layers and attention are tried with random weights, because their shapes depend on the architecture only.
    """
    statistics = input_statistics(backbone, images.channels)
    spec = ClassifierSpec(backbone, images.classes.names, *statistics, channels=images.channels)
    outline = outlined(lambda: build_classifier(spec, config.output_stride))
    supported = (*methods_for(outline), *(() if images.channels else ("lpcam",)))
    if config.method not in supported:
        raise StageError(
            f"seeds.method: found {config.method!r}; expected with the backbone {backbone!r}: {', '.join(supported)}"
        )
    targeted = (*WEIGHTINGS, *GRADIENT_METHODS, *ATTENTION_METHODS)
    if config.target == "margin" and config.method in targeted and len(images.classes) == 1:
        raise StageError('seeds.target: found "margin" with one class; expected: logit, sigmoid')
    if config.normality == "on" and sum(not item.class_ids for item in images.items) < 2:
        raise StageError('seeds.normality: found "on"; expected with fewer than two images without a class: auto, off')
    if config.normality == "on" and images.channels:
        raise StageError('seeds.normality: found "on"; expected for sequences: auto, off')
    family = config.method in WEIGHTINGS or config.method in ACTIVATION_METHODS
    layers = config.layers if family else ()
    for name in layers:
        layer_of(outline, name)
    if layers or config.method in ATTENTION_METHODS:
        with torch.random.fork_rng(devices=[]):
            model = build_classifier(spec, config.output_stride).eval()
            noise = torch.randn(1, len(spec.mean), 1 if spec.channels else 64, 96)
        if layers:
            gradient_cams(model, noise, [0], layers, "grad_cam")
        else:
            attention_rollout(model, noise, [0])
