"""Segments of SAM and SAM 2 at points, and of SAM 3 for names.

SAM (Kirillov et al. 2023) scales the long side of an image to its input and pads the rest; SAM 2 (Ravi et al. 2024) and SAM 3
stretch the image to a square. Points are therefore given as fractions of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import masks_to_boxes, nms

from wsseg.models.device import Precision, autocast
from wsseg.models.foundation.checkpoint import Checkpoint, load_model, load_part, model_type
from wsseg.types import Image

_POINTS_AT_ONCE = 64
WHOLE = 2  # the third of SAM's masks at a point: the whole object (the others are part and sub-part)


@dataclass(frozen=True)
class Found:
    """Masks of one image, the most confident one first.

    Args:
        masks: (S, h, w) bool.
        scores: (S,) float32 in [0, 1].
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]


class Sam:
    """SAM or SAM 2.

    Args:
        checkpoint: a checkpoint of type ``sam`` or ``sam2``.
        device: device of the computation.
        precision: data type of autocast.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: Precision) -> None:
        self.is_first = model_type(checkpoint) == "sam"
        self.model: Any = load_model(checkpoint, "SamModel" if self.is_first else "Sam2Model").to(device)
        self.processor = load_part(checkpoint, "AutoImageProcessor")
        self.device, self.precision = device, precision

    @torch.no_grad()
    def embed(self, images: Sequence[Image]) -> tuple[list[Any], tuple[int, int]]:
        """Return the embedding of each image of one size, and the (H, W) that the image has in the network's input."""
        inputs = self.processor(images=list(images), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        with autocast(self.precision, self.device):
            embedded = self.model.get_image_embeddings(pixels)
        if self.is_first:
            height, width = (int(n) for n in inputs["reshaped_input_sizes"][0])
            return [embedded[i : i + 1] for i in range(len(images))], (height, width)
        return [[level[i : i + 1] for level in embedded] for i in range(len(images))], tuple(pixels.shape[2:])

    @torch.no_grad()
    def at_points(self, embedding: Any, points: Tensor, input_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return three masks at each point: logits (P, 3, h, w) at the network's resolution, and predicted IoUs (P, 3).

        Args:
            embedding: of the image, see `embed`.
            points: (P, 2) fractions of the image, x first.
            input_size: see `embed`.
        """
        coordinates = in_network(points, input_size).to(self.device)[None, :, None]  # (1, P, 1, 2)
        labels = torch.ones(coordinates.shape[:3], dtype=torch.int32, device=self.device)
        with autocast(self.precision, self.device):
            output = self.model(
                image_embeddings=embedding, input_points=coordinates, input_labels=labels, multimask_output=True
            )
        return output.pred_masks[0].float(), output.iou_scores[0].float()

    def enlarged(self, logits: Tensor, input_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Return logits (M, h, w) at (M, *size), without the padding of SAM."""
        options = {"reshaped_input_sizes": [input_size]} if self.is_first else {}
        (large,) = self.processor.post_process_masks([logits[None]], [size], binarize=False, **options)
        return large[0]  # type: ignore[no-any-return]

    def everything(
        self, embedding: Any, input_size: tuple[int, int], size: tuple[int, int], per_side: int, min_iou: float,
        min_stability: float, max_overlap: float,
    ) -> Found:  # fmt: skip
        """Return the masks at a grid of points that are confident and stable, without duplicates.

        Args:
            embedding: of the image, see `embed`.
            input_size: see `embed`.
            size: (h, w) of the masks.
            per_side: points per row and column.
            min_iou: lowest IoU that SAM predicts for a mask.
            min_stability: lowest `stability`.
            max_overlap: of masks whose boxes have a higher IoU, the most confident one is kept.
        """
        masks, scores = [torch.zeros(0, *size, dtype=torch.bool)], [torch.zeros(0)]
        for points in torch.split(grid(per_side), _POINTS_AT_ONCE):
            logits, ious = (v.flatten(0, 1) for v in self.at_points(embedding, points, input_size))
            logits, ious = logits[ious > min_iou], ious[ious > min_iou]
            if len(logits):
                large = self.enlarged(logits, input_size, size)
                kept = (stability(large) > min_stability) & (large > 0).any(2).any(1)
                masks.append((large[kept] > 0).cpu())
                scores.append(ious[kept].cpu())
        return without_duplicates(torch.cat(masks), torch.cat(scores), max_overlap)


class Sam3:
    """SAM 3, prompted with names.

    Args:
        checkpoint: a checkpoint of type ``sam3``.
        device: device of the computation.
        precision: data type of autocast.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: Precision) -> None:
        self.model: Any = load_model(checkpoint, "Sam3Model").to(device)
        self.processor = load_part(checkpoint, "Sam3Processor")
        self.device, self.precision = device, precision

    @torch.no_grad()
    def texts(self, phrases: Sequence[str]) -> list[dict[str, Any]]:
        """Return the embedding of each phrase."""
        tokens = self.processor(text=list(phrases), return_tensors="pt").to(self.device)
        with autocast(self.precision, self.device):
            features = self.model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        return [
            {
                "text_embeds": SimpleNamespace(pooler_output=features[i : i + 1]),
                "attention_mask": tokens["attention_mask"][i : i + 1],
            }
            for i in range(len(phrases))
        ]

    @torch.no_grad()
    def embed(self, images: Sequence[Image]) -> list[Any]:
        """Return the embedding of each image."""
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"].to(self.device)
        with autocast(self.precision, self.device):
            output = self.model.get_vision_features(pixels)
        return [_of_image(output, i) for i in range(len(images))]

    @torch.no_grad()
    def named(self, embedding: Any, text: dict[str, Any], size: tuple[int, int], min_confidence: float) -> Found:
        """Return the masks (S, *size) of the things with a name; their confidence is at least `min_confidence`."""
        with autocast(self.precision, self.device):
            output = self.model(vision_embeds=embedding, **text)
        (found,) = self.processor.post_process_instance_segmentation(
            output, threshold=min_confidence, target_sizes=[size]
        )
        order = found["scores"].float().argsort(descending=True, stable=True)
        masks = found["masks"].bool()[order].view(-1, *size)
        return Found(masks.cpu().numpy(), found["scores"].float()[order].cpu().numpy())


def in_network(points: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Return points (P, 2), x first, in pixels of the network's input from fractions of the image.

    Args:
        points: in [0, 1].
        input_size: (H, W) of the image in the input: SAM's is smaller than the input on one side, SAM 2's fills it.
    """
    return points * torch.tensor([input_size[1], input_size[0]], dtype=points.dtype)


def grid(per_side: int) -> Tensor:
    """Return (per_side^2, 2) points at the centres of equal cells, as fractions, x first; row by row."""
    centres = (torch.arange(per_side) + 0.5) / per_side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def stability(logits: Tensor) -> Tensor:
    """Return (M,) the IoU of each mask at the limits +1 and -1 (Kirillov et al. 2023, appendix B), from (M, h, w)."""
    inner, outer = ((logits > limit).flatten(1).sum(1) for limit in (1.0, -1.0))
    return inner / outer.clamp_min(1)


def without_duplicates(masks: Tensor, scores: Tensor, max_overlap: float) -> Found:
    """Return the masks (M, h, w) bool that are left after non-maximum suppression of their boxes, the best first."""
    if not len(masks):
        return Found(masks.numpy(), scores.numpy())
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1  # to the outer edge of the last pixel
    kept = nms(boxes, scores, max_overlap)
    return Found(masks[kept].numpy(), scores[kept].clamp(0, 1).numpy())


def _of_image(output: Any, index: int) -> Any:
    """Return the part of a model's output that belongs to one image."""

    def part(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[index : index + 1]
        return type(value)(part(v) for v in value) if isinstance(value, list | tuple) else value

    return type(output)(**{name: part(value) for name, value in output.items()})
