"""Compare CRF presets on the seeds of a finished run with the true masks, and with the choice of ``auto``.

python scripts/compare_crf_presets.py voc_vehicles --levels 8.0 --background power
python scripts/compare_crf_presets.py neu_seg --levels 0.2,0.3,0.4 --json neu.json
python scripts/compare_crf_presets.py voc_vehicles --levels 0.3,0.4 --recipe best --step walked_seeds --images 100

The store must contain a run of the recipe with that config (its seeds and classifier). Prints the mIoU on train (a
diagnostic), or on `--images` evenly spaced images, on which levels and presets of a config may be chosen. `pamr` is ten
iterations of pixel-adaptive refinement without a CRF.
"""

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from wsseg.cli.options import overwrite_option
from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.settings import PRESETS
from wsseg.data.config import input_paths
from wsseg.data.reading import read_photograph
from wsseg.errors import StageError, WssegError
from wsseg.metrics.confusion import confusion, iou_per_class, mean_iou
from wsseg.outputs import Outputs
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.running.plan import make_plan
from wsseg.saliency.pixel_adaptive import adapted
from wsseg.saliency.seeds import decode_seed, enlarged
from wsseg.stages.layout import SEED_FOLDER
from wsseg.stages.refine_masks.choice import CANDIDATES, Candidate, evidence_of, sample_of, tightest
from wsseg.stages.refine_masks.policy import Refinement, labels_at
from wsseg.store.objects import ArtifactStore
from wsseg.types import LabeledImage, Mask

EXACT = "psa, exact"
PAMR = "pamr"


@dataclass(frozen=True)
class Job:
    """One image with its seed file and true mask, and the levels to compare."""

    image: LabeledImage
    seed: bytes
    truth: Mask
    background: str
    levels: tuple[float, ...]
    classes: int


def counted(job: Job) -> dict[tuple[float, str], NDArray[np.int64]]:
    """Return the confusion matrix of each level and preset on one image; runs in a worker process."""
    image, seed = read_photograph(job.image), enlarged(decode_seed(job.seed))
    counts = {}
    for name in (*CANDIDATES, EXACT, PAMR):
        refinements: list[Refinement] = []
        if name == PAMR:
            refinements.append(partial(adapted, image=image))
        elif name != "off" and seed.class_ids:
            preset = "psa" if name == EXACT else name
            refinements.append(DenseCrf(image, PRESETS[preset], exact=name == EXACT).refine)
        for level in job.levels:
            mask = labels_at(seed, job.background, level, refinements) if seed.class_ids else np.zeros_like(job.truth)
            counts[level, name] = confusion(job.truth, mask, job.classes + 1)
    return counts


@click.command(help=__doc__)
@click.argument("config")
@click.option("--background", type=click.Choice(["threshold", "power"]), default="threshold", show_default=True)
@click.option("--levels", required=True, help="Background levels, separated by commas.")
@click.option("--store", type=click.Path(path_type=Path), default=Path("wsseg-store"), show_default=True)
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="File for the metrics.")
@click.option("--recipe", default="cam_crf", show_default=True)
@click.option("--step", default="seeds", show_default=True, help="Step of the recipe whose seeds are refined.")
@click.option("--images", "count", type=click.IntRange(1), help="Number of images, evenly spaced; default: all.")
@overwrite_option
def main(
    config: str,
    background: str,
    levels: str,
    store: Path,
    target: Path | None,
    recipe: str,
    step: str,
    count: int | None,
    overwrite: bool,
) -> None:
    """Measure, print and write the metrics."""
    plan = make_plan(recipe, config, ArtifactStore(store))
    outputs = Outputs([plan.config.path, *input_paths(plan.sources.data)], overwrite)
    outputs.check([target] if target else [])
    artifacts = {planned.step.name: planned.artifact for planned in plan.steps}
    seeds, classifier = artifacts.get(step), artifacts["classifier"]
    if seeds is None or classifier is None:
        raise StageError(f"{store} has no {step} of {config}; run: wsseg run {recipe} -c {config} --store {store}")
    images, truth = plan.sources.get("data.train"), plan.sources.get("truth.train")
    chosen_levels = tuple(float(level) for level in levels.split(","))

    with_truth = set(truth.ids)
    items = [item for item in images.items if item.id in with_truth]
    evaluated = items if count is None else items[:: max(1, len(items) // count)][:count]

    def seed_of(item_id: str) -> bytes:
        return seeds.read_bytes(f"{SEED_FOLDER}/{item_id}.png")

    jobs = (
        Job(item, seed_of(item.id), truth.mask(item.id), background, chosen_levels, len(images.classes))
        for item in evaluated
    )
    totals: dict[tuple[float, str], Any] = {}
    for counts in track(map_processes(counted, jobs, worker_count(0)), len(evaluated), "presets"):
        for key, value in counts.items():
            totals[key] = totals[key] + value if key in totals else value
    rows = {key: mean_iou(iou_per_class(value)) for key, value in totals.items()}

    from wsseg.models.classifier import load_classifier
    from wsseg.models.device import resolve_device

    device = resolve_device("auto")
    model, spec = load_classifier(classifier.read_bytes, str(classifier.folder))
    sample = sample_of(images.items)
    result = {}
    for level in chosen_levels:
        evidence = evidence_of(
            [read_photograph(item) for item in sample], [decode_seed(seed_of(item.id)) for item in sample],
            [Candidate(background, level, name) for name in CANDIDATES], model.to(device), spec, device,
        )  # fmt: skip
        chosen = tightest(evidence, among=Candidate(background, level, "off")).crf
        click.echo(f"{background} {level:g}: auto chooses {chosen}")
        for name in (*CANDIDATES, EXACT, PAMR):
            score = evidence.get(Candidate(background, level, name))
            beside = f"  score {score.score:.3f}  area {score.area:.3f}" if score else ""
            click.echo(f"    {name:12} {100 * rows[level, name]:6.2f} mIoU{beside}")
        result[str(level)] = {"auto": chosen, "miou": {name: rows[level, name] for name in (*CANDIDATES, EXACT, PAMR)}}
    if target is not None:
        outputs.write(target, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WssegError as error:
        sys.exit(f"error: {error}")
