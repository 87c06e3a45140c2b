"""Local prototypes (LPCAM), which `make_seeds` computes over all images before the first map."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from wsseg.data.batches import batches_by_size, network_size, read_batch
from wsseg.data.images import LabeledImages
from wsseg.data.sampling import evenly_spaced
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.models.device import autocast
from wsseg.progress import track
from wsseg.saliency.methods import Maps
from wsseg.saliency.passes import in_parts
from wsseg.saliency.prototypes import Prototypes, prototype_maps, prototypes_of
from wsseg.stages.make_seeds.config import Config
from wsseg.store.files import atomic_write

_IMAGES = 500  # images per class, evenly spaced
_PLACES = 15_000  # feature vectors per class, evenly spaced over its images


@torch.no_grad()
def prototypes_by_class(
    model: Classifier, spec: ClassifierSpec, images: LabeledImages, config: Config, device: torch.device
) -> dict[int, Prototypes]:
    """Return the prototypes by class id; one pass over at most 500 images per class, at the smallest scale."""
    of_class = {k: [item for item in images.items if k in item.class_ids] for k in range(1, len(images.classes) + 1)}
    samples = {k: evenly_spaced(items, _IMAGES) for k, items in of_class.items() if items}
    classes_by_id: dict[str, list[int]] = {}
    for class_id, items in samples.items():
        for item in items:
            classes_by_id.setdefault(item.id, []).append(class_id)
    features_by_class: dict[int, list[Tensor]] = {class_id: [] for class_id in samples}
    batches = batches_by_size([item for item in images.items if item.id in classes_by_id], config.batch_size)
    for batch in track(batches, len(batches), "prototypes", "batches"):
        size = network_size(batch[0].size, config.size or spec.size, min(config.scales))
        (tensor,) = read_batch(batch, spec.mean, spec.std, [size], device)
        with autocast(config.precision, device):
            features = in_parts(model.features, tensor.contiguous(memory_format=torch.channels_last))
        for item, vectors in zip(batch, features.float().cpu().flatten(2).transpose(1, 2), strict=True):  # (places, F)
            for class_id in classes_by_id[item.id]:
                count = -(-_PLACES // len(samples[class_id]))
                features_by_class[class_id].append(vectors[evenly_spaced(range(len(vectors)), count)].half())
    head = model.head.weight.detach().float().cpu().flatten(1)
    return {
        class_id: prototypes_of(torch.cat(vectors).float(), head, class_id - 1, config.rng_seed)
        for class_id, vectors in features_by_class.items()
    }


def encode_prototypes(prototypes: dict[int, Prototypes]) -> bytes:
    """Return safetensors bytes with two tensors per class, ``ID.own`` and ``ID.surroundings``."""
    tensors: dict[str, Tensor] = {}
    for class_id, pair in prototypes.items():
        tensors[f"{class_id}.own"] = pair.own.contiguous()
        tensors[f"{class_id}.surroundings"] = pair.surroundings.contiguous()
    return safetensors.torch.save(tensors)


def decode_prototypes(data: bytes) -> dict[int, Prototypes]:
    """Return the prototypes in bytes of `encode_prototypes`."""
    tensors = safetensors.torch.load(data)
    ids = sorted({int(name.partition(".")[0]) for name in tensors})
    return {i: Prototypes(tensors[f"{i}.own"], tensors[f"{i}.surroundings"]) for i in ids}


def maps_by_prototypes(model: Classifier, prototypes: list[Prototypes]) -> Maps:
    """Return a function that computes the maps of C classes: (N, 3, H, W) -> (N, C, h, w)."""

    @torch.no_grad()
    def maps(images: Tensor) -> Tensor:
        return prototype_maps(model.features(images), prototypes)

    return maps


def local_prototypes(
    model: Classifier, spec: ClassifierSpec, images: LabeledImages, config: Config, device: torch.device, out: Path
) -> Callable[[list[int]], Maps]:
    """Return a function that maps class ids to their `Maps`; prototypes are kept in `out`, so that a run can resume."""
    path = out / "prototypes.safetensors"
    if not path.is_file():
        atomic_write(path, encode_prototypes(prototypes_by_class(model, spec, images, config, device)))
    prototypes = decode_prototypes(path.read_bytes())
    return lambda class_ids: maps_by_prototypes(model, [prototypes[class_id] for class_id in class_ids])
