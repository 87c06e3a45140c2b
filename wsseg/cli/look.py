"""Commands that show a run or a classifier: ``report``, ``view``, ``explain``, ``audit``."""

import json
from pathlib import Path
from typing import Any

import click

from wsseg.cli import completion
from wsseg.cli.options import (
    ANY_PATH,
    FILE,
    FOLDER,
    Command,
    flip_option,
    json_option,
    open_classifier,
    open_store,
    overwrite_option,
    report_unreadable,
    scale_option,
    set_option,
    store_option,
)
from wsseg.cli.tables import mebibytes, print_table
from wsseg.errors import extra

run_argument = click.argument("run", required=False, shell_complete=completion.runs)
classifier_option = click.option(
    "--classifier", default="classifier", show_default=True, shell_complete=completion.artifacts,
    help="Key, folder or step of the classifier.",
)  # fmt: skip


@click.command(cls=Command)
@run_argument
@click.option("-o", "--output", type=FILE, default=Path("report.html"), show_default=True, help="File for the page.")
@click.option("--compare", nargs=2, metavar="RUN_A RUN_B", help="Compare two runs on one page.")
@overwrite_option
@store_option
def report(run: str | None, output: Path, compare: tuple[str, str] | None, overwrite: bool, store: Path) -> None:
    """Write an HTML page about a run.

    RUN is the id of a run or its first characters; by default the newest run.

    \b
    wsseg report -o report.html
    wsseg report 20261124-0059
    wsseg report --compare 20261123 20261124 -o both.html
    """
    from wsseg.outputs import Outputs
    from wsseg.running.sources import recorded_inputs
    from wsseg.store.runs import find_run

    with extra("report", "wsseg report"):
        from wsseg.report.comparison import render_comparison
        from wsseg.report.page import render
        from wsseg.report.run_report import gather
    if compare and run:
        raise click.UsageError("found both RUN and --compare; give only one of them")
    if output.suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{output}; expected: a name that ends in .html", param_hint="--output")
    opened = open_store(store)
    runs = [find_run(opened, name) for name in compare or (run,)]
    outputs = Outputs(recorded_inputs(record for _, record in runs), overwrite)
    outputs.check([output])
    reports = [gather(opened, run_id, record) for run_id, record in runs]
    page = (render_comparison(*reports) if compare else render(reports[0])).encode()
    outputs.write(output, page)
    click.echo(f"{output}: {mebibytes(len(page))}")


@click.command(cls=Command)
@run_argument
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; by default any free port.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
@store_option
def view(run: str | None, port: int, open_browser: bool, store: Path) -> None:
    """Show a run in the browser.

    Serves all images of RUN (by default the newest run) until Ctrl-C. Only this computer can connect.

    \b
    wsseg view --open
    wsseg view 20261124-0059 --port 8000
    """
    from wsseg.store.runs import find_run

    with extra("report", "wsseg view"):
        from wsseg.report.run_report import gather
        from wsseg.report.server import serve
    opened = open_store(store)

    def ready(address: str) -> None:
        click.echo(address)
        if open_browser:
            click.launch(address)

    serve(gather(opened, *find_run(opened, run)), port, ready)


@click.command(cls=Command)
@click.argument("images", type=ANY_PATH)
@classifier_option
@click.option("--method", "methods", default="cam", show_default=True, help="Saliency methods, separated by commas.")
@click.option("--compare", is_flag=True,
              help="Write one sheet per image and class, with all methods if --method is not given.")  # fmt: skip
@click.option("--classes", default="", help="Classes, separated by commas; by default those that the classifier finds.")
@click.option("--layers", default="", help="Layers for CAM methods, separated by commas; by default the pooled layer.")
@click.option("--target", type=click.Choice(["logit", "sigmoid", "softmax", "margin"]), default="logit",
              show_default=True, help="Output of the classifier that is explained.")  # fmt: skip
@click.option("--size", type=click.IntRange(32, 8192), default=320, show_default=True,
              help="Long side of the network's input in pixels.")  # fmt: skip
@scale_option(1.0)
@flip_option
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for pictures (PNG) and raw maps (NPZ).")
@overwrite_option
@store_option
@click.pass_context
def explain(
    context: click.Context, images: Path, classifier: str, methods: str, compare: bool, classes: str, layers: str,
    target: Any, size: int, scales: tuple[float, ...], flip: bool, output: Path, overwrite: bool, store: Path,
) -> None:  # fmt: skip
    """Show what a trained classifier looks at.

    IMAGES is a file or a folder; for a classifier of sequences, a FASTA file or an array.

    \b
    wsseg explain photos --method cam,layer_cam -o heat
    wsseg explain photo.jpg --compare -o heat
    wsseg explain promoters.fa --method mutagenesis -o heat
    """
    from wsseg.data.photographs import photograph_files
    from wsseg.inspect.explain import Request, explain_files, parsed
    from wsseg.inspect.sequences import explain_sequences, sequence_methods
    from wsseg.outputs import Outputs
    from wsseg.saliency.methods import METHODS, methods_for

    opened = open_store(store)
    model, spec = open_classifier(opened, classifier)
    if spec.channels:
        supported = sequence_methods(model, spec)
        names = supported if compare else parsed(methods, supported, "method")
        request = Request(
            names, parsed(classes, spec.classes, "classes"), tuple(n for n in layers.split(",") if n), target, size, (1.0,), flip, False,
        )  # fmt: skip
        count = explain_sequences(model, spec, images, output, request, Outputs([images], overwrite))
        click.echo(f"{count} sequences explained in {output}")
        return
    unlisted: list[tuple[Path, str]] = []
    files = photograph_files(images, unlisted)
    names = parsed(methods, METHODS, "method")
    if compare and context.get_parameter_source("methods") is click.core.ParameterSource.DEFAULT:
        names = methods_for(model)
    request = Request(
        names, parsed(classes, spec.classes, "classes"), tuple(n for n in layers.split(",") if n), target, size,
        scales, flip, compare,
    )  # fmt: skip
    outputs = Outputs([images, *files.values()], overwrite)
    written, unreadable = explain_files(model, spec, files, output, request, outputs)
    click.echo(f"{written} photographs explained in {output}")
    report_unreadable([*unlisted, *unreadable], written)


@click.command(cls=Command)
@click.option("-c", "--config", "--data", required=True, shell_complete=completion.shipped("configs"),
              help="Config whose data set and [seeds] values are used.")  # fmt: skip
@click.option("--split", type=click.Choice(["train", "val"]), default="train", show_default=True,
              help="Split of the data set.")  # fmt: skip
@classifier_option
@click.option("--method", "methods", default="",
              help="Saliency methods, separated by commas; by default all that the network supports.")  # fmt: skip
@click.option("--images", type=click.IntRange(1), default=32, show_default=True,
              help="Number of images, evenly spaced over the split.")  # fmt: skip
@click.option("--steps", type=click.IntRange(2, 1000), default=20, show_default=True,
              help="Number of steps in the deletion and insertion curves.")  # fmt: skip
@click.option("--substrate", type=click.Choice(["blur", "mean", "zero"]), default="blur", show_default=True,
              help="Replacement for deleted pixels.")  # fmt: skip
@click.option("--stability-images", type=click.IntRange(1), default=4, show_default=True,
              help="Number of images on which stability is measured.")  # fmt: skip
@click.option("--road", is_flag=True, help="Also measure ROAD, which takes seconds per image and method.")
@click.option("-o", "--output", type=FILE, help="JSON file for the metrics.")
@overwrite_option
@set_option
@store_option
@json_option
def audit(
    config: str, split: str, classifier: str, methods: str, images: int, steps: int, substrate: Any,
    stability_images: int, road: bool, output: Path | None, overwrite: bool, overrides: tuple[str, ...], store: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Evaluate a classifier's saliency maps.

    Measures faithfulness, stability and agreement with masks, one row per method.

    \b
    wsseg audit -c voc_vehicles --method cam,layer_cam
    wsseg audit -c mine.toml --set seeds.scales=[1.0] -o audit.json
    """
    from wsseg.data.config import input_paths
    from wsseg.inspect.audit import Sample, agreement
    from wsseg.inspect.audit import audit as audit_methods
    from wsseg.inspect.explain import parsed
    from wsseg.outputs import Outputs
    from wsseg.running.plan import open_config
    from wsseg.running.sources import Sources
    from wsseg.saliency.methods import METHODS, methods_for
    from wsseg.stages.protocol import check_photographs

    opened = open_store(store)
    loaded = open_config(config, overrides)
    outputs = Outputs([loaded.path, *input_paths(loaded.data)], overwrite)
    outputs.check([output] if output is not None else [])
    model, spec = open_classifier(opened, classifier)
    sources = Sources(loaded.data, opened)
    check_photographs("audit", sources.get(f"data.{split}"))
    truth = sources.get(f"truth.{split}") if sources.has(f"truth.{split}") else None
    sample = Sample(images, steps, substrate, road, stability_images)
    names = parsed(methods, METHODS, "method") or methods_for(model)
    report: dict[str, Any] = {"split": split, "images_at_most": images, "steps": steps, "substrate": substrate}
    rows: dict[str, dict[str, Any]] = {}
    for name, row in audit_methods(
        model, spec, sources.get(f"data.{split}"), truth, names, loaded.tables["seeds"], sample
    ):
        rows[name] = row
        report |= {"methods": rows, "findings": agreement(rows)}
        if output is not None:  # written after each method, because slow methods come last
            outputs.write(output, (json.dumps(report, indent=1) + "\n").encode())
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    _print_audit(rows)
    click.echo("↑ higher is better, ↓ lower is better; ms: milliseconds per image")
    if truth is None:
        click.echo(f"no masks of {split}: agreement with masks was not measured")
    for line in report["findings"]:
        click.echo(line)


def _print_audit(rows: dict[str, dict[str, Any]]) -> None:
    """Print one table per group of metrics, with one row per method."""
    from wsseg.inspect.audit import FAITHFULNESS, PLAUSIBILITY, STABILITY

    groups = {
        "faithfulness": {**FAITHFULNESS, "ms_per_image": False},
        "stability": STABILITY,
        "agreement with masks": PLAUSIBILITY,
    }
    labels = {"ms_per_image": "ms"}
    for group, higher_is_better in groups.items():
        names = [name for name in higher_is_better if any(name in row for row in rows.values())]
        if not names:
            continue
        header = [f"{labels.get(name, name)}{'↑' if higher_is_better[name] else '↓'}" for name in names]
        cells = [
            [method, *(f"{row[name]:.0f}" if name == "ms_per_image" else f"{row[name]:.3f}" for name in names)]
            for method, row in rows.items()
        ]
        print_table([group, *header], cells, numbers=header)
        click.echo("")
