"""Commands that plan and run a recipe: ``run``, ``plan``, ``list``."""

import json
import logging
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
from wsseg.cli.tables import duration, mebibytes, print_table
from wsseg.errors import explained, extra
from wsseg.metrics.wording import conditions_text, headline, percent

if TYPE_CHECKING:
    from wsseg.running.plan import Plan, PlannedStep
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
        print_results(plan, run_id)
        if page:
            click.echo(f"report: {page}")
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


def print_results(plan: "Plan", run_id: str) -> None:
    """Print one row per step, the IoU per class, and the folders of masks and networks."""
    rows = []
    for planned in plan.steps:
        metrics = planned.artifact.manifest["metrics"] if planned.artifact else {}
        size = mebibytes(planned.artifact.size) if planned.artifact else ""
        time = f"{planned.seconds:.1f} s" if planned.state == "ran" else ""
        rows.append([planned.step.name, planned.state, time, size, headline(metrics) or planned.why])
    print_table(["step", "state", "time", "size", "result"], rows, numbers=["time", "size"])
    _print_iou([p for p in plan.active if p.artifact and "iou" in p.artifact.manifest["metrics"]])
    if all(p.state == "cached" for p in plan.active):
        click.echo("\nnothing to do: every step was cached")
    click.echo("")
    for planned in plan.active:
        if planned.artifact and planned.artifact.kind in ("predictions", "pseudo_masks"):
            click.echo(f"{planned.artifact.kind.replace('_', '-')}: {planned.artifact.folder / 'masks'}")
        elif planned.artifact and planned.artifact.kind in ("segmenter", "classifier"):
            click.echo(f"{planned.artifact.kind} network: {planned.artifact.folder}")
    click.echo(f"run: {run_id}")


def _print_iou(evaluations: "list[PlannedStep]") -> None:
    """Print one row per class and one column per evaluation, and the conditions of each evaluation."""
    reports = {p.step.name: p.artifact for p in evaluations if p.artifact}
    if not reports:
        return
    metrics = {step: report.manifest["metrics"] for step, report in reports.items()}
    *_, last = reports.values()
    rows = [
        [name, *(percent(m["iou"].get(name)) for m in metrics.values())]
        for name in last.read_json("report.json")["labels"]
    ]
    rows.append(["mean", *(percent(m["miou"]) for m in metrics.values())])
    click.echo("")
    steps = [step.replace("_", " ") for step in metrics]  # a narrow terminal wraps headers at spaces
    print_table(["IoU in percent", *steps], rows, numbers=steps)
    for step, values in metrics.items():
        click.echo(f"{step}: {conditions_text(values)}")


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
