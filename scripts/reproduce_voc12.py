"""Reproduce the results on PASCAL VOC 2012 or COCO 2014: prepare the data, run `best` and `clip_sam`, print a table.

    python scripts/reproduce_voc12.py data models --dry-run     # what is missing, time and disk; downloads and keeps nothing
    python scripts/reproduce_voc12.py data models               # needs a GPU
    python scripts/reproduce_voc12.py data models --data-set coco14

DATA is the folder of scripts/prepare_data.py, which downloads what is missing. MODELS holds the checkpoints that the config
`voc12_clip` (or `coco14_clip`) names, which you download yourself (docs/howto/foundation.md). Run the same command again to
resume.
"""

import os
import subprocess
import sys
from pathlib import Path

import click
from ablate import markdown
from weak_to_full import measured

from wsseg.cli.options import Command, store_option
from wsseg.errors import DatasetError
from wsseg.running.estimate import estimate
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore

RECIPES = {"best": "", "clip_sam": "_clip"}  # the suffix of the config
# mIoU on val in percent as the papers report it, each with its own network and training
PUBLISHED = {
    "voc12": {
        "IRNet (Ahn et al. 2019), ResNet-50": 63.5,
        "CLIP-ES (Lin et al. 2023), CLIP": 73.8,
        "WeCLIP (Zhang et al. 2024), CLIP": 76.4,
        "S2C (Kweon & Yoon 2024), SAM": 78.2,
    },
    "coco14": {
        "CLIP-ES (Lin et al. 2023), CLIP": 45.4,
        "WeCLIP (Zhang et al. 2024), CLIP": 47.1,
        "S2C (Kweon & Yoon 2024), SAM": 49.8,
    },
}
LISTS = {"voc12": "VOCdevkit/VOC2012/ImageSets/Segmentation/train_aug.txt", "coco14": "coco/val2014"}  # made last


@click.command(cls=Command, help=__doc__)
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
@click.argument("models", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data-set", type=click.Choice(sorted(PUBLISHED)), default="voc12", show_default=True)
@click.option("--dry-run", is_flag=True, help="Check data and checkpoints, and estimate time and disk on a few images.")
@click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Set a value of both recipes.")
@store_option
def main(data: Path, models: Path, data_set: str, dry_run: bool, overrides: tuple[str, ...], store: Path) -> None:
    """Show the docstring of the module as help."""
    os.environ |= {"WSSEG_DATA": str(data.resolve()), "WSSEG_MODELS": str(models.resolve())}
    if not (data / LISTS[data_set]).exists():
        if dry_run:
            raise DatasetError(
                f"{data}: no {LISTS[data_set]}; run first: python scripts/prepare_data.py {data_set} {data}"
            )
        prepare = Path(__file__).with_name("prepare_data.py")
        if subprocess.run([sys.executable, str(prepare), data_set, str(data)]).returncode:
            raise DatasetError(f"{data}: the data could not be prepared")
    # both plans are made first, so that a missing checkpoint is reported before anything is trained
    plans = {
        recipe: make_plan(recipe, data_set + end, ArtifactStore(store), overrides) for recipe, end in RECIPES.items()
    }
    if dry_run:
        rows = []
        for recipe, plan in plans.items():
            steps = estimate(plan, recipe, data_set + RECIPES[recipe], overrides)
            hours, size = sum(s.seconds for s in steps) / 3600, sum(s.size for s in steps) / 2**30
            rows.append([recipe, f"{hours:.1f} h", f"{size:.1f} GiB"])
        click.echo(markdown(["recipe", "time", "disk"], rows))
        return
    rows = []
    for recipe, end in RECIPES.items():
        run = measured(recipe, data_set + end, plans[recipe].config.rng_seed, ArtifactStore(store), overrides)
        rows.append([f"wsseg, {recipe}", f"{100 * run['result']:.1f}", f"{sum(run['minutes'].values()) / 60:.1f} h"])
    rows += [[name, f"{miou:.1f}", "(published)"] for name, miou in PUBLISHED[data_set].items()]
    click.echo(markdown(["method", "mIoU, val", "time"], rows))


if __name__ == "__main__":
    main()
