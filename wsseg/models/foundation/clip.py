"""Class maps of CLIP's vision transformer, from texts only (CLIP-ES; Lin et al. 2023, CVPR)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import StageError
from wsseg.models.foundation.checkpoint import Checkpoint, load_model, load_part

ATTENTION_LAYERS = 8  # the last ones, whose attention is averaged
BOX_LEVEL = 0.4  # fraction of a map's maximum, above which its boxes are drawn
_SINKHORN = 3  # normalisations of columns and rows


class Clip:
    """CLIP with the attention of its image encoder.

    Args:
        checkpoint: a checkpoint of type ``clip``.
        device: device of the computation.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model: Any = load_model(checkpoint, "CLIPModel", eager=True).to(device)
        self.tokenizer = load_part(checkpoint, "CLIPTokenizer")
        processor = load_part(checkpoint, "CLIPImageProcessor")
        self.mean, self.std = tuple(processor.image_mean), tuple(processor.image_std)
        self.patch: int = self.model.config.vision_config.patch_size

    @torch.no_grad()
    def text_embeddings(self, phrases: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return (K, D) float32 vectors of length 1: the mean over templates of each phrase's embeddings.

        Raises:
            StageError: a text is longer than the model's context.
        """
        longest = self.model.config.text_config.max_position_embeddings
        rows = []
        for phrase in phrases:
            texts = [template.replace("{}", phrase) for template in templates]
            tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.model.device)
            if tokens["input_ids"].shape[1] > longest:
                raise StageError(f"prompts: {texts[0]!r} is too long for the model; expected: at most {longest} tokens")
            embeddings = F.normalize(self.model.get_text_features(**tokens).pooler_output.float(), dim=1)
            rows.append(F.normalize(embeddings.mean(0), dim=0))
        return torch.stack(rows)

    @torch.no_grad()
    def maps(self, images: Tensor, texts: Tensor, present: Tensor, autocast: torch.autocast) -> Tensor:
        """Return the refined maps of classes, not negative, each with maximum 1; those of absent classes are 0.

        Args:
            images: (N, 3, H, W) float32, normalised; H and W are multiples of the patch.
            texts: (C + B, D), the embeddings of the classes and of the background words.
            present: (N, C) bool, the classes of each image.
            autocast: context of all blocks but the last one, which is computed in float32.

        Returns:
            (N, C, H / patch, W / patch) float32.
        """
        vision = self.model.vision_model
        size = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        with attention_means(vision.encoder.layers[-ATTENTION_LAYERS:]) as means:
            tokens, probabilities = self._last_block(images, texts, present, autocast)
            cams = grad_cams(tokens, probabilities, present, size)
        return refined(cams, affinities(torch.stack(means).mean(0)))

    def _last_block(
        self, images: Tensor, texts: Tensor, present: Tensor, autocast: torch.autocast
    ) -> tuple[Tensor, Tensor]:
        """Return the last block's normalised input (N, 1 + P, F), and the scores (N, C) that depend on it."""
        vision = self.model.vision_model
        with autocast:
            hidden = vision.pre_layrnorm(vision.embeddings(images, interpolate_pos_encoding=True))
            for layer in vision.encoder.layers[:-1]:
                hidden = layer(hidden, None)
        last = vision.encoder.layers[-1]
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            hidden = hidden.float()
            tokens = last.layer_norm1(hidden).detach().requires_grad_()
            hidden = hidden + last.self_attn(hidden_states=tokens)[0]
            hidden = vision.post_layernorm(hidden + last.mlp(last.layer_norm2(hidden)))
            # the mean of the patches, because the class token's gradient would pass through its own attention only
            features = F.normalize(self.model.visual_projection(hidden[:, 1:].mean(1)), dim=1)
            logits = self.model.logit_scale.exp() * features @ texts.T
            return tokens, log_probabilities(logits, present)


@contextmanager
def attention_means(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that holds the attention weights (N, T, T) of the layers that have run, averaged over heads, in float32."""
    means: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: tuple[Tensor, Tensor | None]) -> None:
        weights = output[1]
        if weights is None or weights.numel() == 0:  # fused kernels return none, without an error
            raise StageError("clip: the attention weights are empty; expected: attn_implementation = eager")
        means.append(weights.detach().float().mean(1))

    hooks = [layer.self_attn.register_forward_hook(keep) for layer in layers]  # type: ignore[union-attr]
    try:
        yield means
    finally:
        for hook in hooks:
            hook.remove()


def log_probabilities(logits: Tensor, present: Tensor) -> Tensor:
    """Return the log-probability of each class among the classes present and the background words (CLIP-ES, section 3.3).

    Its gradient has the direction of the probability's gradient, and does not vanish if the probability is rounded to 1.

    Args:
        logits: (N, C + B).
        present: (N, C) bool.

    Returns:
        (N, C) float32; the values of absent classes are meaningless.
    """
    absent = F.pad(~present, (0, logits.shape[1] - present.shape[1]))
    logits = logits.masked_fill(absent, -torch.inf)
    columns = []
    for channel in range(present.shape[1]):
        others = torch.cat([logits[:, :channel], logits[:, channel + 1 :]], dim=1)
        columns.append(-F.softplus(others.logsumexp(1) - logits[:, channel].clamp_min(-1e9)))
    return torch.stack(columns, dim=1)


def grad_cams(tokens: Tensor, scores: Tensor, present: Tensor, size: tuple[int, int]) -> Tensor:
    """Return Grad-CAM's maps (N, C, h, w) of tokens (Selvaraju et al. 2017), without the class token.

    Args:
        tokens: (N, 1 + P, F), the layer that is explained; requires a gradient.
        scores: (N, C), depend on the tokens.
        present: (N, C) bool; maps of absent classes are 0.
        size: (h, w) with h w = P.
    """
    maps = []
    for channel in range(scores.shape[1]):
        with torch.enable_grad():
            score = scores[:, channel][present[:, channel]].sum()
        (gradient,) = torch.autograd.grad(score, tokens, retain_graph=channel + 1 < scores.shape[1])
        weights = gradient[:, 1:].mean(1)  # (N, F)
        maps.append((tokens.detach()[:, 1:] @ weights[:, :, None])[..., 0].relu())
    stacked = torch.stack(maps, dim=1) * present[:, :, None]
    return _over_peak(stacked).view(*stacked.shape[:2], *size)


def affinities(attention: Tensor) -> Tensor:
    """Return the affinities of patches (N, P, P) from attention weights (N, 1 + P, 1 + P): the square of `symmetrised`.

    The square adds paths of two steps (CLIP-ES, section 3.4).
    """
    weights = symmetrised(attention)
    return weights @ weights


def symmetrised(attention: Tensor) -> Tensor:
    """Return symmetric, almost doubly stochastic affinities (N, P, P) from attention weights (N, 1 + P, 1 + P).

    The class token is dropped, columns and rows are normalised three times (Sinkhorn), and the mean with the transpose is taken
    (CLIP-ES, section 3.4).
    """
    weights = attention[:, 1:, 1:]
    for _ in range(_SINKHORN):
        weights = weights / weights.sum(1, keepdim=True)
        weights = weights / weights.sum(2, keepdim=True)
    return (weights + weights.transpose(1, 2)) / 2


def refined(cams: Tensor, affinity: Tensor, level: float = BOX_LEVEL) -> Tensor:
    """Return maps propagated over affinities; only values inside boxes of the map are propagated (CLIP-ES, section 3.4).

    Args:
        cams: (N, C, h, w), each divided by its maximum.
        affinity: (N, h w, h w).
        level: boxes surround the connected parts of a map above this value.

    Returns:
        (N, C, h, w), each divided by its maximum.
    """
    boxes = torch.from_numpy(np.stack([boxes_of(m, level) for m in cams.flatten(0, 1).cpu().numpy()])).to(cams.device)
    inside = (cams * boxes.view_as(cams)).flatten(2)
    return _over_peak(inside @ affinity.transpose(1, 2)).view_as(cams)


def boxes_of(class_map: np.ndarray[Any, np.dtype[np.float32]], level: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (h, w) bool: the union of the boxes around the connected parts of a map (h, w) above a level."""
    boxes = np.zeros(class_map.shape, bool)
    _, _, stats, _ = cv2.connectedComponentsWithStats((class_map > level).astype(np.uint8), connectivity=8)
    for x, y, width, height, _ in stats[1:]:  # the first one is the rest
        boxes[y : y + height, x : x + width] = True
    return boxes


def _over_peak(maps: Tensor) -> Tensor:
    """Return maps (N, C, P) divided by their maxima; zeros stay zero."""
    peak = maps.amax(2, keepdim=True)
    return torch.where(peak > 0, maps / peak.clamp_min(torch.finfo(maps.dtype).tiny), 0)
