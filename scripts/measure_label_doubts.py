"""Measure how many wrong labels `wsseg data doubt` finds: plant errors in 5 % of the images and count those in the first tenth.

python scripts/measure_label_doubts.py demo demo_defects neu_seg voc_vehicles --json doubts.json

Three kinds of errors: one class is replaced by another (flipped), one class is removed (removed), or a class is added that
the image does not show (added). Errors that the data set has already count as false alarms. Images are described once per
config; the heads are trained for each kind and seed.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from wsseg.cli.options import overwrite_option
from wsseg.data.images import LabeledImages
from wsseg.errors import WssegError
from wsseg.outputs import Outputs
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.stages.doubt_labels.describing import descriptors
from wsseg.stages.doubt_labels.listing import tenth
from wsseg.stages.doubt_labels.stage import judged
from wsseg.store.objects import ArtifactStore

KINDS = ("flipped", "removed", "added")
SHARE = 0.05  # of the images


def with_errors(images: LabeledImages, kind: str, seed: int) -> tuple[LabeledImages, set[str]]:
    """Return the images with errors in 5 % of them, and the ids of those."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    everything = range(1, len(images.classes) + 1)

    def is_suitable(present: tuple[int, ...]) -> bool:
        return (kind == "added" or bool(present)) and (kind == "removed" or len(present) < len(everything))

    suitable = [item.id for item in images.items if is_suitable(item.class_ids)]
    chosen = {str(i) for i in rng.choice(suitable, min(len(suitable), round(SHARE * len(images))), replace=False)}
    items = []
    for item in images.items:
        present = set(item.class_ids)
        if item.id in chosen:
            absent = [k for k in everything if k not in present]
            if kind != "added":
                present.remove(int(rng.choice(sorted(present))))
            if kind != "removed":
                present.add(int(rng.choice(absent)))
        items.append(replace(item, class_ids=tuple(sorted(present))))
    return replace(images, items=tuple(items)), chosen


@click.command(help=__doc__)
@click.argument("configs", nargs=-1, required=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds of errors and heads.")
@click.option("--store", type=click.Path(path_type=Path), default=Path("wsseg-store"), show_default=True)
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="File for the metrics.")
@overwrite_option
def main(configs: tuple[str, ...], seeds: int, store: Path, target: Path | None, overwrite: bool) -> None:
    """Measure, print and write the metrics."""
    opened = ArtifactStore(store)
    outputs = Outputs(overwrite=overwrite)
    outputs.check([target] if target else [])
    result: dict[str, dict[str, list[float]]] = {}
    for name in configs:
        config = open_config(name)
        images = Sources(config.data, opened).get("data.train")
        values = config.tables["label_doubts"]
        start = time.process_time()
        described = descriptors(values, images)
        click.echo(f"{name}: {len(images)} images described in {time.process_time() - start:.0f} s of CPU time")
        for kind in KINDS:
            found, quality = [], []
            start = time.process_time()
            for seed in range(seeds):
                spoiled, wrong = with_errors(images, kind, seed)
                listed, _, average_precision = judged(spoiled, described, replace(values, rng_seed=seed))
                first = {image.id for image in listed[: tenth(len(images))]}
                found.append(len(wrong & first) / len(wrong))
                quality.append(average_precision or 0.0)
            seconds = (time.process_time() - start) / seeds
            result.setdefault(name, {})[kind] = found
            click.echo(
                f"  {kind}: {100 * np.mean(found):.0f} % ({', '.join(f'{100 * f:.0f}' for f in found)}) in the first tenth; "
                f"mAP of the heads {100 * np.mean(quality):.1f} %, {seconds:.0f} s of CPU time"
            )
            if target is not None:
                outputs.write(target, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WssegError as error:
        sys.exit(f"error: {error}")
