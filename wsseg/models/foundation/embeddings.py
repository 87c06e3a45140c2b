"""Patch embeddings whose cosines are affinities: features of DINO, or factors of CLIP's attention."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.errors import StageError
from wsseg.models.device import Precision, autocast
from wsseg.models.foundation.checkpoint import CLIP_KINDS, Checkpoint, load_model, load_part, model_type
from wsseg.models.foundation.clip import ATTENTION_LAYERS, attention_means, symmetrised


class Embedder:
    """DINOv2 (with or without registers), DINOv3 or CLIP, read as a source of patch embeddings.

    Args:
        checkpoint: the checkpoint.
        device: device of the computation.
        precision: data type of autocast.
    """

    def __init__(self, checkpoint: Checkpoint | None, device: torch.device, precision: Precision) -> None:
        if checkpoint is None:
            raise StageError("embed_images requires the table [embeddings.model]")
        self.by_attention = model_type(checkpoint) in CLIP_KINDS
        if self.by_attention:
            self.model: Any = load_model(checkpoint, "CLIPModel", eager=True).vision_model.to(device)
        else:
            self.model = load_model(checkpoint, "AutoModel").to(device)
        processor = load_part(checkpoint, "AutoImageProcessor")
        self.mean, self.std = tuple(processor.image_mean), tuple(processor.image_std)
        self.patch: int = self.model.config.patch_size
        self.device, self.precision = device, precision

    @torch.no_grad()
    def vectors(self, images: Tensor) -> Tensor:
        """Return (N, P, F) float32 vectors of images (N, 3, H, W), whose sides are multiples of the patch."""
        patches = (images.shape[2] // self.patch) * (images.shape[3] // self.patch)
        with autocast(self.precision, self.device):
            if not self.by_attention:  # the class token and the registers come first
                hidden: Tensor = self.model(images).last_hidden_state
                return hidden[:, -patches:].float()
            with attention_means(self.model.encoder.layers[-ATTENTION_LAYERS:]) as means:
                self.model(images, interpolate_pos_encoding=True)
        return factors(symmetrised(torch.stack(means).mean(0)))


def factors(affinity: Tensor) -> Tensor:
    """Return vectors (N, P, P) whose products are the square of symmetric affinities (N, P, P): V |L| of V L V^T."""
    values, vectors = torch.linalg.eigh(affinity.float())
    result: Tensor = vectors * values.abs()[:, None]
    return result


def reduced(vectors: Tensor, rank: int) -> Tensor:
    """Return (P, min(rank, F)) vectors of length 1 in the subspace that preserves the products of (P, F) best.

    The subspace is that of the largest singular values (Eckart & Young 1936).
    """
    unit = F.normalize(vectors, dim=1)
    _, directions = torch.linalg.eigh(unit.T @ unit)
    return F.normalize(unit @ directions[:, -rank:], dim=1)
