"""The stage `walk_seeds`: reads seeds and writes walked seeds.

The network runs in this process, the random walks in several worker processes.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsseg import processes
from wsseg.data.images import LabeledImages
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.saliency.seeds import decode_seed, encode_seed, enlarged, with_mark
from wsseg.stages.layout import SEED_FOLDER, ArtifactMasks, seed_path
from wsseg.stages.protocol import MarkSource, MaskSource, Role, check_photographs
from wsseg.stages.walk_seeds import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage, Mask, Seed

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class _Job:
    item: LabeledImage
    seed: Seed
    boundary: NDArray[np.float32]
    config: values.Config
    mark: Mask | None


class WalkSeeds:
    name = "walk_seeds"
    table = "walk"
    version = 5
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "seeds": Role(("seeds",)),
        "affinity": Role(("affinity",)),
        "sure": Role(("pseudo_masks",), optional=True),  # the masks that the affinities were learned from
        "marks": Role(("marks",), optional=True),
    }
    output = "seeds"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values are valid with photographs."""
        check_photographs(self.name, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write seeds/<id>.png for each image; places of which a mark says something have the values 0 and 1. Metrics: `images`, `bytes_per_image` (mean) and `chosen`."""
        from wsseg.data.batches import batches_by_size

        images: LabeledImages = inputs["images"]
        network = _Boundaries(config, inputs["affinity"], inputs.get("marks"))
        seeds: Artifact = inputs["seeds"]
        chosen: dict[str, Any] = {"when": "always"}
        if config.when == "auto" and "sure" in inputs:
            with processes.main_goes_first():  # the others read its choice.json
                chosen = _choice(config, images, seeds, network, ArtifactMasks(inputs["sure"]), out)
        batches = processes.share(batches_by_size(images.items, config.batch_size))
        ids = [item.id for batch in batches for item in batch]
        missing = {item_id for item_id in ids if not seed_path(out, item_id).is_file()}
        if chosen["when"] == "never":
            for item_id in missing:
                atomic_write(seed_path(out, item_id), seeds.read_bytes(f"{SEED_FOLDER}/{item_id}.png"))
        else:
            jobs = network.jobs(images.items, missing, seeds)
            results = map_processes(_walk_one, jobs, worker_count(config.workers, processes.local_count()))
            for item, seed in track(results, len(ids), "walk", done=len(ids) - len(missing)):
                atomic_write(seed_path(out, item.id), encode_seed(seed))
        if not processes.all_done():
            return {}
        total = sum(path.stat().st_size for path in (out / SEED_FOLDER).rglob("*.png"))
        return {"images": len(images), "bytes_per_image": total / len(images), "chosen": chosen}


class _Boundaries:
    """Predicts the boundaries of images and yields the jobs of the walk."""

    def __init__(self, config: values.Config, affinity: Artifact, marks: MarkSource | None) -> None:
        import torch

        from wsseg.models.boundary import load_boundary_network
        from wsseg.models.cpu.folding import folded
        from wsseg.models.device import resolve_device

        self.config, self.device = config, resolve_device(config.device)
        self.marks, self.marked = marks, set(marks.ids) if marks else set()
        model, self.spec = load_boundary_network(affinity.read_bytes, str(affinity.folder))
        model = folded(model, torch.zeros(1, 3, 64, 64))
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def jobs(self, items: Sequence[LabeledImage], missing: Set[str], seeds: Artifact) -> Iterator[_Job]:
        """Yield the jobs of the missing images, with their boundaries."""
        from wsseg.data.batches import batches_by_size, network_size, read_batch
        from wsseg.models.boundary import boundaries
        from wsseg.models.device import autocast

        for batch in batches_by_size(items, self.config.batch_size):
            if not any(item.id in missing for item in batch):
                continue
            size = network_size(batch[0].size, self.config.size, 1.0)
            (tensor,) = read_batch(batch, self.spec.mean, self.spec.std, [size], self.device)
            with autocast(self.config.precision, self.device):
                batch_boundaries = boundaries(self.model, tensor).cpu().numpy()
            for item, boundary in zip(batch, batch_boundaries, strict=True):
                if item.id in missing:
                    seed = decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png"))
                    mark = self.marks.mask(item.id) if self.marks and item.id in self.marked else None
                    yield _Job(item, seed, boundary, self.config, mark)


def _walk_one(job: _Job) -> tuple[LabeledImage, Seed]:
    """Return one walked seed; runs in a worker process."""
    from wsseg.saliency.walk import walked

    seed, config, mark = job.seed, job.config, job.mark
    height, width = job.boundary.shape
    maps = np.zeros((0, height, width), np.float32)
    if seed.class_ids:
        # area averaging, in case the grid of the walk is coarser than that of the seed
        maps = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_AREA) for m in seed.maps])
        if mark is not None:  # evidence starts where it was said, and not where it was denied
            maps = with_mark(maps, seed.class_ids, mark)
        maps = walked(maps, job.boundary, config.radius, config.beta, config.steps, config.boundary_prior)
        if mark is not None:
            maps = with_mark(maps, seed.class_ids, mark)
    return job.item, Seed(seed.class_ids, maps, seed.size)


def _choice(
    config: values.Config,
    images: LabeledImages,
    seeds: Artifact,
    network: _Boundaries,
    sure: MaskSource,
    out: Path,
) -> dict[str, Any]:
    """Return whether the seeds walk, and the fraction of pairs ranked correctly per class; kept in choice.json."""
    path = out / "choice.json"
    if path.is_file():
        return dict(json.loads(path.read_bytes()))
    from wsseg.stages.walk_seeds.choice import ranked_right, sample_of, walk_helps

    sample = sample_of(images.items)
    shares_by_class: dict[int, list[float]] = {class_id: [] for class_id in range(1, len(images.classes) + 1)}
    # without the boundary prior, which sets many pixels to 0: their ties would hide the effect of the walk itself
    plain = replace(config, boundary_prior=False)
    jobs = (replace(job, config=plain) for job in network.jobs(sample, {item.id for item in sample}, seeds))
    results = map_processes(_walk_one, jobs, worker_count(config.workers))
    for item, seed in track(results, len(sample), "choice of the walk"):
        mask = sure.mask(item.id)
        for class_id, class_map in zip(seed.class_ids, enlarged(seed).maps, strict=True):
            if (share := ranked_right(class_map, mask, class_id)) is not None:
                shares_by_class[class_id].append(share)
    names = images.classes.with_background
    mean_shares = {names[class_id]: float(np.mean(shares)) for class_id, shares in shares_by_class.items() if shares}
    chosen = {"when": "always" if walk_helps(shares_by_class) else "never", "ranked_right": mean_shares}
    for name, share in mean_shares.items():
        log.info("walk: %s: %.1f %% of the sure pixel pairs ranked correctly", name, 100 * share)
    log.info("walk: %s", "seeds walk" if chosen["when"] == "always" else "random walk skipped (maps would leak)")
    atomic_write(path, json.dumps(chosen, indent=1).encode())
    return chosen
