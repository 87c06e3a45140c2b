"""The stage `relabel_masks`: writes one indexed PNG per image.

The network runs in this process, the CRF in several worker processes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsseg import processes
from wsseg.data.images import LabeledImages
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.stages.layout import ArtifactMasks, mask_path, mask_shares, read_vectors
from wsseg.stages.protocol import MarkSource, MaskSource, Role, check_classes, check_photographs
from wsseg.stages.relabel_masks import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage, Mask, Scores


@dataclass(frozen=True)
class _Job:
    item: LabeledImage
    scores: Scores
    previous: Mask
    config: values.Config
    target: Path
    mark: Mask | None


class RelabelMasks:
    name = "relabel_masks"
    table = "relabeling"
    version = 5
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "segmenter": Role(("segmenter",)),
        "previous": Role(("pseudo_masks",)),
        "marks": Role(("marks",), optional=True),
        "embeddings": Role(("embeddings",), optional=True),  # the scores are propagated over their affinities
    }
    output = "pseudo_masks"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values are valid with photographs."""
        check_photographs(self.name, inputs["images"])

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<id>.png for each image; pixels of which a mark says something have its value.

        Metrics: `images`, the fractions `background` and `undecided` of all pixels, and the fraction `changed` since the
        `previous` masks of the pixels that are decided in both.
        """
        from wsseg.data.batches import batches_by_size
        from wsseg.data.masks import decode_mask
        from wsseg.models.segmenter import load_segmenter
        from wsseg.stages.relabel_masks.relabeling import changed

        images: LabeledImages = inputs["images"]
        segmenter: Artifact = inputs["segmenter"]
        model, spec = load_segmenter(segmenter.read_bytes, str(segmenter.folder))
        check_classes("segmenter", spec.classes, images)
        batches = processes.share(batches_by_size(images.items, config.batch_size))
        items = [item for batch in batches for item in batch]
        missing = [item for item in items if not mask_path(out, item.id).is_file()]
        previous = ArtifactMasks(inputs["previous"])
        embeddings: Artifact | None = inputs.get("embeddings")
        ids, marks = {item.id for item in missing}, inputs.get("marks")
        jobs = _jobs(config, images, ids, previous, marks, model, spec, out, embeddings)
        results = map_processes(_relabel_one, jobs, worker_count(config.workers, processes.local_count()))
        for _ in track(results, len(items), "pseudo-masks", done=len(items) - len(missing)):
            pass
        if not processes.all_done():
            return {}
        differ = decided = 0
        for item in images.items:
            counts = changed(previous.mask(item.id), decode_mask(mask_path(out, item.id).read_bytes()))
            differ, decided = differ + counts[0], decided + counts[1]
        return {"images": len(images), **mask_shares(images, out), "changed": differ / max(decided, 1)}


def _jobs(
    config: values.Config,
    images: LabeledImages,
    missing: set[str],
    previous: MaskSource,
    marks: MarkSource | None,
    model: Any,
    spec: Any,
    out: Path,
    embeddings: Artifact | None,
) -> Iterator[_Job]:
    """Yield the jobs of the missing images, with the network's scores."""
    import torch

    from wsseg.data.batches import batches_by_size, network_size, read_batch
    from wsseg.models.cpu.folding import folded
    from wsseg.models.device import autocast, resolve_device
    from wsseg.models.segmenter import segment
    from wsseg.stages.relabel_masks.relabeling import among_present, propagated

    marked = set(marks.ids) if marks else set()
    device = resolve_device(config.device)
    model = folded(model, torch.zeros(1, 3, 64, 64)).to(device, memory_format=torch.channels_last)
    for batch in batches_by_size(images.items, config.batch_size):
        if not any(item.id in missing for item in batch):
            continue
        size = batch[0].size
        sizes = [network_size(size, spec.size, scale) for scale in config.scales]
        tensors = read_batch(batch, spec.mean, spec.std, sizes, device)
        with autocast(config.precision, device):
            batch_scores = segment(model, tensors, sizes[0], config.flip).float().cpu().numpy()
        for item, scores in zip(batch, batch_scores, strict=True):
            if item.id in missing:
                scores = among_present(scores, item.class_ids)
                if embeddings is not None and item.class_ids:
                    scores = propagated(scores, read_vectors(embeddings, item.id))
                mark = marks.mask(item.id) if marks and item.id in marked else None
                yield _Job(item, scores, previous.mask(item.id), config, mask_path(out, item.id), mark)


def _relabel_one(job: _Job) -> None:
    """Write one pseudo-mask; runs in a worker process."""
    from wsseg.crf.dense_crf import DenseCrf
    from wsseg.crf.settings import PRESETS
    from wsseg.data.masks import encode_mask, with_lost_classes, with_mark
    from wsseg.data.reading import read_photograph
    from wsseg.stages.relabel_masks.relabeling import relabelled

    item, config = job.item, job.config
    crf = None
    if config.crf != "off" and item.class_ids:
        crf = DenseCrf(read_photograph(item), PRESETS[config.crf], long_side=config.crf_size)
    mask = relabelled(job.scores, item.class_ids, item.size, crf, config.min_confidence)
    mask = with_lost_classes(mask, job.previous, item.class_ids)
    atomic_write(job.target, encode_mask(mask if job.mark is None else with_mark(mask, job.mark)))
