"""Segments of SAM, SAM 2 and SAM 3, of batches of images of one size."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import peak_local_max

from wsseg.data.batches import batches_by_size
from wsseg.data.images import LabeledImages
from wsseg.data.reading import read_photograph
from wsseg.data.segments import ANY_CLASS, Segments, encode_segments, layered
from wsseg.models.device import resolve_device
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.prompts import Prompts, phrases
from wsseg.models.foundation.sam import WHOLE, Sam, Sam3
from wsseg.progress import track
from wsseg.saliency.seeds import decode_seed
from wsseg.stages.layout import SEED_FOLDER, segment_path
from wsseg.stages.make_segments.config import Config
from wsseg.stages.make_segments.superpixels import stored_size
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import Image, LabeledImage, Seed

Divide = Callable[[Sequence[LabeledImage], Sequence[Image]], list[Segments]]
_POINTS = 10  # per class
_LEVEL = 0.5  # lowest value of a map's maximum that becomes a point
_DISTANCE = 16  # smallest distance of two points as a part of the map's long side


def write_sam_segments(
    config: Config, checkpoint: Checkpoint, images: LabeledImages, seeds: Artifact | None, out: Path
) -> None:
    """Write segments/<id>.png for each image."""
    divide: Divide
    if config.method == "sam3":
        divide = _by_name(config, checkpoint, images)
    elif config.method == "sam_points" and seeds is not None:
        divide = _at_maxima(config, checkpoint, seeds)
    else:
        divide = _everything(config, checkpoint)
    batches = batches_by_size(images.items, config.batch_size)
    missing = [b for b in batches if not all(segment_path(out, item.id).is_file() for item in b)]
    for batch in track(missing, len(batches), "segments", "batches", len(batches) - len(missing)):
        for item, segments in zip(batch, divide(batch, [read_photograph(i) for i in batch]), strict=True):
            if not segment_path(out, item.id).is_file():
                atomic_write(segment_path(out, item.id), encode_segments(segments))


def _everything(config: Config, checkpoint: Checkpoint) -> Divide:
    """Return a function that divides images into SAM's masks at a grid of points."""
    sam = Sam(checkpoint, resolve_device(config.device), config.precision)

    def divide(items: Sequence[LabeledImage], images: Sequence[Image]) -> list[Segments]:
        embeddings, input_size = sam.embed(images)
        size = stored_size(items[0].size, config.size)
        limits = (config.points_per_side, config.min_iou, config.min_stability, config.max_overlap)
        found = [sam.everything(embedding, input_size, size, *limits) for embedding in embeddings]
        return [
            layered(f.masks, [ANY_CLASS] * len(f.masks), f.scores, i.size) for f, i in zip(found, items, strict=True)
        ]

    return divide


def _at_maxima(config: Config, checkpoint: Checkpoint, seeds: Artifact) -> Divide:
    """Return a function that divides images into SAM's masks at the maxima of the seeds' maps."""
    sam = Sam(checkpoint, resolve_device(config.device), config.precision)

    def divide(items: Sequence[LabeledImage], images: Sequence[Image]) -> list[Segments]:
        embeddings, input_size = sam.embed(images)
        size = stored_size(items[0].size, config.size)
        results = []
        for item, embedding in zip(items, embeddings, strict=True):
            seed = decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png"))
            points, class_ids = points_of(seed)
            if not len(points):
                results.append(layered([], [], [], item.size))
                continue
            logits, ious = sam.at_points(embedding, torch.from_numpy(points), input_size)
            masks = (sam.enlarged(logits[:, WHOLE], input_size, size) > 0).cpu().numpy()
            maps = {i: _resized(m, size) for i, m in zip(seed.class_ids, seed.maps, strict=True)}
            scores = [
                float(iou.clamp(0, 1)) * float(maps[i][mask].mean()) if mask.any() else 0.0
                for iou, i, mask in zip(ious[:, WHOLE], class_ids, masks, strict=True)
            ]
            results.append(layered(masks, class_ids, scores, item.size))
        return results

    return divide


def _by_name(config: Config, checkpoint: Checkpoint, images: LabeledImages) -> Divide:
    """Return a function that divides images into SAM 3's masks for the names of the classes present."""
    sam = Sam3(checkpoint, resolve_device(config.device), config.precision)
    texts = sam.texts(phrases(config.prompts or Prompts(), images.classes))

    def divide(items: Sequence[LabeledImage], photographs: Sequence[Image]) -> list[Segments]:
        size = stored_size(items[0].size, config.size)
        results = []
        for item, embedding in zip(items, sam.embed(photographs), strict=True):
            masks: list[NDArray[np.bool_]] = []
            class_ids: list[int] = []
            scores: list[float] = []
            for class_id in item.class_ids:
                found = sam.named(embedding, texts[class_id - 1], size, config.min_confidence)
                masks += list(found.masks)
                scores += found.scores.tolist()
                class_ids += [class_id] * len(found.masks)
            results.append(layered(masks, class_ids, scores, item.size))
        return results

    return divide


def points_of(seed: Seed) -> tuple[NDArray[np.float32], list[int]]:
    """Return the maxima of a seed's maps (P, 2), as fractions of the image and x first, and the class id of each."""
    points, class_ids = [np.zeros((0, 2), np.float32)], []
    for class_id, class_map in zip(seed.class_ids, seed.maps, strict=True):
        distance = max(1, max(class_map.shape) // _DISTANCE)
        maxima = peak_local_max(  # type: ignore[no-untyped-call]
            class_map, min_distance=distance, threshold_abs=_LEVEL, exclude_border=False, num_peaks=_POINTS
        )
        fractions = (maxima[:, ::-1] + 0.5) / (class_map.shape[1], class_map.shape[0])
        points.append(fractions.astype(np.float32))
        class_ids += [class_id] * len(maxima)
    return np.concatenate(points), class_ids


def _resized(class_map: NDArray[np.float32], size: tuple[int, int]) -> Any:
    return cv2.resize(class_map, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
