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
from wsseg.errors import StageError
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.saliency.seeds import decode_seed, encode_seed, enlarged, with_mark
from wsseg.stages.layout import SEED_FOLDER, ArtifactMasks, read_vectors, seed_path
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
    vectors: NDArray[np.float32] | None
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
        "affinity": Role(("affinity",), optional=True),
        "embeddings": Role(("embeddings",), optional=True),  # affinities beside, or instead of, those of boundaries
        "sure": Role(("pseudo_masks",), optional=True),  # the masks that the affinities were learned from
        "marks": Role(("marks",), optional=True),
    }
    output = "seeds"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check the images, and that the recipe gives this step a source of affinities."""
        check_photographs(self.name, inputs["images"])
        if "affinity" not in inputs and "embeddings" not in inputs:
            raise StageError("walk_seeds requires affinities, but the recipe gives it neither affinity nor embeddings")

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write seeds/<id>.png for each image; places of which a mark says something have the values 0 and 1. Metrics: `images`, `bytes_per_image` (mean) and `chosen`."""
        from wsseg.data.batches import batches_by_size

        images: LabeledImages = inputs["images"]
        network = _Affinities(config, inputs.get("affinity"), inputs.get("embeddings"), inputs.get("marks"))
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


class _Affinities:
    """Predicts the boundaries of images, reads their embeddings, and yields the jobs of the walk."""

    def __init__(
        self,
        config: values.Config,
        affinity: Artifact | None,
        embeddings: Artifact | None,
        marks: MarkSource | None,
    ) -> None:
        self.config, self.embeddings = config, embeddings
        self.marks, self.marked = marks, set(marks.ids) if marks else set()
        self.model: Any = None
        if affinity is None:
            return
        import torch

        from wsseg.models.boundary import load_boundary_network
        from wsseg.models.cpu.folding import folded
        from wsseg.models.device import resolve_device

        self.device = resolve_device(config.device)
        model, self.spec = load_boundary_network(affinity.read_bytes, str(affinity.folder))
        model = folded(model, torch.zeros(1, 3, 64, 64))
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def jobs(self, items: Sequence[LabeledImage], missing: Set[str], seeds: Artifact) -> Iterator[_Job]:
        """Yield the jobs of the missing images, with their boundaries and embeddings."""
        for item, boundary in self._boundaries(items, missing):
            vectors = None if self.embeddings is None else read_vectors(self.embeddings, item.id)
            if boundary is None and vectors is not None:  # the walk takes place on the grid of the patches
                boundary = np.zeros(vectors.shape[:2], np.float32)
            seed = decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png"))
            if boundary is not None:
                mark = self.marks.mask(item.id) if self.marks and item.id in self.marked else None
                yield _Job(item, seed, boundary, vectors, self.config, mark)

    def _boundaries(
        self, items: Sequence[LabeledImage], missing: Set[str]
    ) -> Iterator[tuple[LabeledImage, NDArray[np.float32] | None]]:
        """Yield the missing images with their boundaries, or None without a boundary network."""
        if self.model is None:
            yield from ((item, None) for item in items if item.id in missing)
            return
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
                    yield item, boundary


def _walk_one(job: _Job) -> tuple[LabeledImage, Seed]:
    """Return one walked seed; runs in a worker process."""
    from wsseg.saliency.walk import walked

    seed, config, mark = job.seed, job.config, job.mark
    height, width = job.boundary.shape
    maps = np.zeros((0, height, width), np.float32)
    if seed.class_ids:
        # area averaging, in case the grid of the walk is coarser than that of the seed
        maps = np.stack([cv2.resize(m, (width, height), interpolation=cv2.INTER_AREA) for m in seed.maps])
        vectors = None if job.vectors is None else _at(job.vectors, (height, width))
        if mark is not None:  # evidence starts where it was said, and not where it was denied
            maps = with_mark(maps, seed.class_ids, mark)
        maps = walked(maps, job.boundary, config.radius, config.beta, config.steps, config.boundary_prior, vectors)
        if mark is not None:
            maps = with_mark(maps, seed.class_ids, mark)
    return job.item, Seed(seed.class_ids, maps, seed.size)


def _at(vectors: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return vectors (h, w, R) at another grid: each position gets those of the patch that contains it."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, vectors.shape[:2], strict=True))
    result: NDArray[np.float32] = vectors[rows[:, None], columns]
    return result


def _choice(
    config: values.Config,
    images: LabeledImages,
    seeds: Artifact,
    network: _Affinities,
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
