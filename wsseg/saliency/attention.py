"""Maps from the attention of timm's vision transformers, with or without a class token.

Both functions take a network that returns logits (N, K), images (N, 3, H, W) and the channels of the classes, and return
(N, classes, h, w) float32, not negative, with one value per patch. The network's mode, parameters, gradients and use of
fused kernels are not changed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wsseg.errors import StageError
from wsseg.saliency.feature_maps import spatial
from wsseg.saliency.forward import check_images, frozen_eval, full, gradients_of, logits_of
from wsseg.saliency.hooks import recorded
from wsseg.saliency.targets import Target, target_scores


def _attentions(model: nn.Module) -> list[nn.Module]:
    """Return a network's attention modules whose weights timm exposes, in order."""
    attentions = [
        m for m in model.modules() if isinstance(getattr(m, "attn_drop", None), nn.Module) and hasattr(m, "qkv")
    ]
    if not attentions:
        raise StageError(
            "saliency: the network has no attention modules; expected: a vision transformer of timm, or another method such as grad_cam"
        )
    return attentions


@contextmanager
def _weights_shown(attentions: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that holds the attention weights (N, heads, T, T) of the latest pass; fused kernels are disabled."""
    fused = [(m, m.fused_attn) for m in attentions if hasattr(m, "fused_attn")]
    try:
        for module, _ in fused:
            module.fused_attn = False  # type: ignore[assignment]
        with recorded([m.attn_drop for m in attentions]) as weights:  # type: ignore[misc]
            yield weights
    finally:
        for module, before in fused:
            module.fused_attn = before


def _checked(weights: Sequence[Tensor], images: Tensor) -> None:
    tokens = weights[0].shape[-1]
    if any(w.ndim != 4 or len(w) != len(images) or w.shape[2:] != (tokens, tokens) for w in weights):
        raise StageError(
            "saliency: the attention is within windows or between stages of different size; "
            "expected: networks with attention between all tokens, such as vit and deit"
        )


def _place(rows: Tensor, images: Tensor, model: nn.Module) -> Tensor:
    """Return the map (N, h, w) of weights (N, T) of tokens."""
    return spatial(rows[..., None], images, model, "attention")[:, 0]


@torch.no_grad()
def attention_rollout(model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit") -> Tensor:
    """Return the attention flow from each patch to the tokens that the head reads (Abnar & Zuidema 2020, equation 1).

    The weights are averaged over heads, and the residual connection passes half of every token. The maps of all classes are
    equal.
    """
    check_images(images)
    attentions = _attentions(model)
    with frozen_eval(model), _weights_shown(attentions) as weights:
        reads = _reading(model, images, attentions[-1], channels, target)
        _checked(weights, images)
        identity = torch.eye(weights[0].shape[-1], device=images.device)
        flow = identity.expand(len(images), -1, -1)
        for layer in weights:
            flow = (0.5 * full(layer.detach()).mean(1) + 0.5 * identity) @ flow
    maps = _place((reads[:, None] @ flow)[:, 0], images, model)
    return maps[:, None].repeat(1, len(channels), 1, 1)


def gradient_attention(model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit") -> Tensor:
    """Return the attention flow that increases a class's target (Chefer, Gur & Wolf 2021, ICCV, equations 5 and 6).

    Each layer contributes the mean over heads of the positive products of weights and gradients; one backward pass per
    class.
    """
    check_images(images)
    attentions = _attentions(model)
    results = []
    with frozen_eval(model), torch.enable_grad(), _weights_shown(attentions) as weights:
        reads = _reading(model, images, attentions[-1], channels, target)
        logits = logits_of(model, images, channels)
        _checked(weights, images)
        identity = torch.eye(weights[0].shape[-1], device=images.device)
        names = [f"attention {number}" for number in range(len(weights))]
        for index, channel in enumerate(channels):
            score = target_scores(logits, channel, target).sum()
            gradients = gradients_of(score, weights, names, again=index + 1 < len(channels))
            relevance = identity.expand(len(images), -1, -1)
            for layer, gradient in zip(weights, gradients, strict=True):
                raising = (full(gradient) * full(layer.detach())).relu().mean(1)  # (N, T, T)
                relevance = relevance + raising @ relevance
            # without the identity, which is not evidence of the image
            results.append(_place((reads[:, None] @ (relevance - identity))[:, 0], images, model))
    return torch.stack(results, dim=1)


def _reading(model: nn.Module, images: Tensor, last: nn.Module, channels: Sequence[int], target: Target) -> Tensor:
    """Return (N, T) the weight of each token that the head reads: the class token, or all pooled tokens.

    A token is read if the gradient of the score with respect to the output of the last attention is not zero for it.
    """
    with torch.enable_grad(), recorded([last]) as outputs:
        score = target_scores(logits_of(model, images, channels), channels[0], target).sum()
        (gradient,) = gradients_of(score, outputs, ["the last attention"], again=False)
    read = (gradient.abs().amax(2) > 0).float()
    return read / read.sum(1, keepdim=True).clamp_min(1)


ATTENTION_METHODS = {"attention_rollout": attention_rollout, "gradient_attention": gradient_attention}
