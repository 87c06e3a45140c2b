"""Commands about data sets: ``init``, ``data check``, ``data doubt``."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wsseg.cli.options import (
    ANY_PATH,
    FILE,
    Command,
    config_option,
    fail,
    json_option,
    open_store,
    overwrite_option,
    set_option,
    store_option,
)
from wsseg.cli.tables import print_table
from wsseg.errors import counted
from wsseg.metrics.wording import percent
from wsseg.names import printable

if TYPE_CHECKING:
    from wsseg.data.check import SplitReport
    from wsseg.stages.doubt_labels.listing import DoubtedImage, LabelDoubts


@click.command(cls=Command)
@click.argument("folder", type=ANY_PATH, default=Path())
@click.option("-o", "--output", type=FILE, help="File for the config; by default the name of FOLDER plus .toml.")
@click.option("--kind", default="", help="Format of the labels if there are several: voc, coco, csv, yolo, folder, ...")
@click.option("--labels", multiple=True, type=ANY_PATH, help="Label file to use if there are several (repeatable).")
@click.option("--separator", help="Separator of several classes in one table cell, such as '|' or ' '.")
@overwrite_option
@store_option
def init(
    folder: Path,
    output: Path | None,
    kind: str,
    labels: tuple[Path, ...],
    separator: str | None,
    overwrite: bool,
    store: Path,
) -> None:
    """Write a config for a folder of data.

    Recognises the labels in FOLDER (class folders, CSV, VOC, COCO, YOLO, MVTec, CVAT, ...; FASTA files and arrays with a
    CSV), writes the config, and checks the data set.

    \b
    wsseg init photos                    # writes photos.toml
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
    kinds = (*FORMATS, "sequences")
    if kind and kind not in kinds:
        raise click.BadParameter(f"{kind}: expected one of {', '.join(kinds)}", param_hint="--kind")
    if separator == "":
        raise click.BadParameter("it is empty; expected: at least one character", param_hint="--separator")
    discovery = discover(folder, kind, labels, separator)
    files = config_files(discovery, target)
    outputs = Outputs(overwrite=overwrite)
    outputs.check(files)
    for path, content in files.items():
        outputs.write(path, content())
    click.echo(f"found in {printable(str(folder))}:")
    for line in discovery.notes:
        click.echo(f"  {line}")
    masks = target.with_name(f"{target.stem}-masks")
    for path in dict.fromkeys(masks if path.is_relative_to(masks) else path for path in files):
        click.echo(f"wrote {path}")
    _check(str(target), (), store)
    recipe = "cam_crf" if discovery.data["kind"] == "sequences" else "best"
    click.echo(f"next: wsseg run {recipe} -c {shlex.quote(str(target))}")


_ROWS = 20  # of a table on the terminal


@click.group()
def data() -> None:
    """Inspect data sets."""


@data.command(cls=Command)
@config_option
@set_option
@store_option
@click.option("--full", is_flag=True, help="Read all files again, including those that have not changed.")
def check(config: str, overrides: tuple[str, ...], store: Path, full: bool) -> None:
    """Check a data set for problems.

    Reads all images, labels and masks of a config and lists classes, sizes, notes and problems. The exit code is 1 if
    there are problems.

    \b
    wsseg data check -c mine.toml
    """
    _check(config, overrides, store, full)


def _check(config: str, overrides: tuple[str, ...], store: Path, full: bool = False) -> None:
    """Check the data set of a config and print a report; exit with code 1 if there are problems."""
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
        _print_split(report)
    problems = sum(len(report.problems) for report in reports)
    if problems:
        fail(
            f'{counted(problems, "problem")} found; fix the data, or set data.on_bad_image = "skip" to leave out missing and unreadable images'
        )
    click.echo("no problem found")


def _print_split(report: "SplitReport") -> None:
    click.echo(f"{report.split}: {counted(report.images, report.what)}")
    click.echo("  classes: " + ", ".join(f"{name} {count}" for name, count in report.classes.items()))
    sizes = ", ".join(f"{height}x{width} ({count})" for (height, width), count in report.sizes.most_common(5))
    more = f" and {len(report.sizes) - 5} more" if len(report.sizes) > 5 else ""
    click.echo(f"  sizes (HxW): {sizes}{more}")
    for kind, lines in (("note", report.notes), ("problem", report.problems)):
        for line in lines[:20]:
            click.echo(f"  {kind}: {line}")
        if len(lines) > 20:
            click.echo(f"  and {counted(len(lines) - 20, f'more {kind}')}")


@data.command(cls=Command)
@config_option
@click.option("-o", "--output", type=FILE, help="CSV file to edit; by default the name of the config plus -doubts.csv.")
@click.option("-n", "--images", "count", type=click.IntRange(1), help="Number of images to list; by default a tenth.")
@overwrite_option
@set_option
@store_option
@json_option
def doubt(
    config: str, output: Path | None, count: int | None, overwrite: bool, overrides: tuple[str, ...], store: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """List labels that are probably wrong.

    Each label is judged by a network that did not learn from it. Fill in the column 'present' of the CSV file (1 or 0)
    and name the file in the config: label_overlay = "mine-doubts.csv" in [data.train]. Validation images that look like
    a training image are listed, too.

    \b
    wsseg data doubt -c mine.toml
    """
    from wsseg.data.config import input_paths
    from wsseg.data.label_overlay import decisions_of
    from wsseg.outputs import Outputs
    from wsseg.running.execute import run_plan
    from wsseg.running.plan import make_plan
    from wsseg.stages.doubt_labels.listing import FILE as DOUBTS
    from wsseg.stages.doubt_labels.listing import decode, overlay_table, tenth

    opened = open_store(store, make=True)
    plan = make_plan("label_doubts", config, opened, overrides)
    target = output or Path(f"{plan.config.name}-doubts.csv")
    outputs = Outputs([plan.config.path, *input_paths(plan.config.data)], overwrite)
    outputs.check([target])
    run_plan(plan)
    plan.raise_failures()
    decisions = decisions_of(plan.sources.data, "train")
    (artifact,) = (planned.artifact for planned in plan.steps if planned.artifact)
    doubts = decode(artifact.read_bytes(DOUBTS)).undecided(decisions)
    listed = doubts.images[: count or tenth(len(doubts.images))]
    outputs.write(target, overlay_table(listed, decisions))
    if as_json:
        click.echo(
            json.dumps(
                doubts.summary(listed)
                | {"judge_map": artifact.manifest["metrics"]["judge_map"], "overlay": str(target)},
                indent=1,
            )
        )
        return
    _print_doubts(doubts, listed, artifact.manifest["metrics"]["judge_map"])
    click.echo(f"wrote {target}: {counted(len(listed), 'image')}")
    click.echo(f'next: write 1 or 0 into its column present, then set label_overlay = "{target}" in [data.train]')


def _print_doubts(doubts: "LabelDoubts", listed: "Sequence[DoubtedImage]", average_precision: float | None) -> None:
    """Print the most doubted images, the near-duplicates, and what could not be judged."""
    rows = [
        [printable(image.id), f"{100 * image.doubt:.0f}", "yes" if image.probably_wrong else "", image.why]
        for image in listed[:_ROWS]
    ]
    if rows:
        print_table(["image", "doubt %", "probably wrong", "why"], rows, numbers=["doubt %"])
    if len(listed) > _ROWS:
        click.echo(f"and {len(listed) - _ROWS} more in the file")
    click.echo(f"{doubts.probably_wrong} of {counted(len(doubts.images), 'image')} have a label that is probably wrong")
    if average_precision is not None:
        click.echo(
            f"mAP of the judging network on these labels: {percent(average_precision)} %; below 90 it errs often"
        )
    if doubts.not_judged:
        click.echo(f"too few images to judge: {', '.join(doubts.not_judged)}")
    if doubts.near_duplicates:
        click.echo(f"near-duplicates across train and val: {len(doubts.near_duplicates)}")
        for pair in doubts.near_duplicates[:_ROWS]:
            click.echo(f"  val {printable(pair.val)} looks like train {printable(pair.train)} ({pair.similarity:.2f})")
        if len(doubts.near_duplicates) > _ROWS:
            click.echo(f"  and {len(doubts.near_duplicates) - _ROWS} more (--json lists all)")
