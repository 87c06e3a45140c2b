"""The weak-to-full ratio: a recipe from image-level labels, and full supervision, over several seeds of randomness.

python scripts/weak_to_full.py best voc_vehicles --rng-seeds 0,1,2 -o docs/results.json
python scripts/weak_to_full.py best neu_seg --rng-seeds 0,1,2 --bound segmenter.epochs=20 -o docs/results.json

The bound must be as good as it gets: where full supervision profits from other values (a longer schedule, from which a
network that learns from noisy masks only learns the noise), it has them, and the ratio is over that. Writes the file after every run; sets and seeds that it already holds and that are not asked for stay in it. An interrupted
measurement goes on where it stopped: the store keeps what is done.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import click
from ablate import markdown, spread

from wsseg.cli.options import Command, overwrite_option, store_option
from wsseg.errors import ConfigError
from wsseg.outputs import Outputs
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


def measured(
    recipe: str, config: str, rng_seed: int, store: ArtifactStore, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run a recipe; return mIoU by judged step, IoU of each class at the last one, and minutes by step."""
    plan = make_plan(recipe, config, store, (f"rng_seed={rng_seed}", *overrides))
    run_plan(plan)
    plan.raise_failures()
    manifests: list[tuple[Any, Any]] = [(p.step, p.artifact.manifest) for p in plan.active if p.artifact is not None]
    judged = {step.name: (step, m["metrics"]) for step, m in manifests if "iou" in m["metrics"]}
    held_out = [m for step, m in judged.values() if step.inputs["truth"] == "truth.val"]
    if not held_out:
        raise ConfigError(f"{config}: it names no masks of val, so there is no result to measure")
    return {
        "miou": {name: round(metrics["miou"], 5) for name, (_, metrics) in judged.items()},
        "result": round(held_out[-1]["miou"], 5),
        "iou": held_out[-1]["iou"],
        "minutes": {step.name: round(m["made_with"]["seconds"] / 60, 3) for step, m in manifests},
    }


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the headline figures of one data set from its runs, by ``weak`` and ``full`` and then by seed."""
    weak, full = (runs.get(kind, {}) for kind in ("weak", "full"))
    both = sorted(set(weak) & set(full), key=int)

    def last(run: dict[str, Any], kind: str) -> float | None:
        return next((v for name, v in reversed(run["miou"].items()) if kind in name), None)

    found: dict[str, Any] = {
        "rng_seeds": [int(s) for s in both],
        "weak_miou": [weak[s]["result"] for s in both],
        "full_miou": [full[s]["result"] for s in both],
        "seed_miou": [last(weak[s], "seed_quality") for s in both],
        "pseudo_miou": [last(weak[s], "pseudo_mask_quality") for s in both],
        "minutes": [round(sum(weak[s]["minutes"].values()), 2) for s in both],
    }
    if both:
        found["ratio"] = round(statistics.mean(found["weak_miou"]) / statistics.mean(found["full_miou"]), 4)
    return {**found, "runs": runs}


def earlier_results(path: Path) -> dict[str, Any]:
    """Return the results of other data sets and seeds that a file holds; nothing if it is no file of this script."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
    is_own = isinstance(found, dict) and all(isinstance(v, dict) and {"runs", "ratio"} & set(v) for v in found.values())
    return found if is_own else {}


@click.command(cls=Command)
@click.argument("recipe")
@click.argument("configs", nargs=-1, required=True)
@click.option("--rng-seeds", default="0,1,2", show_default=True, help="Separated by commas.")
@click.option("--bound", multiple=True, metavar="TABLE.KEY=VALUE", help="A value of full supervision alone.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@overwrite_option
@store_option
def main(
    recipe: str,
    configs: tuple[str, ...],
    rng_seeds: str,
    bound: tuple[str, ...],
    output: Path,
    overwrite: bool,
    store: Path,
) -> None:
    """Run RECIPE and full_supervision on each of CONFIGS, and write the ratio of their mIoU on held-out masks."""
    try:
        seeds = [int(seed) for seed in rng_seeds.split(",")]
    except ValueError as error:
        raise ConfigError(f"--rng-seeds: found {rng_seeds!r}; expected: whole numbers, such as 0,1,2") from error
    opened = ArtifactStore(store)
    results = earlier_results(output)
    outputs = Outputs(opened, overwrite=overwrite or bool(results))  # results are added to those in the file
    outputs.check([output])
    for rng_seed in seeds:
        for config in configs:
            runs = results.get(config, {}).get("runs", {})
            for kind, name, values in (("weak", recipe, ()), ("full", "full_supervision", bound)):
                runs.setdefault(kind, {})[str(rng_seed)] = measured(name, config, rng_seed, opened, values)
                results[config] = {"bound": list(bound), **summary(runs)}
                outputs.write(output, (json.dumps(results, indent=1) + "\n").encode())
    rows = []
    for config in configs:
        found = results[config]
        values = (found[key] for key in ("weak_miou", "full_miou", "seed_miou", "pseudo_miou"))
        rows.append(
            [config, *(spread([v for v in own if v is not None]) for own in values), f"{100 * found['ratio']:.1f}"]
        )
    click.echo(markdown(["mIoU in percent", "weak", "full", "seeds", "pseudo-masks", "ratio"], rows))


if __name__ == "__main__":
    main()
