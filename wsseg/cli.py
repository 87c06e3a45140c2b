"""The command line: parse, call, print. Everything slow is imported by the command that needs it."""

import json
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import wsseg
from wsseg import completion, processes, progress, streams
from wsseg.errors import OtherProcessError, explained

if TYPE_CHECKING:
    from wsseg.models.classifier import Classifier, ClassifierSpec
    from wsseg.running.plan import Plan
    from wsseg.store.objects import ArtifactStore

FOLDER = click.Path(file_okay=False, path_type=Path)
NETWORK_FORMS = ("onnx", "torchscript", "torch_export")
MASK_FORMS = ("coco", "label_studio", "cvat", "huggingface")
log = logging.getLogger("wsseg")


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Options that every command has."""

    @click.option("--quiet", is_flag=True, help="Print results and errors only.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    def wrapped(*args: Any, quiet: bool, debug: bool, **kwargs: Any) -> None:
        handler = progress.LogHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.handlers[:] = [handler]
        log.setLevel(logging.WARNING if quiet else logging.INFO)
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("\ninterrupted: all that is finished is kept; the same command goes on from there", err=True)
            sys.exit(130)
        except (BrokenPipeError, click.exceptions.ClickException, click.exceptions.Exit):  # click ends by itself
            raise
        except Exception as error:
            if debug:
                raise
            known = explained(error)
            if isinstance(known, OtherProcessError) and not processes.is_main():
                sys.exit(1)
            text = (str(error).strip().splitlines() or [""])[0]
            defect = (
                f"internal error: {type(error).__name__}: {text} (a defect of wsseg: please report it with --debug)"
            )
            fail(str(known or defect))

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = [*getattr(command, "__click_params__", []), *wrapped.__click_params__]  # type: ignore[attr-defined]
    return wrapped


def fail(message: str) -> None:
    """Print one line and exit with code 1."""
    click.echo("error: " + " ".join(message.split("\n")), err=True)
    sys.exit(1)


store_option = click.option(
    "--store", type=FOLDER, default=Path("wsseg-store"), envvar="WSSEG_STORE", show_default=True,
    help="Folder of artifacts (or the variable WSSEG_STORE).",
)  # fmt: skip
config_option = click.option(
    "-c", "--config", required=True, help="Config: a TOML file, or a shipped one's name.",
    shell_complete=completion.shipped("configs"),
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override one value.",
    shell_complete=completion.keys,
)  # fmt: skip
overwrite_option = click.option("--overwrite", is_flag=True, help="Also replace files that wsseg did not write.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def report_refused(refused: "list[tuple[Path, str]]", written: int) -> None:
    """Name the photographs that could not be read, and end with code 1 if there are any."""
    from wsseg.names import printable

    for path, reason in refused:
        click.echo(f"skipped {printable(str(path))}: {reason}", err=True)
    if refused:
        fail(f"{len(refused)} of {written + len(refused)} images could not be read")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(wsseg.__version__)
def cli() -> None:
    """Weakly supervised segmentation: image-level labels in, pixel masks and a segmentation network out.

    \b
    wsseg run cam_crf -c demo            the whole pipeline on a generated data set
    wsseg data check -c mine.toml        is my data set sound?
    wsseg plan cam_crf -c mine.toml      what would run, and why
    wsseg predict segmenter photos -o out
    """


def open_store(folder: Path, make: bool = False) -> "ArtifactStore":
    """Return the store; commands that only look at one make none. ``--store=~/folder`` comes here unexpanded."""
    from wsseg.config import expand_home
    from wsseg.store.objects import ArtifactStore

    return ArtifactStore(Path(expand_home(str(folder))), make)


def print_toml(values: dict[str, Any]) -> None:
    """Print a config in UTF-8, whatever the terminal's encoding is: TOML is UTF-8, and people write it into a file."""
    from wsseg.config import to_toml

    click.echo(to_toml(values).encode(), nl=False)


def open_classifier(store: "ArtifactStore", name: str) -> "tuple[Classifier, ClassifierSpec]":
    """Return a trained classifier of a store by its key, folder or step."""
    from wsseg.errors import ArtifactError
    from wsseg.models.classifier import load_classifier
    from wsseg.store.runs import find_artifact

    found = find_artifact(store, name)
    if found.kind != "classifier":
        raise ArtifactError(f"{name}: it is of kind {found.kind}; expected: classifier")
    return load_classifier(found.read_bytes, str(found.folder))


# --- runs --------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("recipe", shell_complete=completion.shipped("pipelines"))
@config_option
@set_option
@store_option
@click.option("--repair", is_flag=True, help="Rebuild damaged artifacts.")
@click.option("--report/--no-report", default=True, help="Write a page about the run at its end (the default).")
@click.option("--tensorboard", type=FOLDER, help="Also write losses and metrics here, for TensorBoard.")
@json_option
@common
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
    """Run RECIPE with a config; what is cached is not computed again.

    \b
    wsseg run cam_crf -c demo
    wsseg run cam_crf -c mine.toml --set segmenter.epochs=5
    accelerate launch -m wsseg run cam_crf -c mine.toml      networks are trained by several processes
    """
    from wsseg.running.execute import run_plan
    from wsseg.running.plan import make_plan, summary

    if not processes.is_main():
        log.setLevel(logging.WARNING)
    with processes.first_goes_ahead():
        plan = make_plan(recipe, config, open_store(store, make=True), overrides)
    listeners = [tensorboard_in(tensorboard, plan.store)] if tensorboard and processes.is_main() else []
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


def tensorboard_in(folder: Path, store: "ArtifactStore") -> progress.TensorBoard:
    """Return what writes for TensorBoard: new files in a folder."""
    from wsseg.errors import ConfigError
    from wsseg.outputs import Outputs

    Outputs(store).check([folder / "events.out.tfevents"])
    try:
        return progress.TensorBoard(folder)
    except ImportError as error:
        raise ConfigError(f"--tensorboard: {error.name} is not installed; run: pip install tensorboard") from error


def write_page(plan: "Plan", run_id: str) -> Path | None:
    """Write a run's page beside its record, unless nothing ran and it is there; the run does not fail for it."""
    path = plan.store.root / "runs" / f"{run_id}.html"
    try:
        from wsseg.report.contents import gather
        from wsseg.report.page import render
        from wsseg.store.files import atomic_write

        if path.is_file() and all(p.state == "cached" for p in plan.active):
            return path
        page = render(gather(plan.store, run_id, plan.store.runs()[run_id]))
        atomic_write(path, page.encode())
    except Exception as error:  # whatever it is, the run has finished and its results stand
        why = explained(error) or f"{type(error).__name__}: {error} (a defect of wsseg)"
        log.warning("no report: %s", " ".join(str(why).split("\n")))
        return None
    return path


def print_results(plan: "Plan", run_id: str) -> None:
    """Print a line a step, the figures, and where masks and networks lie."""
    rows = []
    for planned in plan.steps:
        metrics = planned.artifact.manifest["metrics"] if planned.artifact else {}
        size = f"{planned.artifact.size / 2**20:.1f} MiB" if planned.artifact else ""
        time = f"{planned.seconds:.1f} s" if planned.state == "ran" else ""
        rows.append([planned.step.name, planned.state, time, size, headline(metrics) or planned.why])
    click.echo(table(["step", "", "time", "size", "result"], rows))
    judged = [p for p in plan.active if p.artifact and "iou" in p.artifact.manifest["metrics"]]
    if judged:
        names = judged[-1].artifact.read_json("report.json")["labels"]  # type: ignore[union-attr]
        rows = []
        for planned in judged:
            metrics = planned.artifact.manifest["metrics"]  # type: ignore[union-attr]
            rows.append([planned.step.name, *(percent(metrics["iou"].get(n)) for n in names), percent(metrics["miou"])])
        click.echo("\nIoU in percent\n" + table(["", *names, "mean"], rows))
        for planned in judged:
            metrics = planned.artifact.manifest["metrics"]  # type: ignore[union-attr]
            click.echo(f"{planned.step.name}: {conditions_text(metrics)}")
    if all(p.state == "cached" for p in plan.active):
        click.echo("\nnothing to do: every step was cached")
    click.echo("")
    for planned in plan.active:
        if planned.artifact and planned.artifact.kind in ("predictions", "pseudo_masks"):
            click.echo(f"{planned.artifact.kind.replace('_', '-')}: {planned.artifact.folder / 'masks'}")
        elif planned.artifact and planned.artifact.kind in ("segmenter", "classifier"):
            click.echo(f"{planned.artifact.kind} network: {planned.artifact.folder}")
    click.echo(f"run: {run_id}")


def headline(metrics: dict[str, Any]) -> str:
    """Return a step's most telling figures in a few words."""
    if "miou" in metrics:
        return f"mIoU {percent(metrics['miou'])}"
    if "map" in metrics:
        return f"mAP {percent(metrics['map'])}, exact match {percent(metrics['exact_match'])}"
    if "bytes_per_image" in metrics:
        return f"{metrics['bytes_per_image'] / 1000:.1f} kB an image"
    if "undecided" in metrics:
        changed = f", {percent(metrics['changed'])} % changed" if "changed" in metrics else ""
        return f"{percent(metrics['background'])} % background, {percent(metrics['undecided'])} % undecided{changed}"
    if "stopped" in metrics:
        return f"{percent(metrics['stopped'])} % changed: the network before stands"
    if "loss" in metrics:
        return f"loss {metrics['loss']:.4f}"
    return f"{metrics['images']} images" if "images" in metrics else ""


def conditions_text(metrics: dict[str, Any]) -> str:
    """Return the conditions under which a figure holds, in one line."""
    conditions = metrics["conditions"]
    words = [
        f"{conditions['images']} {conditions['split']} images",
        f"{metrics['classes_counted']} classes with background",
    ]
    if unjudged := conditions.get("without_truth"):
        words.insert(1, f"{unjudged} others have no mask and are not judged")
    if "best_threshold" in metrics:
        words.append(f"best threshold {metrics['best_threshold']:.2f}, chosen on these masks: a diagnostic")
    elif conditions["diagnostic"]:
        words.append("a diagnostic")
    if "coverage" in metrics:
        words.append(f"{percent(metrics['coverage'])} % decided, mIoU there {percent(metrics['miou_decided'])}")
    if "boundary_miou" in metrics:
        words.append(f"boundary mIoU {percent(metrics['boundary_miou'])}")
    for name in ("pseudo_masks", "walk", "walked_masks", "relabeling", "predictions"):
        if name in conditions:
            values = ", ".join(f"{k} {v}" for k, v in conditions[name].items())
            words.append(f"{name.replace('_', '-')}: {values}")
    return "; ".join([*words, f"rng_seed {conditions['rng_seed']}"])


def percent(fraction: float | None) -> str:
    """Return a fraction as percent with one decimal; a dash for a class that does not occur."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return an aligned plain-text table."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


@cli.command()
@click.argument("recipe", shell_complete=completion.shipped("pipelines"))
@config_option
@set_option
@store_option
@click.option("--time", "with_time", is_flag=True, help="Measure a few images, and say how long all of them will take.")
@common
def plan(recipe: str, config: str, overrides: tuple[str, ...], store: Path, with_time: bool) -> None:
    """Say, step by step, what is cached and why the rest is not (before -> now).

    \b
    wsseg plan best -c mine.toml
    wsseg plan best -c mine.toml --time      a minute or two, and the store stays as it is
    """
    from wsseg.running.plan import make_plan

    plan = make_plan(recipe, config, open_store(store, make=True), overrides)
    if not with_time:
        rows = [[p.step.name, p.step.stage.name, p.state, p.key[:12], p.why] for p in plan.steps]
        click.echo(table(["step", "stage", "state", "key", "why"], rows))
        return
    from wsseg.running.estimate import estimate

    found = estimate(plan, recipe, config, overrides)
    rows = [[e.step, e.state, duration(e.seconds), f"{e.size / 2**20:.1f} MiB"] for e in found]
    total = ["all", "", duration(sum(e.seconds for e in found)), f"{sum(e.size for e in found) / 2**20:.1f} MiB"]
    click.echo(table(["step", "", "time", "size"], [*rows, total]))


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@cli.command()
@store_option
@common
def status(store: Path) -> None:
    """List the runs of a store and what it holds.

    \b
    wsseg status
    wsseg status --store /mnt/big/wsseg-store
    """
    from wsseg.errors import ArtifactError, FormatError

    opened = open_store(store)
    for run_id, record in opened.runs().items():
        states = []
        if record["status"] == "running" and not opened.is_running(run_id):
            record["status"] = "interrupted"  # its process was killed, and could not say so
        for name, step in record["steps"].items():
            try:
                whole = opened.get(step["key"]) is not None
            except FormatError:
                states.append(f"{name} (of another format)")
                continue
            except ArtifactError:
                states.append(f"{name} (damaged)")
                continue
            if not whole:
                unfinished = "unfinished" if opened.has_work(step["key"]) else "missing"
                states.append(f"{name} ({'failed' if 'failed' in step else unfinished})")
        click.echo(f"{run_id}: {record['status']}" + (f"; {', '.join(states)}" if states else ""))
    keys = opened.keys()
    size = sum(p.stat().st_size for p in (opened.root / "objects").rglob("*") if p.is_file())
    work = len(list((opened.root / "work").iterdir()))
    click.echo(f"{opened.root}: {len(keys)} artifacts, {size / 2**20:.1f} MiB, {work} unfinished")


@cli.command()
@store_option
@common
def verify(store: Path) -> None:
    """Compare every file of every artifact with its digest; name each damaged one.

    \b
    wsseg verify
    wsseg run cam_crf -c mine.toml --repair      then rebuilds what is damaged
    """
    from wsseg.errors import ArtifactError, FormatError
    from wsseg.store.artifact import FILES

    opened = open_store(store)
    damaged, files, foreign = [], 0, 0
    for key in opened.keys():  # noqa: SIM118 (a store is no mapping)
        try:
            artifact = opened.get(key)
        except FormatError as error:
            click.echo(f"not looked at: {error}")
            foreign += 1
            continue
        except ArtifactError:
            damaged.append(opened.root / "objects" / key / "manifest.json")
            continue
        if artifact:
            names = artifact.damaged_files()
            damaged += [artifact.folder / name for name in names]
            files += 0 if FILES in names else len(artifact.files)
    for path in damaged:
        click.echo(f"damaged: {path}")
    not_seen = f", {foreign} of another format" if foreign else ""
    click.echo(f"{len(opened.keys())} artifacts, {files} files: {len(damaged)} damaged{not_seen}")
    if damaged:
        fail("run the recipe again with --repair to rebuild what is damaged")


@cli.command()
@store_option
@click.option("--keep", type=click.IntRange(min=0), help="Also forget all but the newest N runs.")
@click.option("--delete", is_flag=True, help="Really remove; without it the command only lists.")
@common
def gc(store: Path, keep: int | None, delete: bool) -> None:
    """Remove artifacts that no run refers to (a dry run unless --delete is given).

    \b
    wsseg gc                      what would go
    wsseg gc --keep 3 --delete    forget all but three runs, and remove what only they used
    """
    opened = open_store(store)
    folders, runs = opened.garbage(keep)
    size = sum(p.stat().st_size for folder in folders for p in folder.rglob("*") if p.is_file())
    if delete:
        folders, runs = opened.collect(keep)
    for folder in folders:
        click.echo(f"{'removed' if delete else 'would remove'} {folder}")
    for run_id in runs:
        click.echo(f"{'forgot' if delete else 'would forget'} run {run_id}")
    hint = "" if delete or not (folders or runs) else "; --delete removes them"
    click.echo(f"{len(folders)} artifacts, {size / 2**20:.1f} MiB, {len(runs)} runs{hint}")


@cli.command()
@click.argument("artifact", shell_complete=completion.artifacts)
@click.option("--config", "as_config", is_flag=True, help="Print the run's values as a config that reproduces it.")
@store_option
@common
def show(artifact: str, as_config: bool, store: Path) -> None:
    """Show an ARTIFACT (its key, folder, or step name) or a run: values, inputs, metrics.

    \b
    wsseg show segmenter
    wsseg show 3f2a9c --config > again.toml
    """
    from wsseg.errors import ArtifactError
    from wsseg.store.runs import find_artifact, full_name

    opened = open_store(store)
    runs = opened.runs()
    if run_id := full_name(artifact, runs, "runs"):
        record = runs[run_id]
        if as_config:
            print_toml(record["config"])
        else:
            click.echo(json.dumps(record, indent=1))
        return
    found = find_artifact(opened, artifact)
    if not as_config:
        click.echo(json.dumps({"folder": str(found.folder), **found.manifest}, indent=1))
        return
    for record in reversed(runs.values()):
        if any(step["key"] == found.key for step in record["steps"].values()):
            print_toml(record["config"])
            return
    raise ArtifactError(f"{artifact}: no run of this store refers to it, so its data set is not known")


@cli.command(name="completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print what makes SHELL complete recipes, configs, values, steps and runs.

    \b
    eval "$(wsseg completion bash)"          in ~/.bashrc; zsh likewise
    wsseg completion fish > ~/.config/fish/completions/wsseg.fish
    """
    click.echo(completion.script(cli, shell))


@cli.command(name="list")
@common
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


# --- looking -----------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"),
              show_default=True, help="The page.")  # fmt: skip
@click.option("--compare", nargs=2, metavar="RUN_A RUN_B", help="Set two runs side by side.")
@overwrite_option
@store_option
@common
def report(run: str | None, output: Path, compare: tuple[str, str] | None, overwrite: bool, store: Path) -> None:
    """Write one page about a RUN (its id or the beginning of it; the newest where none is named).

    \b
    wsseg report -o report.html
    wsseg report 20261124-0059
    wsseg report --compare 20261123 20261124 -o both.html
    """
    from wsseg.outputs import Outputs
    from wsseg.report.contents import gather
    from wsseg.report.page import render, render_comparison
    from wsseg.running.sources import recorded_inputs
    from wsseg.store.runs import find_run

    if compare and run:
        raise click.UsageError("name either a RUN or --compare RUN_A RUN_B")
    if output.suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{output}; expected: a name that ends in .html", param_hint="--output")
    opened = open_store(store)
    found = [find_run(opened, name) for name in compare or (run,)]
    outputs = Outputs(opened, recorded_inputs(record for _, record in found), overwrite)
    outputs.check([output])
    contents = [gather(opened, *one) for one in found]
    page = render_comparison(*contents) if compare else render(contents[0])
    outputs.write(output, page.encode())
    click.echo(f"{output}: {len(page.encode()) / 2**20:.1f} MiB")


@cli.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1; any free one by default.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in the browser.")
@store_option
@common
def view(run: str | None, port: int, open_browser: bool, store: Path) -> None:
    """Show a RUN in the browser, every image of it, until Ctrl-C; only this machine is answered.

    \b
    wsseg view --open
    wsseg view 20261124-0059 --port 8000
    """
    from wsseg.report.contents import gather
    from wsseg.report.server import serve
    from wsseg.store.runs import find_run

    opened = open_store(store)

    def ready(address: str) -> None:
        click.echo(address)
        if open_browser:
            click.launch(address)

    serve(gather(opened, *find_run(opened, run)), port, ready)


@cli.command()
@click.argument("artifact", shell_complete=completion.artifacts)
@click.option(
    "--format", "form", required=True, type=click.Choice([*NETWORK_FORMS, *MASK_FORMS]), help="What to write."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File or folder; by default the step's name, here."
)
@overwrite_option
@store_option
@common
def export(artifact: str, form: str, output: Path | None, overwrite: bool, store: Path) -> None:
    """Write an ARTIFACT (its key, folder, or step name) for other programs: a network, or masks.

    \b
    wsseg export segmenter --format onnx -o scratches.onnx
    wsseg export pseudo_masks --format coco -o scratches.json
    wsseg export predictions --format huggingface -o folder
    """
    from wsseg.errors import ArtifactError
    from wsseg.outputs import Outputs
    from wsseg.running.sources import recorded_inputs, referring_runs
    from wsseg.store.runs import find_artifact

    opened = open_store(store)
    found = find_artifact(opened, artifact)
    name = Path(found.manifest["step"]).name  # not `artifact`, which may be a folder of the store
    inputs = recorded_inputs(referring_runs(opened, found))
    if form in NETWORK_FORMS:
        if found.kind != "segmenter":
            raise ArtifactError(f"{artifact}: it is of kind {found.kind}; expected for {form}: segmenter")
        from wsseg.export.networks import SUFFIXES, write_network
        from wsseg.models.segmenter import load_segmenter

        path = output or Path(f"{name}{SUFFIXES[form]}")
        network = load_segmenter(found.read_bytes, str(found.folder))
        difference = write_network(*network, form, path, Outputs(opened, inputs, overwrite))
        click.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MiB; largest difference to torch {difference:.1g}")
        return
    if found.kind not in ("pseudo_masks", "predictions"):
        raise ArtifactError(f"{artifact}: it is of kind {found.kind}; expected for {form}: pseudo_masks, predictions")
    from wsseg.export.masks import SUFFIXES as ENDINGS
    from wsseg.export.masks import WRITERS
    from wsseg.running.sources import images_of
    from wsseg.stages.layout import ArtifactMasks

    path = output or Path(f"{name}{ENDINGS[form]}")
    images = images_of(opened, found)
    inputs += [item.path for item in images.items]
    written = WRITERS[form](images, ArtifactMasks(found), path, Outputs(opened, inputs, overwrite))
    click.echo(f"{written.path}: {written.images} images")


# --- data --------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The config; FOLDER's name .toml without it.",
)
@click.option("--kind", default="", help="Which labels to use if several are there: voc, coco, csv, yolo, folder, ...")
@click.option(
    "--labels",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A label file to use if several are there; repeatable.",
)
@click.option("--separator", help="What separates classes in one cell of a table, such as '|' or ' '.")
@overwrite_option
@store_option
@common
def init(
    folder: Path,
    output: Path | None,
    kind: str,
    labels: tuple[Path, ...],
    separator: str | None,
    overwrite: bool,
    store: Path,
) -> None:
    """Look at a FOLDER of photographs, write a config for it, and check the data set.

    \b
    wsseg init photos                    # class folders, CSV, VOC, COCO, YOLO, MVTec, CVAT, ...; writes photos.toml
    wsseg run best -c photos.toml
    wsseg predict segmenter photos -o masks
    """
    from wsseg.data.discovery import config_files, discover
    from wsseg.data.formats import FORMATS
    from wsseg.outputs import Outputs

    name = "".join(c if c.isprintable() else "_" for c in folder.resolve().name)
    target = output or Path(f"{name or 'photos'}.toml")
    if target.suffix != ".toml":
        raise click.BadParameter(f"{target}: expected: a name that ends in .toml", param_hint="--output")
    if kind and kind not in FORMATS:
        raise click.BadParameter(f"{kind}: expected one of {', '.join(FORMATS)}", param_hint="--kind")
    if separator == "":
        raise click.BadParameter("it is empty", param_hint="--separator")
    found = discover(folder, kind, labels, separator)
    files = config_files(found, target)
    outputs = Outputs(open_store(store, make=True), overwrite=overwrite)
    outputs.check(files)
    for path, content in files.items():
        outputs.write(path, content())
    for line in found.said:
        click.echo(f"assumed: {line}")
    for path in dict.fromkeys(path.parent if path.suffix == ".png" else path for path in files):
        click.echo(f"wrote {path}")
    print_check(str(target), (), store)
    click.echo(f"next: wsseg run best -c {shlex.quote(str(target))}")


@cli.group()
def data() -> None:
    """Look at data sets."""


@data.command()
@config_option
@set_option
@store_option
@click.option("--full", is_flag=True, help="Read every file again, whatever is remembered of it.")
@common
def check(config: str, overrides: tuple[str, ...], store: Path, full: bool) -> None:
    """Read a data set once and report what is there and what is wrong; exit code 1 if anything is.

    \b
    wsseg data check -c mine.toml
    """
    print_check(config, overrides, store, full)


def print_check(config: str, overrides: tuple[str, ...], store: Path, full: bool = False) -> None:
    """Check a config's data set and print what was found; exit with 1 where there are problems."""
    from wsseg.data.check import check_data
    from wsseg.data.file_memory import FileMemory
    from wsseg.running.plan import open_config
    from wsseg.running.sources import Sources

    opened = open_store(store, make=True)
    sources = Sources(open_config(config, overrides).data, opened)
    memory = FileMemory(opened.root / "files.sqlite")
    if full:
        memory.forget()
    reports = check_data(sources.data, memory)
    for report in reports:
        click.echo(f"{report.split}: {report.images} images")
        click.echo("  classes: " + ", ".join(f"{name} {count}" for name, count in report.classes.items()))
        common_sizes = ", ".join(f"{h}x{w} ({n})" for (h, w), n in report.sizes.most_common(5))
        more = f" and {len(report.sizes) - 5} more" if len(report.sizes) > 5 else ""
        click.echo(f"  sizes (HxW): {common_sizes}{more}")
        for line in report.notes[:20]:
            click.echo(f"  note: {line}")
        if len(report.notes) > 20:
            click.echo(f"  and {len(report.notes) - 20} more notes")
        for line in report.problems:
            click.echo(f"  problem: {line}")
    problems = sum(len(report.problems) for report in reports)
    if problems:
        fail(f'{problems} problems; mend them, or set data.on_bad_image = "skip" for unreadable images')
    click.echo("no problem found")


# --- beside the pipeline -----------------------------------------------------------------------------------------


@cli.command()
@click.argument("artifact", shell_complete=completion.artifacts)
@click.argument("images", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for the masks; IMAGES' sub-folders are kept.")
@click.option("--scale", "scales", type=click.FloatRange(0.1, 8), multiple=True, default=(1.0, 1.5), show_default=True)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Also average over the mirrored photograph.")
@click.option(
    "--crf",
    type=click.Choice(["irn", "psa", "deeplab", "toco", "clip_es", "off"]),
    default="deeplab",
    show_default=True,
    help="Preset of the dense CRF.",
)
@overwrite_option
@store_option
@common
def predict(
    artifact: str,
    images: Path,
    output: Path,
    scales: tuple[float, ...],
    flip: bool,
    crf: str,
    overwrite: bool,
    store: Path,
) -> None:
    """Segment new photographs of any size with a trained segmenter.

    ARTIFACT is its key, its folder, or a step such as 'segmenter'; IMAGES is a file or a folder.

    \b
    wsseg predict segmenter photos -o masks
    """
    from wsseg.data.photographs import photograph_files
    from wsseg.errors import ArtifactError
    from wsseg.models.segmenter import load_segmenter
    from wsseg.outputs import Outputs
    from wsseg.stages.predict_masks.config import Config
    from wsseg.stages.predict_masks.prediction import Predictor, predict_files
    from wsseg.store.runs import find_artifact

    opened = open_store(store)
    found = find_artifact(opened, artifact)
    if found.kind != "segmenter":
        raise ArtifactError(f"{artifact}: it is of kind {found.kind}; expected: segmenter")
    unnamed: list[tuple[Path, str]] = []
    files = photograph_files(images, unnamed)
    model, spec = load_segmenter(found.read_bytes, str(found.folder))
    predictor = Predictor(model, spec, Config(scales=scales, flip=flip, crf=crf))  # type: ignore[arg-type]
    outputs = Outputs(opened, [images, *files.values()], overwrite)
    written, refused = predict_files(predictor, files, output, outputs)
    click.echo(
        f"{written} masks in {output}; class ids: "
        + ", ".join(f"{i} {n}" for i, n in enumerate(("background", *spec.classes)))
    )
    report_refused([*unnamed, *refused], written)


@cli.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.option("--classifier", default="classifier", show_default=True, help="Its key, folder, or step.")
@click.option("--method", "methods", default="cam", show_default=True, help="One or several, separated by commas.")
@click.option("--compare", is_flag=True, help="One sheet an image and class; of all methods, unless --method is given.")
@click.option("--classes", default="", help="Names separated by commas; those that the classifier sees, if not given.")
@click.option("--layers", default="", help="For the CAM family, separated by commas; what is pooled, if not given.")
@click.option("--target", type=click.Choice(["logit", "sigmoid", "softmax", "margin"]), default="logit",
              show_default=True, help="What of a class is explained.")  # fmt: skip
@click.option("--size", type=click.IntRange(32, 8192), default=320, show_default=True, help="Long side in pixels.")
@click.option("--scale", "scales", type=click.FloatRange(0.1, 8), multiple=True, default=(1.0,), show_default=True)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Also average over the mirrored photograph.")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for pictures (PNG) and raw maps (NPZ).")
@overwrite_option
@store_option
@common
@click.pass_context
def explain(
    context: click.Context, images: Path, classifier: str, methods: str, compare: bool, classes: str, layers: str,
    target: Any, size: int, scales: tuple[float, ...], flip: bool, output: Path, overwrite: bool, store: Path,
) -> None:  # fmt: skip
    """Show what a trained classifier looks at in photographs.

    \b
    wsseg explain photos --method cam,layer_cam -o heat
    wsseg explain photo.jpg --compare -o heat
    """
    from wsseg.data.photographs import photograph_files
    from wsseg.inspect.explain import Request, explain_files, parsed
    from wsseg.outputs import Outputs
    from wsseg.saliency.methods import METHODS, methods_for

    opened = open_store(store)
    unnamed: list[tuple[Path, str]] = []
    files = photograph_files(images, unnamed)
    model, spec = open_classifier(opened, classifier)
    given = context.get_parameter_source("methods") is not click.core.ParameterSource.DEFAULT
    names = parsed(methods, METHODS, "method")
    if compare and not given:
        names = methods_for(model)
    request = Request(
        names, parsed(classes, spec.classes, "classes"), tuple(n for n in layers.split(",") if n), target, size,
        scales, flip, compare,
    )  # fmt: skip
    outputs = Outputs(opened, [images, *files.values()], overwrite)
    written, refused = explain_files(model, spec, files, output, request, outputs)
    click.echo(f"{written} photographs explained in {output}")
    report_refused([*unnamed, *refused], written)


@cli.command()
@click.option("-c", "--config", "--data", required=True, help="Config whose data set and [seeds] values are used.")
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True)
@click.option("--classifier", default="classifier", show_default=True, help="Its key, folder, or step.")
@click.option(
    "--method", "methods", default="", help="Names separated by commas; all that the network allows, if not given."
)
@click.option("--images", type=click.IntRange(1), default=32, show_default=True, help="Photographs, evenly spaced.")
@click.option("--steps", type=click.IntRange(2, 1000), default=20, show_default=True, help="Of deletion and insertion.")
@click.option("--substrate", type=click.Choice(["blur", "mean", "zero"]), default="blur", show_default=True,
              help="What stands where evidence is deleted.")  # fmt: skip
@click.option(
    "--stability-images",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Photographs to measure stability on.",
)
@click.option("--road", is_flag=True, help="Also measure ROAD; it takes seconds an image and method.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the figures.")
@overwrite_option
@set_option
@store_option
@json_option
@common
def audit(
    config: str, split: str, classifier: str, methods: str, images: int, steps: int, substrate: Any, stability_images: int, road: bool,
    output: Path | None, overwrite: bool, overrides: tuple[str, ...], store: Path, as_json: bool,
) -> None:  # fmt: skip
    """Judge a classifier's maps: faithful to the network, steady, plausible to the masks; a row a method.

    \b
    wsseg audit -c voc_vehicles --method cam,layer_cam
    wsseg audit -c mine.toml --set seeds.scales=[1.0] -o audit.json
    """
    from wsseg.data.config import input_paths
    from wsseg.inspect.audit import FAITHFULNESS, PLAUSIBILITY, STABILITY, Sample, agreement
    from wsseg.inspect.audit import audit as judged
    from wsseg.inspect.explain import parsed
    from wsseg.outputs import Outputs
    from wsseg.running.plan import open_config
    from wsseg.running.sources import Sources
    from wsseg.saliency.methods import METHODS, methods_for

    opened = open_store(store)
    loaded = open_config(config, overrides)
    outputs = Outputs(opened, [loaded.path, *input_paths(loaded.data)], overwrite)
    outputs.check([output] if output is not None else [])
    model, spec = open_classifier(opened, classifier)
    sources = Sources(loaded.data, opened)
    truth = sources.get(f"truth.{split}") if sources.has(f"truth.{split}") else None
    sample = Sample(images, steps, substrate, road, stability_images)
    names = parsed(methods, METHODS, "method") or methods_for(model)
    better = {**FAITHFULNESS, **STABILITY, **PLAUSIBILITY, "ms_per_image": False}
    report: dict[str, Any] = {"split": split, "images_at_most": images, "steps": steps, "substrate": substrate}
    found: dict[str, dict[str, Any]] = {}
    for name, row in judged(model, spec, sources.get(f"data.{split}"), truth, names, loaded.tables["seeds"], sample):
        found[name] = row
        report |= {"methods": found, "said": agreement(found)}
        if output is not None:  # a row at a time: slow methods come last
            outputs.write(output, (json.dumps(report, indent=1) + "\n").encode())
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    columns = [name for name in better if any(name in row for row in found.values())]
    rows = [
        [m, *(f"{row[c]:.0f}" if c == "ms_per_image" else f"{row[c]:.3f}" for c in columns)] for m, row in found.items()
    ]
    click.echo(table(["method", *(f"{name}{'↑' if better[name] else '↓'}" for name in columns)], rows))
    click.echo("↑ more is better, ↓ less is better" + ("" if truth else f"; no masks of {split}: no plausibility"))
    for line in report["said"]:
        click.echo(line)


@cli.command()
@click.argument("predictions", type=FOLDER)
@click.argument("truth", type=FOLDER)
@click.option("--classes", "class_file", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="Text file; line K is the name of class id K.")  # fmt: skip
@click.option("--undecided", is_flag=True, help="Accept 255 in predictions, and count it as a miss.")
@json_option
@common
def evaluate(predictions: Path, truth: Path, class_file: Path, undecided: bool, as_json: bool) -> None:
    """Judge a folder of indexed PNG masks against the true ones, by equal names."""
    from wsseg.stages.evaluate_masks.judgement import judge_folders

    metrics = judge_folders(predictions, truth, class_file, undecided)
    if as_json:
        click.echo(json.dumps(metrics, indent=1))
        return
    rows = [[n, percent(v), percent(metrics["boundary_iou"][n])] for n, v in metrics["iou"].items()]
    rows.append(["mean", percent(metrics["miou"]), percent(metrics["boundary_miou"])])
    click.echo(table(["class", "IoU %", "boundary IoU %"], rows))
    click.echo(
        f"{metrics['images']} images, {metrics['classes_counted']} classes counted, pixel accuracy {percent(metrics['pixel_accuracy'])} %"
    )


def main() -> None:
    """Entry point of the console script."""
    streams.prepare()
    cli(prog_name="wsseg")


if __name__ == "__main__":
    main()
