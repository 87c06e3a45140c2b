"""Commands that plan and run a recipe: ``run``, ``plan``, ``list``."""

import json
import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsseg import processes, progress
from wsseg.cli import completion
from wsseg.cli.options import (
    FOLDER,
    Command,
    config_option,
    json_option,
    open_store,
    set_option,
    store_option,
)
from wsseg.cli.tables import duration, mebibytes, print_table, wrapped
from wsseg.errors import explained, extra
from wsseg.metrics.wording import conditions_text, estimate_text, percent, result_text, weakest_class

if TYPE_CHECKING:
    from wsseg.running.plan import Plan
    from wsseg.store.artifact import Artifact
    from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")

recipe_argument = click.argument("recipe", shell_complete=completion.shipped("pipelines"))


@click.command(cls=Command)
@recipe_argument
@config_option
@set_option
@store_option
@click.option("--repair", is_flag=True, help="Rebuild damaged artifacts.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write an HTML page about the run.")
@click.option("--tensorboard", type=FOLDER, help="Folder for losses and metrics in the format of TensorBoard.")
@json_option
def run(
    recipe: str,
    config: str,
    overrides: tuple[str, ...],
    store: Path,
    repair: bool,
    report: bool,
    tensorboard: Path | None,
    as_json: bool,
) -> None:
    """Run a recipe with a config.

    RECIPE is the name of a shipped recipe, or a TOML file. Cached steps are not computed again.

    \b
    wsseg run cam_crf -c demo
    wsseg run cam_crf -c mine.toml --set segmenter.epochs=5
    accelerate launch -m wsseg run cam_crf -c mine.toml     several processes
    """
    from wsseg.running.execute import run_plan
    from wsseg.running.plan import make_plan, summary

    if not processes.is_main():
        log.setLevel(logging.WARNING)
    with processes.main_goes_first():
        plan = make_plan(recipe, config, open_store(store, make=True), overrides)
    listeners = [_tensorboard(tensorboard, plan.store)] if tensorboard and processes.is_main() else []
    with progress.listening(*listeners):
        run_id = run_plan(plan, repair)
    if not processes.is_main():
        return
    page = write_page(plan, run_id) if report else None
    if as_json:
        click.echo(json.dumps({"run": run_id, "report": str(page) if page else None, **summary(plan)}, indent=1))
    else:
        print_results(plan, run_id, page)
    plan.raise_failures()


def _tensorboard(folder: Path, store: "ArtifactStore") -> progress.TensorBoard:
    """Return a callback that writes TensorBoard's event files into a folder."""
    from wsseg.errors import ConfigError
    from wsseg.outputs import Outputs

    Outputs().check([folder / "events.out.tfevents"])
    try:
        return progress.TensorBoard(folder)
    except ImportError as error:
        raise ConfigError(f"--tensorboard: {error.name} is not installed; run: pip install tensorboard") from error


def write_page(plan: "Plan", run_id: str) -> Path | None:
    """Write the page of a run beside its record; a failure is logged and does not fail the run.

    An existing page is kept if every step was cached.
    """
    path = plan.store.root / "runs" / f"{run_id}.html"
    try:
        from wsseg.store.files import atomic_write

        with extra("report", "the page about the run"):
            from wsseg.report.page import render
            from wsseg.report.run_report import gather

        if path.is_file() and all(p.state == "cached" for p in plan.active):
            return path
        page = render(gather(plan.store, run_id, plan.store.runs()[run_id], sources=plan.sources))
        atomic_write(path, page.encode())
    except Exception as error:  # any error: the run has finished, and its results are valid
        reason = explained(error) or f"{type(error).__name__}: {error} (a bug in wsseg)"
        log.warning("no report: %s", " ".join(str(reason).split("\n")))
        return None
    return path


def print_results(plan: "Plan", run_id: str, page: Path | None) -> None:
    """Print the result, the IoU per class, where masks, networks and the report are, and the next command: 80 columns."""
    artifacts = [p.artifact for p in plan.active if p.artifact]
    evaluations = [a for a in artifacts if "iou" in a.manifest["metrics"]]
    judged = [a for a in evaluations if "best_threshold" not in a.manifest["metrics"]]  # masks; the others are seeds
    metrics = judged[-1].manifest["metrics"] if judged else None
    estimates = [a.manifest["metrics"] for a in artifacts if a.kind == "quality_estimate"]
    unmeasured = (
        f"mIoU {estimate_text(estimates[-1])}; no true masks" if estimates else "no true masks, quality not measured"
    )
    result = result_text(metrics) if metrics and metrics["miou"] is not None else unmeasured
    click.echo("\n".join(wrapped(f"{plan.recipe.name} on {plan.config.name}: {result}")))
    if metrics and (weakest := weakest_class(metrics)):
        click.echo("\n".join(wrapped(f"weakest class: {weakest[0]} (IoU {percent(weakest[1])} %)")))
    if evaluations:
        _print_iou([evaluations[0], *judged[-2:]] if judged else evaluations[:1])
    if all(p.state == "cached" for p in plan.active):
        click.echo("\nnothing to do: every step was cached")
    click.echo("")
    names = {"pseudo_masks": "pseudo-masks", "predictions": "predictions", "segmenter": "network"}
    for kind, name in names.items():
        if made := [a for a in artifacts if a.kind == kind]:
            click.echo(f"{name}: {_place(made[-1], plan.store, kind)}")
    click.echo(f"run: {run_id}")
    if page:
        click.echo(f"report: {_shortest(page)}")
    click.echo(f"next: {_next_command(artifacts, plan.store)}")


def _place(artifact: "Artifact", store: "ArtifactStore", kind: str) -> str:
    """Return the folder of an artifact; its key is abbreviated as a pattern that shells expand."""
    folder = _shortest(store.root / "objects")
    key = next(artifact.key[:n] for n in (8, 64) if len(list(artifact.folder.parent.glob(artifact.key[:n] + "*"))) == 1)
    end = "" if len(key) == 64 else "*"
    return f"{folder}{os.sep}{key}{end}" + ("" if kind == "segmenter" else f"{os.sep}masks")


def _shortest(path: Path) -> str:
    """Return a path relative to the working folder if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _next_command(artifacts: "list[Artifact]", store: "ArtifactStore") -> str:
    """Return what to do with the last network, or with the last masks of a recipe without one."""
    networks = [a for a in artifacts if a.kind == "segmenter"]
    masks = [a for a in artifacts if a.kind == "pseudo_masks"]
    words = ["wsseg", "view", "--open"]
    if networks:
        words = ["wsseg", "predict", networks[-1].manifest["step"], "photos", "-o", "masks"]
    elif masks:
        words = ["wsseg", "export", masks[-1].manifest["step"], "--format", "coco"]
    if store.root.name != "wsseg-store":
        words += ["--store", _shortest(store.root)]
    return shlex.join(words)


def _print_iou(evaluations: "list[Artifact]") -> None:
    """Print one row per class and one column per evaluation, and the conditions of each evaluation."""
    metrics = {a.manifest["step"]: a.manifest["metrics"] for a in evaluations}
    rows = [
        [name, *(percent(m["iou"].get(name)) for m in metrics.values())]
        for name in evaluations[-1].read_json("report.json")["labels"]
    ]
    rows.append(["mean", *(percent(m["miou"]) for m in metrics.values())])
    click.echo("")
    steps = [step.replace("_", " ") for step in metrics]
    print_table(["IoU in percent", *steps], rows, numbers=steps)
    for step, values in metrics.items():
        click.echo("\n".join(wrapped(f"{step}: {conditions_text(values)}", "  ")))


@click.command(cls=Command)
@recipe_argument
@config_option
@set_option
@store_option
@click.option("--time", "with_time", is_flag=True, help="Estimate time and size by running the recipe on a few images.")
def plan(recipe: str, config: str, overrides: tuple[str, ...], store: Path, with_time: bool) -> None:
    """Show what a run would compute, and why.

    Lists whether each step of RECIPE is cached, and what has changed if it is not (before -> now).

    \b
    wsseg plan best -c mine.toml
    wsseg plan best -c mine.toml --time     takes a minute or two
    """
    from wsseg.running.plan import make_plan

    plan = make_plan(recipe, config, open_store(store, make=True), overrides)
    if not with_time:
        rows = [[p.step.name, p.state, p.key[:12], p.why] for p in plan.steps]
        print_table(["step", "state", "key", "why"], rows)
        return
    from wsseg.running.estimate import estimate

    estimates = estimate(plan, recipe, config, overrides)
    rows = [[e.step, e.state, duration(e.seconds), mebibytes(e.size)] for e in estimates]
    total = [duration(sum(e.seconds for e in estimates)), mebibytes(sum(e.size for e in estimates))]
    print_table(["step", "state", "time", "size"], [*rows, ["all", "", *total]], numbers=["time", "size"])


@click.command(name="list", cls=Command)
def list_shipped() -> None:
    """List the shipped recipes and configs.

    \b
    wsseg list
    """
    from wsseg.config import read_toml, shipped_folder

    for folder in ("pipelines", "configs"):
        click.echo(f"{folder}:")
        for path in sorted(shipped_folder(folder).glob("*.toml")):
            description = read_toml(path).get("description", "")
            first = description or path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            click.echo(f"  {path.stem:18} {first}")
