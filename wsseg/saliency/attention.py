"""Maps from the attention of vision transformers (timm's, class token or not).

Both take a network that returns logits (N, K), images (N, 3, H, W) and channels of the classes wanted, and return
(N, classes, h, w) float32, not negative, at one value a patch. The network's mode, parameters, gradients and its choice of
fused kernels stay as they are.
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
    """Return a network's attention modules in order, those of which timm can show the weights."""
    found = [m for m in model.modules() if isinstance(getattr(m, "attn_drop", None), nn.Module) and hasattr(m, "qkv")]
    if not found:
        raise StageError("saliency: the network has no attention to look at; expected here: grad_cam and others")
    return found


@contextmanager
def _weights_shown(attentions: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """While entered, the list holds the attention weights (N, heads, T, T) of the last pass; a fused kernel has none."""
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
            "expected: networks where every token looks at every token, such as vit and deit"
        )


def _place(rows: Tensor, images: Tensor, model: nn.Module) -> Tensor:
    """Return (N, h, w) of weights (N, T) on tokens."""
    return spatial(rows[..., None], images, model, "attention")[:, 0]


@torch.no_grad()
def attention_rollout(model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit") -> Tensor:
    """Return how much of each patch flows, by attention alone, into what the head reads (Abnar & Zuidema 2020, eq. 1).

    Mean over heads, half of every token passed by the residual connection. It knows no classes: all maps are the same.
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
    """Return the flow of attention that raises a class's target (Chefer, Gur & Wolf 2021, ICCV, equations 5 and 6).

    Each layer's weights times their gradient, positive ones only, mean over heads; one backward pass a class.
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
            # what a token keeps of itself is no evidence of the image
            results.append(_place((reads[:, None] @ (relevance - identity))[:, 0], images, model))
    return torch.stack(results, dim=1)


def _reading(model: nn.Module, images: Tensor, last: nn.Module, channels: Sequence[int], target: Target) -> Tensor:
    """Return (N, T) the share of each token in what the head reads: the class token alone, or all that are pooled.

    Told by the gradient of the score behind the last attention, which is zero for a token that is not read.
    """
    with torch.enable_grad(), recorded([last]) as outputs:
        score = target_scores(logits_of(model, images, channels), channels[0], target).sum()
        (gradient,) = gradients_of(score, outputs, ["the last attention"], again=False)
    read = (gradient.abs().amax(2) > 0).float()
    return read / read.sum(1, keepdim=True).clamp_min(1)


ATTENTION_METHODS = {"attention_rollout": attention_rollout, "gradient_attention": gradient_attention}
