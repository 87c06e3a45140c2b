"""I/O of `walk_seeds`: seeds in, seeds out; the network in this process, the walks in several."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg.data.images import LabeledImages
from wsseg.progress import track
from wsseg.saliency.seeds import decode_seed, encode_seed
from wsseg.stages.base import SEED_FOLDER, Role, map_processes, seed_path, worker_count
from wsseg.stages.walk_seeds import config as values
from wsseg.store import Artifact, atomic_write
from wsseg.types import Seed


@dataclass(frozen=True)
class _Job:
    seed: bytes
    boundary: NDArray[np.float32]
    config: values.Config
    target: Path


class WalkSeeds:
    name = "walk_seeds"
    table = "walk"
    version = 2
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "seeds": Role(("seeds",)),
        "affinity": Role(("affinity",)),
    }
    output = "seeds"
    distributed = False

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write seeds/<id>.png for every image; metrics: images, mean bytes an image."""
        images: LabeledImages = inputs["images"]
        missing = {item.id for item in images.items if not seed_path(out, item.id).is_file()}
        jobs = _jobs(config, images, missing, inputs["seeds"], inputs["affinity"], out)
        results = map_processes(_walk_one, jobs, worker_count(config.workers))
        for _ in track(results, len(images), "walk", done=len(images) - len(missing)):
            pass
        total = sum(path.stat().st_size for path in (out / SEED_FOLDER).rglob("*.png"))
        return {"images": len(images), "bytes_per_image": total / len(images)}


def _jobs(
    config: values.Config, images: LabeledImages, missing: set[str], seeds: Artifact, affinity: Artifact, out: Path
) -> Iterator[_Job]:
    """Yield what is left to do, with each image's boundaries."""
    import torch

    from wsseg.data.batches import batches_by_size, network_size, read_batch
    from wsseg.models.boundary import boundaries, load_boundary_network
    from wsseg.models.folding import folded
    from wsseg.models.training import autocast, resolve_device

    model, spec = load_boundary_network(affinity.read_bytes, str(affinity.folder))
    device = resolve_device(config.device)
    model = folded(model, torch.zeros(1, 3, 64, 64)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for batch in batches_by_size(images.items, config.batch_size):
        if not any(item.id in missing for item in batch):
            continue
        _, tensor = read_batch(batch, spec.mean, spec.std)
        with autocast(config.precision, device):
            found = boundaries(model, tensor.to(device), network_size(batch[0].size, config.size, 1.0)).cpu().numpy()
        for item, own in zip(batch, found, strict=True):
            if item.id in missing:
                seed = seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png")
                yield _Job(seed, own, config, seed_path(out, item.id))


def _walk_one(job: _Job) -> None:
    """Make one seed; runs in a worker process."""
    from wsseg.saliency.walk import walked

    seed, config = decode_seed(job.seed), job.config
    height, width = job.boundary.shape
    maps = np.zeros((0, height, width), np.float32)
    if seed.class_ids:
        # area averaging, where the walk's grid is coarser than the seed's
        maps = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_AREA) for m in seed.maps])
        maps = walked(maps, job.boundary, config.radius, config.beta, config.steps)
    atomic_write(job.target, encode_seed(Seed(seed.class_ids, maps, seed.size)))
