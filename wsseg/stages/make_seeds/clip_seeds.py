"""Seeds from CLIP: `make_seeds` with ``method = "clip"``, which needs no classifier."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg import processes
from wsseg.data.batches import batches_by_size, quarter, read_batch
from wsseg.data.images import LabeledImages
from wsseg.models.device import autocast, resolve_device
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.clip import Clip
from wsseg.models.foundation.patches import patched_size
from wsseg.models.foundation.prompts import Prompts, phrases
from wsseg.progress import track
from wsseg.saliency.cam import normalise
from wsseg.saliency.seeds import encode_seed
from wsseg.stages.layout import SEED_FOLDER, seed_path
from wsseg.stages.make_seeds.config import Config
from wsseg.store.files import atomic_write
from wsseg.types import Seed

_SIZE = 512  # px, as in CLIP-ES


def write_clip_seeds(config: Config, checkpoint: Checkpoint, images: LabeledImages, out: Path) -> dict[str, Any]:
    """Write seeds/<id>.png for each image, and prompts.json and prompts.safetensors; returns the metrics of `make_seeds`."""
    device = resolve_device(config.device)
    clip = Clip(checkpoint, device)
    with processes.main_goes_first():
        texts = _texts(clip, config.prompts or Prompts(), images, out).to(device)
    batches = processes.share(batches_by_size(images.items, config.batch_size))
    missing = [b for b in batches if not all(seed_path(out, item.id).is_file() for item in b)]
    for batch in track(missing, len(batches), "seeds", "batches", len(batches) - len(missing)):
        size = batch[0].size
        class_ids = sorted({class_id for item in batch for class_id in item.class_ids})
        maps = torch.zeros(len(batch), 0, *quarter(size))
        if class_ids:
            present = torch.tensor([[i in item.class_ids for i in class_ids] for item in batch], device=device)
            rows = [i - 1 for i in class_ids] + list(range(len(images.classes), len(texts)))
            sizes = [patched_size(size, (config.size or _SIZE) * scale, clip.patch) for scale in config.scales]
            inputs = read_batch(batch, clip.mean, clip.std, sizes, device)
            maps = _averaged(clip, inputs, texts[rows], present, config, quarter(size)).cpu()
        for item, of_item in zip(batch, maps, strict=True):
            if not seed_path(out, item.id).is_file():
                own = of_item[[class_ids.index(i) for i in item.class_ids]]
                own = normalise(own) if len(own) else own
                atomic_write(seed_path(out, item.id), encode_seed(Seed(item.class_ids, own.numpy(), size)))
    if not processes.all_done():
        return {}
    total = sum(path.stat().st_size for path in (out / SEED_FOLDER).rglob("*.png"))
    return {"images": len(images), "bytes_per_image": total / len(images)}


def _texts(clip: Clip, prompts: Prompts, images: LabeledImages, out: Path) -> Tensor:
    """Return the embeddings (K + B, D) of the classes and of the background words; kept in `out`, so that a run can resume."""
    path = out / "prompts.safetensors"
    words = (*phrases(prompts, images.classes), *prompts.background)
    if not path.is_file():
        embeddings = clip.text_embeddings(words, prompts.templates).cpu()
        listing = json.dumps({"phrases": words, "templates": prompts.templates}, indent=1)
        atomic_write(out / "prompts.json", listing.encode())
        atomic_write(path, safetensors.torch.save({"embeddings": embeddings}))
    return safetensors.torch.load(path.read_bytes())["embeddings"]


def _averaged(
    clip: Clip, inputs: list[Tensor], texts: Tensor, present: Tensor, config: Config, output: tuple[int, int]
) -> Tensor:
    """Return the mean over scales and flips of the maps (N, C, *output), each divided by its maximum before."""
    total = inputs[0].new_zeros(())
    for tensor in inputs:
        for mirrored in (False, True) if config.flip else (False,):
            images = tensor.flip(3) if mirrored else tensor
            maps = clip.maps(images, texts, present, autocast(config.precision, tensor.device))
            maps = maps.flip(3) if mirrored else maps
            total = total + F.interpolate(maps, size=output, mode="bilinear", align_corners=False)
    return total
