"""The stage `make_seeds`: writes one small PNG per image. Torch is imported in `run`."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsseg import processes
from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.models.foundation.checkpoint import CLIP_KINDS, check_checkpoint
from wsseg.models.foundation.prompts import Prompts, phrases
from wsseg.progress import track
from wsseg.stages.layout import SEED_FOLDER, seed_path
from wsseg.stages.make_seeds import config as values
from wsseg.stages.protocol import Role, check_classes, check_photographs
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import Seed

if TYPE_CHECKING:
    from wsseg.stages.make_seeds.normal_images import NormalityMaps

log = logging.getLogger("wsseg")


class MakeSeeds:
    name = "make_seeds"
    table = "seeds"
    version = 5
    Config = values.Config
    inputs: Mapping[str, Role] = {"images": Role(("images",)), "classifier": Role(("classifier",), optional=True)}
    output = "seeds"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check the method, the layers and the output stride with an untrained classifier."""
        if config.method == "clip":
            check_photographs('seeds.method = "clip"', inputs["images"])
            check_checkpoint(config.clip, "seeds.clip", CLIP_KINDS, 'seeds.method = "clip"')
            phrases(config.prompts or Prompts(), inputs["images"].classes)
            return
        if "classifier" not in inputs:
            raise StageError(
                f'seeds.method = "{config.method}" requires a classifier, but the recipe gives this step none; '
                'expected with this recipe: "clip"'
            )
        from wsseg.stages.make_seeds.trial import check

        check(config, inputs["images"], inputs["classifier"].backbone)

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write seeds/<id>.png for each image; metrics: `images`, `bytes_per_image` (mean)."""
        import torch

        from wsseg.data.batches import batches_by_size, map_size, network_sizes, read_batch
        from wsseg.data.sequences import mirror_axes
        from wsseg.models.classifier import load_classifier
        from wsseg.models.cpu.folding import folded
        from wsseg.models.device import autocast, resolve_device
        from wsseg.saliency.cam import multiscale_maps, normalise
        from wsseg.saliency.methods import Maps, maps_of
        from wsseg.saliency.normality import weighted
        from wsseg.saliency.seeds import encode_seed

        images: LabeledImages = inputs["images"]
        if config.clip is not None and config.method == "clip":
            from wsseg.stages.make_seeds.clip_seeds import write_clip_seeds

            return write_clip_seeds(config, config.clip, images, out)
        classifier: Artifact = inputs["classifier"]
        model, spec = load_classifier(classifier.read_bytes, str(classifier.folder), config.output_stride)
        check_classes("classifier", spec.classes, images)
        device = resolve_device(config.device)
        with processes.main_goes_first():  # the others read what it keeps in `out`
            normality = _normality(config, model, spec, images, device, out)
        if not config.layers:  # folding changes the output of convolutions, which `layers` may name
            model = folded(model, torch.zeros(1, len(spec.mean), 1 if spec.channels else 64, 64))
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        def maps_by_method(class_ids: list[int]) -> Maps:
            return maps_of(config.method, model, [i - 1 for i in class_ids], config.layers, config.target)

        maps_for: Callable[[list[int]], Maps] = maps_by_method
        if config.method == "lpcam":
            from wsseg.stages.make_seeds.gathering import local_prototypes  # importing scikit-learn is slow

            with processes.main_goes_first():
                maps_for = local_prototypes(model, spec, images, config, device, out)

        batches = processes.share(batches_by_size(images.items, config.batch_size))
        missing = [b for b in batches if not all(seed_path(out, item.id).is_file() for item in b)]
        for batch in track(missing, len(batches), "seeds", "batches", len(batches) - len(missing)):
            size, output = batch[0].size, map_size(batch[0])
            present = sorted({class_id for item in batch for class_id in item.class_ids})
            cams = torch.zeros(len(batch), 0, *output)
            if present:
                sizes = network_sizes(batch[0], config.size or spec.size, config.scales)
                scales = len(sizes)
                if normality is not None:
                    sizes.append(normality.size(batch[0]))
                tensors = read_batch(batch, spec.mean, spec.std, sizes, device)
                scaled = tensors[:scales]
                with autocast(config.precision, device):
                    mirror = mirror_axes(spec.channels)
                    cams = multiscale_maps(maps_for(present), scaled, config.flip, output, mirror).cpu()
                if normality is not None:
                    shown = [i for i, item in enumerate(batch) if item.class_ids]
                    cams[shown] = weighted(cams[shown], normality.of(tensors[-1][shown]))
            for item, maps in zip(batch, cams, strict=True):
                if seed_path(out, item.id).is_file():
                    continue  # written before an interruption
                maps = maps[
                    [present.index(class_id) for class_id in item.class_ids]
                ]  # (C, h, w) of the image's classes
                seed = Seed(item.class_ids, normalise(maps).numpy() if len(maps) else maps.numpy(), size)
                atomic_write(seed_path(out, item.id), encode_seed(seed))
        if not processes.all_done():
            return {}
        total = sum(path.stat().st_size for path in (out / SEED_FOLDER).rglob("*.png"))
        chosen = {"chosen": {"normality": "off" if normality is None else "on"}} if config.normality == "auto" else {}
        return {"images": len(images), "bytes_per_image": total / len(images), **chosen}


def _normality(
    config: values.Config, model: Any, spec: Any, images: LabeledImages, device: Any, out: Path
) -> "NormalityMaps | None":
    """Return the maps of what is unusual; None if there are too few images without a class, or the backbone has no levels."""
    from wsseg.stages.make_seeds.normal_images import NormalityMaps, enough

    if config.normality == "off" or (config.normality == "auto" and not enough(images)):
        return None
    try:
        return NormalityMaps(model, spec, images, config, device, out)
    except StageError as error:
        if config.normality == "on":
            raise
        log.info("seeds: images without a class are not used: %s", error)
        return None
