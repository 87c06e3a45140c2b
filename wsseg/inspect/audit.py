"""Faithfulness, stability and plausibility of a classifier's saliency maps, as ``wsseg audit`` measures them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from wsseg.data.batches import at_size, network_size, quarter
from wsseg.data.images import LabeledImages
from wsseg.data.reading import read_photograph
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import normalised
from wsseg.errors import StageError
from wsseg.inspect.faithfulness import Substrate, area_under, average_drop_and_increase, curve, road
from wsseg.inspect.plausibility import best_iou, energy_inside, histograms, pixel_average_precision, pointing_game
from wsseg.inspect.stability import cascading_randomisation, flip_agreement, max_sensitivity, shift_agreement
from wsseg.labels import IGNORE_INDEX
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.models.device import autocast, resolve_device
from wsseg.progress import track
from wsseg.saliency.cam import multiscale_maps, normalise
from wsseg.saliency.layers import feature_levels
from wsseg.saliency.methods import maps_of
from wsseg.stages.evaluate_masks.seeds import SeedJudge
from wsseg.stages.make_seeds.config import Config as SeedValues
from wsseg.stages.protocol import TruthSource, check_classes
from wsseg.types import LabeledImage, Seed

# metrics in the order of the table, and whether higher is better
FAITHFULNESS = {"deletion": False, "insertion": True, "drop": False, "increase": True, "road": True}
STABILITY = {"sensitivity": False, "flip": True, "shift": True, "randomised": False}
PLAUSIBILITY = {"pointing": True, "energy": True, "best_iou": True, "pxap": True, "seed_miou": True}
_SHIFT = 16  # px


@dataclass(frozen=True)
class Sample:
    """Size and options of an audit.

    Args:
        images: number of photographs with at least one class, evenly spaced over the split.
        steps: number of steps in the deletion and insertion curves.
        substrate: replacement of deleted pixels.
        road: whether ROAD is measured, which takes seconds per image.
        stability_images: number of images on which stability is measured, with a dozen maps per image.
    """

    images: int = 32
    steps: int = 20
    substrate: Substrate = "blur"
    road: bool = False
    stability_images: int = 4


def audit(
    model: Classifier, spec: ClassifierSpec, images: LabeledImages, truth: TruthSource | None,
    methods: Sequence[str], values: SeedValues, sample: Sample,
) -> Iterator[tuple[str, dict[str, Any]]]:  # fmt: skip
    """Yield each method with its metrics, averaged over the images of the sample and their classes.

    The maps are those of `make_seeds` with the same values. Faithfulness is measured with the probability of the class, on
    images at the network's size at scale 1. Stability is measured on some of the images, resized to a square.
    Plausibility is measured at the size of the masks.

    Args:
        model: the classifier.
        spec: its specification.
        images: images of one split.
        truth: their masks; plausibility is measured only on images with a mask.
        methods: names in `wsseg.saliency.methods.METHODS`.
        values: the config table ``[seeds]``, except its `method`.
        sample: size and options of the audit.

    Raises:
        StageError: the classifier and the images have different classes, or no image has a class.
    """
    check_classes("classifier", spec.classes, images)
    labeled = [item for item in images.items if item.class_ids]
    if not labeled:
        raise StageError(
            f"{images.split}: no image has a class, so that no map can be audited; expected: labelled images"
        )
    items = evenly_spaced(labeled, sample.images)
    device = resolve_device(values.device)
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    for method in methods:
        with autocast(values.precision, device):
            judge = _Judge(model, spec, images, truth, method, values, sample, device)
            for item in track(items, len(items), f"audit {method}", "images"):
                judge.add(item)
            row = {**judge.metrics(), **judge.stability(evenly_spaced(items, sample.stability_images))}
        yield method, row


class _Judge:
    """Accumulates the metrics of one method."""

    def __init__(
        self, model: Classifier, spec: ClassifierSpec, images: LabeledImages, truth: TruthSource | None, method: str,
        values: SeedValues, sample: Sample, device: torch.device,
    ) -> None:  # fmt: skip
        self.model, self.spec, self.truth, self.method = model, spec, truth, method
        self.values, self.sample, self.device = values, sample, device
        self.size = values.size or spec.size
        self.evaluated = frozenset(truth.ids if truth else ())
        self.values_by_metric: dict[str, list[Tensor]] = defaultdict(list)
        self.counts = torch.zeros(len(images.classes), 2, 256, dtype=torch.long)
        self.seeds = SeedJudge(images.classes)
        self.seconds: list[float] = []

    def _maps(self, model: nn.Module, channels: Sequence[int]) -> Callable[[Tensor], Tensor]:
        return maps_of(self.method, model, channels, self.values.layers, self.values.target)

    def add(self, item: LabeledImage) -> None:
        """Compute the maps of one photograph, and their metrics."""
        values = self.values
        channels = [class_id - 1 for class_id in item.class_ids]
        photograph = normalised(read_photograph(item), self.spec.mean, self.spec.std)[None].to(self.device)
        size = network_size(item.size, self.size, 1.0)
        start = time.perf_counter()
        maps_of_batch = self._maps(self.model, channels)
        inputs = [at_size(photograph, network_size(item.size, self.size, scale)) for scale in values.scales]
        cams = normalise(multiscale_maps(maps_of_batch, inputs, values.flip, quarter(item.size))[0])
        self.seconds.append(time.perf_counter() - start)
        image = at_size(photograph, size)
        maps = at_size(cams[None], size)[0]  # (C, h, w)
        for channel, class_map in zip(channels, maps, strict=True):
            self._faithfulness(image, class_map[None], channel)
        if self.truth is not None and item.id in self.evaluated:
            self._plausibility(item, cams.cpu(), self.truth)

    def _faithfulness(self, image: Tensor, class_map: Tensor, channel: int) -> None:
        def score(images: Tensor) -> Tensor:
            with torch.no_grad():
                logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
            return logits[:, channel].float().sigmoid()

        sample = self.sample
        for mode in ("deletion", "insertion"):
            self.values_by_metric[mode].append(
                area_under(curve(score, image, class_map, mode, sample.substrate, sample.steps))
            )
        drop, increase = average_drop_and_increase(score, image, class_map)
        self.values_by_metric["drop"].append(drop)
        self.values_by_metric["increase"].append(increase)
        if sample.road:
            self.values_by_metric["road"].append(road(score, image, class_map))

    def _plausibility(self, item: LabeledImage, cams: Tensor, truth: TruthSource) -> None:
        mask = truth.mask(item.id)
        self.seeds.add(self.seeds.count(item.id, mask, Seed(item.class_ids, cams.numpy(), item.size)))
        class_ids = torch.from_numpy(mask)
        inside = torch.stack([class_ids == class_id for class_id in item.class_ids])
        counted = (class_ids != IGNORE_INDEX).expand(inside.shape)
        maps = at_size(cams[None], item.size)[0]
        self.values_by_metric["pointing"].append(pointing_game(maps, inside, counted))
        self.values_by_metric["energy"].append(energy_inside(maps, inside, counted))
        counts = histograms(maps, inside, counted)
        self.values_by_metric["best_iou"].append(best_iou(counts)[0])
        for class_id, class_counts in zip(item.class_ids, counts, strict=True):
            self.counts[class_id - 1] += class_counts

    def metrics(self) -> dict[str, Any]:
        """Return the mean of each metric."""
        means: dict[str, Any] = {
            name: float(np.nanmean(torch.cat(values).cpu().double().numpy()))
            for name, values in self.values_by_metric.items()
        }
        if "pointing" in self.values_by_metric:
            means["pxap"] = float(np.nanmean(pixel_average_precision(self.counts).numpy()))
            means["seed_miou"] = self.seeds.metrics()["miou"]
        return {**means, "ms_per_image": 1000 * float(np.median(self.seconds))}

    def stability(self, items: Sequence[LabeledImage]) -> dict[str, Any]:
        """Return sensitivity, agreement under flips and shifts, and the correlation with maps of random weights."""
        square = network_size((1, 1), self.size, 1.0)
        images = torch.cat(
            [
                at_size(normalised(read_photograph(i), self.spec.mean, self.spec.std)[None], square).to(self.device)
                for i in items
            ]
        )
        first = [item.class_ids[0] - 1 for item in items]
        channels = sorted(set(first))
        place = torch.tensor([channels.index(c) for c in first], device=self.device)
        rows = torch.arange(len(items), device=self.device)

        def explain_with(model: nn.Module) -> Callable[[Tensor], Tensor]:
            maps_of_batch = self._maps(model, channels)
            return lambda batch: maps_of_batch(batch.contiguous(memory_format=torch.channels_last))[rows, place].float()

        explain = explain_with(self.model)
        levels = ["head", *reversed(feature_levels(self.model))]
        similarity = {
            name: float(correlations.mean())
            for name, correlations in cascading_randomisation(explain_with, self.model, images, levels)
        }
        return {
            "sensitivity": float(max_sensitivity(explain, images, samples=3).mean()),
            "flip": float(flip_agreement(explain, images).mean()),
            "shift": float(shift_agreement(explain, images, _SHIFT).mean()),
            "randomised": similarity[levels[-1]],
            "randomisation": similarity,
        }


def agreement(table: dict[str, dict[str, Any]]) -> list[str]:
    """Return sentences on whether the most faithful methods are also the most plausible ones.

    Faithfulness ranks methods by insertion minus deletion, plausibility by the best IoU with the masks.
    """
    with_masks = {m: row for m, row in table.items() if "best_iou" in row}
    if len(with_masks) < 3:
        return []
    faithful = {m: row["insertion"] - row["deletion"] for m, row in with_masks.items()}
    plausible = {m: row["best_iou"] for m, row in with_masks.items()}
    most_faithful, most_plausible = max(faithful, key=faithful.__getitem__), max(plausible, key=plausible.__getitem__)
    rank = float(spearmanr(list(faithful.values()), list(plausible.values())).statistic)
    leaders = (
        f"{most_faithful} is best in both"
        if most_faithful == most_plausible
        else f"{most_faithful} is the most faithful, {most_plausible} the most plausible"
    )
    order = "agree on the order of methods" if rank >= 0.5 else "disagree on the order of methods"
    lines = [
        f"Faithfulness and plausibility {order} (rank correlation over {len(with_masks)} methods {rank:.2f}); {leaders}."
    ]
    insensitive = [m for m, row in table.items() if row["randomised"] > 0.5]
    if insensitive:
        lines.append(
            f"Insensitive to random weights (correlation above 0.5), so no evidence of what the network learned: "
            f"{', '.join(insensitive)}."
        )
    return lines
