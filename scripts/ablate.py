"""Run a table of variants with several random seeds; steps that variants share are computed once.

python scripts/ablate.py cam_crf voc_vehicles table.toml -o ablation

TABLE is a TOML file::

    rng_seeds = [0, 1, 2]

    [variants.baseline]

    [variants.walk]
    recipe = "irn"                          # replaces RECIPE

    [variants."no CRF"]
    set = ["pseudo_masks.crf=off"]          # as with wsseg run --set

Writes OUTPUT.csv (one row per variant, seed and evaluated step) after every run, and OUTPUT.png (mean and standard
deviation of the last evaluated step) at the end, if matplotlib is installed. Run the same command again to resume an
interrupted table; finished steps are in the store.
"""

import csv
import io
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from wsseg.cli.options import Command, overwrite_option, store_option
from wsseg.config import read_toml
from wsseg.errors import ConfigError
from wsseg.outputs import Outputs
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    name: str
    recipe: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """mIoU of one evaluated step of one run, and the seconds of all steps of the run."""

    variant: str
    rng_seed: int
    step: str
    miou: float
    seconds: float


def read_table(path: Path, recipe: str) -> tuple[list[int], list[Variant]]:
    """Return the seeds and variants of a table.

    Raises:
        ConfigError: the table has an unknown key, a value of the wrong type, or no variant.
    """
    raw = read_toml(path)
    for key in raw:
        if key not in ("rng_seeds", "variants"):
            raise ConfigError(f"{path}: unknown key {key!r}; expected: rng_seeds, variants")
    seeds, variants = raw.get("rng_seeds", [0]), raw.get("variants")
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
        raise ConfigError(f"{path}: rng_seeds: found {seeds!r}; expected: a list of whole numbers, such as [0, 1, 2]")
    if not isinstance(variants, dict) or not variants:
        raise ConfigError(f"{path}: it has no [variants.NAME] table; an ablation needs at least one")
    rows = []
    for name, variant in variants.items():
        if not isinstance(variant, dict) or not set(variant) <= {"recipe", "set"}:
            raise ConfigError(f"{path}: variants.{name}: found {variant!r}; expected keys: recipe, set")
        overrides = variant.get("set", [])
        if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
            raise ConfigError(
                f'{path}: variants.{name}.set: found {overrides!r}; expected: a list of "TABLE.KEY=VALUE"'
            )
        rows.append(Variant(name, str(variant.get("recipe", recipe)), tuple(overrides)))
    return seeds, rows


def scores_of(variant: Variant, config: str, rng_seed: int, store: ArtifactStore) -> list[Score]:
    """Run one variant with one seed; return the scores of all steps that evaluate masks, in order."""
    plan = make_plan(variant.recipe, config, store, (f"rng_seed={rng_seed}", *variant.overrides))
    run_plan(plan)
    plan.raise_failures()
    manifests: list[Any] = [(p.step.name, p.artifact.manifest) for p in plan.active if p.artifact is not None]
    seconds = sum(manifest["made_with"]["seconds"] for _, manifest in manifests)
    return [
        Score(variant.name, rng_seed, name, manifest["metrics"]["miou"], seconds)
        for name, manifest in manifests
        if "iou" in manifest["metrics"]
    ]


def as_csv(scores: list[Score]) -> bytes:
    """Return the scores as a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "rng_seed", "step", "miou", "seconds"])
    writer.writerows([f.variant, f.rng_seed, f.step, f"{f.miou:.5f}", f"{f.seconds:.1f}"] for f in scores)
    return text.getvalue().encode()


def spread(values: list[float]) -> str:
    """Return the mean and the standard deviation in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def drawn(scores: list[Score]) -> bytes | None:
    """Return a PNG with mean and values of each variant's last evaluated step; None if matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        click.echo("matplotlib is not installed: no plot", err=True)
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    last = {f.variant: f.step for f in scores}
    values = {v: [100 * f.miou for f in scores if f.variant == v and f.step == step] for v, step in last.items()}
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(values) + 1.2), layout="constrained")
    for row, (name, percentages) in enumerate(values.items()):
        axes.plot(percentages, [row] * len(percentages), "o", color="0.6", markersize=4)
        axes.plot(statistics.mean(percentages), row, "|", color="C0", markersize=18, markeredgewidth=3, label=name)
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel("mIoU in percent: each seed, and the mean")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()


@click.command(cls=Command)
@click.argument("recipe")
@click.argument("config")
@click.argument("table_file", metavar="TABLE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("ablation"), show_default=True)
@overwrite_option
@store_option
def main(recipe: str, config: str, table_file: Path, output: Path, overwrite: bool, store: Path) -> None:
    """Run a TABLE of variants of RECIPE on CONFIG; print mean and deviation of every evaluated step."""
    seeds, variants = read_table(table_file, recipe)
    opened = ArtifactStore(store)
    csv_file, plot = output.with_suffix(".csv"), output.with_suffix(".png")
    outputs = Outputs([table_file], overwrite)
    outputs.check([csv_file, plot])
    for variant in variants:  # reports an error in any row before the first run
        make_plan(variant.recipe, config, opened, (f"rng_seed={seeds[0]}", *variant.overrides))
    scores: list[Score] = []
    for variant in variants:
        for rng_seed in seeds:
            scores += scores_of(variant, config, rng_seed, opened)
            outputs.write(csv_file, as_csv(scores))
    if not scores:
        raise ConfigError(f"{config}: no step evaluates masks; expected: a config that names masks")
    steps = list(dict.fromkeys(f.step for f in scores))
    rows = []
    for variant in variants:
        by_step: dict[str, list[float]] = defaultdict(list)
        for f in scores:
            if f.variant == variant.name:
                by_step[f.step].append(f.miou)
        minutes = statistics.mean(f.seconds for f in scores if f.variant == variant.name) / 60
        rows.append([variant.name, *(spread(by_step[s]) if by_step[s] else "" for s in steps), f"{minutes:.1f}"])
    click.echo(markdown(["mIoU in percent", *steps, "minutes"], rows))
    if (picture := drawn(scores)) is not None:
        outputs.write(plot, picture)


if __name__ == "__main__":
    main()
