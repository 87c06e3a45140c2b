"""Are a classifier's maps true, steady and plausible? What the command ``wsseg audit`` does: one row of figures a method."""

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

# figures in the table's order, and whether more is better
FAITHFULNESS = {"deletion": False, "insertion": True, "drop": False, "increase": True, "road": True}
STABILITY = {"sensitivity": False, "flip": True, "shift": True, "randomised": False}
PLAUSIBILITY = {"pointing": True, "energy": True, "best_iou": True, "pxap": True, "seed_miou": True}
_SHIFT = 16  # px


@dataclass(frozen=True)
class Sample:
    """On what, and how closely, maps are audited.

    Args:
        images: how many photographs with a class, evenly spaced over the split.
        steps: of the deletion and insertion curves.
        substrate: what stands where evidence was deleted.
        road: whether ROAD is measured too; it takes seconds an image.
        stability_images: on how many of the images stability is measured; it takes a dozen maps of each.
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
    """Yield each method with its figures, means over the sample's images and their classes.

    Maps are made as `make_seeds` makes them, with the same values. Faithfulness is measured on the class's probability, on
    images at the network's size at scale 1; stability on some of them, made square; plausibility at the masks'
    own size.

    Args:
        model: the classifier.
        spec: of it.
        images: of one split.
        truth: masks of theirs; images without one have no plausibility.
        methods: names of `wsseg.saliency.methods.METHODS`.
        values: the config table ``[seeds]``; its `method` is not looked at.
        sample: on what.

    Raises:
        StageError: the classifier knows other classes, or no image shows one.
    """
    check_classes("classifier", spec.classes, images)
    shown = [item for item in images.items if item.class_ids]
    if not shown:
        raise StageError(f"{images.split}: no image shows a class; nothing can be explained")
    items = evenly_spaced(shown, sample.images)
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
    """Gathers the figures of one method."""

    def __init__(
        self, model: Classifier, spec: ClassifierSpec, images: LabeledImages, truth: TruthSource | None, method: str,
        values: SeedValues, sample: Sample, device: torch.device,
    ) -> None:  # fmt: skip
        self.model, self.spec, self.truth, self.method = model, spec, truth, method
        self.values, self.sample, self.device = values, sample, device
        self.judged = frozenset(truth.ids if truth else ())
        self.found: dict[str, list[Tensor]] = defaultdict(list)
        self.counts = torch.zeros(len(images.classes), 2, 256, dtype=torch.long)
        self.seeds = SeedJudge(images.classes)
        self.seconds: list[float] = []

    def _maps(self, model: nn.Module, channels: Sequence[int]) -> Callable[[Tensor], Tensor]:
        return maps_of(self.method, model, channels, self.values.layers, self.values.target)

    def add(self, item: LabeledImage) -> None:
        """Explain one photograph, and measure."""
        values = self.values
        channels = [class_id - 1 for class_id in item.class_ids]
        photograph = normalised(read_photograph(item), self.spec.mean, self.spec.std)[None].to(self.device)
        size = network_size(item.size, values.size, 1.0)
        start = time.perf_counter()
        of = self._maps(self.model, channels)
        seen = [at_size(photograph, network_size(item.size, values.size, scale)) for scale in values.scales]
        cams = normalise(multiscale_maps(of, seen, values.flip, quarter(item.size))[0])
        self.seconds.append(time.perf_counter() - start)
        image = at_size(photograph, size)
        maps = at_size(cams[None], size)[0]  # (C, h, w)
        for channel, own in zip(channels, maps, strict=True):
            self._faithfulness(image, own[None], channel)
        if self.truth is not None and item.id in self.judged:
            self._plausibility(item, cams.cpu(), self.truth)

    def _faithfulness(self, image: Tensor, own: Tensor, channel: int) -> None:
        def score(images: Tensor) -> Tensor:
            with torch.no_grad():
                logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
            return logits[:, channel].float().sigmoid()

        sample = self.sample
        for mode in ("deletion", "insertion"):
            self.found[mode].append(area_under(curve(score, image, own, mode, sample.substrate, sample.steps)))
        drop, increase = average_drop_and_increase(score, image, own)
        self.found["drop"].append(drop)
        self.found["increase"].append(increase)
        if sample.road:
            self.found["road"].append(road(score, image, own))

    def _plausibility(self, item: LabeledImage, cams: Tensor, truth: TruthSource) -> None:
        mask = truth.mask(item.id)
        self.seeds.add(self.seeds.count(item.id, mask, Seed(item.class_ids, cams.numpy(), item.size)))
        wanted = torch.from_numpy(mask)
        inside = torch.stack([wanted == class_id for class_id in item.class_ids])
        counted = (wanted != IGNORE_INDEX).expand(inside.shape)
        maps = at_size(cams[None], item.size)[0]
        self.found["pointing"].append(pointing_game(maps, inside, counted))
        self.found["energy"].append(energy_inside(maps, inside, counted))
        counts = histograms(maps, inside, counted)
        self.found["best_iou"].append(best_iou(counts)[0])
        for class_id, own in zip(item.class_ids, counts, strict=True):
            self.counts[class_id - 1] += own

    def metrics(self) -> dict[str, Any]:
        """Return the means of what was measured."""
        means: dict[str, Any] = {
            name: float(np.nanmean(torch.cat(found).cpu().double().numpy())) for name, found in self.found.items()
        }
        if "pointing" in self.found:
            means["pxap"] = float(np.nanmean(pixel_average_precision(self.counts).numpy()))
            means["seed_miou"] = self.seeds.metrics()["miou"]
        return {**means, "ms_per_image": 1000 * float(np.median(self.seconds))}

    def stability(self, items: Sequence[LabeledImage]) -> dict[str, Any]:
        """Return sensitivity, agreement under flips and shifts, and the likeness to maps of random weights."""
        square = network_size((1, 1), self.values.size, 1.0)
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
            of = self._maps(model, channels)
            return lambda batch: of(batch.contiguous(memory_format=torch.channels_last))[rows, place].float()

        explain = explain_with(self.model)
        levels = ["head", *reversed(feature_levels(self.model))]
        similarity = {
            name: float(found.mean())
            for name, found in cascading_randomisation(explain_with, self.model, images, levels)
        }
        return {
            "sensitivity": float(max_sensitivity(explain, images, samples=3).mean()),
            "flip": float(flip_agreement(explain, images).mean()),
            "shift": float(shift_agreement(explain, images, _SHIFT).mean()),
            "randomised": similarity[levels[-1]],
            "randomisation": similarity,
        }


def agreement(table: dict[str, dict[str, Any]]) -> list[str]:
    """Return what is to be said about whether faithful and plausible maps are the same, in whole sentences.

    Methods are ranked by insertion less deletion, and by the best IoU with the masks.
    """
    judged = {m: row for m, row in table.items() if "best_iou" in row}
    if len(judged) < 3:
        return []
    faithful = {m: row["insertion"] - row["deletion"] for m, row in judged.items()}
    plausible = {m: row["best_iou"] for m, row in judged.items()}
    truest, likeliest = max(faithful, key=faithful.__getitem__), max(plausible, key=plausible.__getitem__)
    rank = float(spearmanr(list(faithful.values()), list(plausible.values())).statistic)
    leaders = (
        f"{truest} leads in both"
        if truest == likeliest
        else f"by deletion and insertion {truest} tells best what the network uses, by the masks {likeliest} looks best"
    )
    order = "agree on the order of methods" if rank >= 0.5 else "disagree on the order of methods"
    lines = [
        f"Faithfulness and plausibility {order} (rank correlation over {len(judged)} methods {rank:.2f}); {leaders}."
    ]
    blind = [m for m, row in table.items() if row["randomised"] > 0.5]
    if blind:
        lines.append(
            f"Hardly changed by random weights, so no evidence of what was learnt: {', '.join(blind)} "
            "(correlation above 0.5)."
        )
    return lines
