"""Measure the weak-to-full ratio: mIoU of a recipe divided by that of full supervision, over several random seeds.

python scripts/weak_to_full.py best voc_vehicles --rng-seeds 0,1,2 -o docs/results.json
python scripts/weak_to_full.py best neu_seg --rng-seeds 0,1,2 --bound segmenter.epochs=20 -o docs/results.json

Full supervision is the upper bound, so it gets the values that suit it best (`--bound`), such as a longer schedule, which
a network trained on noisy masks would use to fit the noise. The file is written after every run; results of other data
sets and seeds in it are kept. Run the same command again to resume an interrupted measurement; finished steps are in
the store.
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
    """Run a recipe; return mIoU by evaluated step, IoU per class of the last one, and minutes by step."""
    plan = make_plan(recipe, config, store, (f"rng_seed={rng_seed}", *overrides))
    run_plan(plan)
    plan.raise_failures()
    manifests: list[tuple[Any, Any]] = [(p.step, p.artifact.manifest) for p in plan.active if p.artifact is not None]
    evaluated = {step.name: (step, m["metrics"]) for step, m in manifests if "iou" in m["metrics"]}
    held_out = [m for step, m in evaluated.values() if step.inputs["truth"] == "truth.val"]
    if not held_out:
        raise ConfigError(
            f"{config}: no validation masks; expected: a config that names them, because the result is measured on them"
        )
    return {
        "miou": {name: round(metrics["miou"], 5) for name, (_, metrics) in evaluated.items()},
        "result": round(held_out[-1]["miou"], 5),
        "iou": held_out[-1]["iou"],
        "minutes": {step.name: round(m["made_with"]["seconds"] / 60, 3) for step, m in manifests},
    }


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the main metrics of one data set from its runs, by ``weak`` and ``full`` and then by seed."""
    weak, full = (runs.get(kind, {}) for kind in ("weak", "full"))
    both = sorted(set(weak) & set(full), key=int)

    def last(run: dict[str, Any], kind: str) -> float | None:
        return next((v for name, v in reversed(run["miou"].items()) if kind in name), None)

    metrics: dict[str, Any] = {
        "rng_seeds": [int(s) for s in both],
        "weak_miou": [weak[s]["result"] for s in both],
        "full_miou": [full[s]["result"] for s in both],
        "seed_miou": [last(weak[s], "seed_quality") for s in both],
        "pseudo_miou": [last(weak[s], "pseudo_mask_quality") for s in both],
        "minutes": [round(sum(weak[s]["minutes"].values()), 2) for s in both],
    }
    if both:
        metrics["ratio"] = round(statistics.mean(metrics["weak_miou"]) / statistics.mean(metrics["full_miou"]), 4)
    return {**metrics, "runs": runs}


def earlier_results(path: Path) -> dict[str, Any]:
    """Return the results in a file of this script; an empty dict if the file is missing or not one of them."""
    try:
        results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
    if not isinstance(results, dict):
        return {}
    return results if all(isinstance(v, dict) and {"runs", "ratio"} & set(v) for v in results.values()) else {}


@click.command(cls=Command)
@click.argument("recipe")
@click.argument("configs", nargs=-1, required=True)
@click.option("--rng-seeds", default="0,1,2", show_default=True, help="Random seeds, separated by commas.")
@click.option("--bound", multiple=True, metavar="TABLE.KEY=VALUE", help="Set a value of full supervision only.")
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
    """Run RECIPE and full_supervision on each of CONFIGS; write the ratio of their mIoU on validation masks."""
    try:
        seeds = [int(seed) for seed in rng_seeds.split(",")]
    except ValueError as error:
        raise ConfigError(f"--rng-seeds: found {rng_seeds!r}; expected: whole numbers, such as 0,1,2") from error
    opened = ArtifactStore(store)
    results = earlier_results(output)
    outputs = Outputs(overwrite=overwrite or bool(results))  # results are added to those in the file
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
        result = results[config]
        values = (result[key] for key in ("weak_miou", "full_miou", "seed_miou", "pseudo_miou"))
        rows.append(
            [config, *(spread([v for v in mious if v is not None]) for mious in values), f"{100 * result['ratio']:.1f}"]
        )
    click.echo(markdown(["mIoU in percent", "weak", "full", "seeds", "pseudo-masks", "ratio"], rows))


if __name__ == "__main__":
    main()
