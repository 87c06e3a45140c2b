"""Commands about the artifact store: ``status``, ``verify``, ``gc``, ``show``, ``store push``, ``store pull``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsseg.cli import completion
from wsseg.cli.options import Command, fail, open_store, store_option
from wsseg.cli.tables import mebibytes
from wsseg.errors import counted

if TYPE_CHECKING:
    from wsseg.store.objects import ArtifactStore


@click.command(cls=Command)
@store_option
def status(store: Path) -> None:
    """List the runs and artifacts of a store.

    Each run is followed by the steps whose artifacts are missing, unfinished or damaged, and by the path of its log.

    \b
    wsseg status
    wsseg status --store /mnt/big/wsseg-store
    """
    opened = open_store(store)
    for run_id, record in opened.runs().items():
        killed = record["status"] == "running" and not opened.is_running(run_id)  # it could not update its record
        states = ", ".join(_incomplete_steps(opened, record["steps"]))
        click.echo(f"{run_id}: {'interrupted' if killed else record['status']}" + (f"; {states}" if states else ""))
        if (path := opened.log_path(run_id)).is_file():
            click.echo(f"  log: {path}")
    size = _size_of([opened.root / "objects"])
    work = len(list((opened.root / "work").iterdir()))
    click.echo(f"{opened.root}: {len(opened.keys())} artifacts, {mebibytes(size)}, {work} unfinished")


def _incomplete_steps(store: "ArtifactStore", steps: dict[str, Any]) -> list[str]:
    """Return the steps of a run that have no usable artifact, each with the reason."""
    from wsseg.errors import ArtifactError, FormatError

    incomplete = []
    for name, step in steps.items():
        try:
            if store.get(step["key"]) is not None:
                continue
            reason = "unfinished" if store.has_work(step["key"]) else "missing"
            reason = "failed" if "failed" in step else reason
        except FormatError:
            reason = "of another format"
        except ArtifactError:
            reason = "damaged"
        incomplete.append(f"{name} ({reason})")
    return incomplete


def _size_of(folders: list[Path]) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@click.command(cls=Command)
@store_option
def verify(store: Path) -> None:
    """Compare all stored files with their digests.

    Lists the damaged files of all artifacts; the exit code is 1 if there are any.

    \b
    wsseg verify
    wsseg run cam_crf -c mine.toml --repair      rebuild damaged artifacts
    """
    from wsseg.errors import ArtifactError, FormatError
    from wsseg.store.artifact import FILES

    opened = open_store(store)
    keys = opened.keys()
    damaged, files, foreign = [], 0, 0
    for key in keys:
        try:
            artifact = opened.get(key)
        except FormatError as error:
            click.echo(f"not verified: {error}")
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
    not_verified = f", {foreign} of another format" if foreign else ""
    click.echo(f"{len(keys)} artifacts, {files} files: {len(damaged)} damaged{not_verified}")
    if damaged:
        fail("damaged files found; run the recipe again with --repair to rebuild them")


@click.command(cls=Command)
@store_option
@click.option("--keep", metavar="N", type=click.IntRange(min=0), help="Also forget all runs except the newest N.")
@click.option("--delete", is_flag=True, help="Remove the artifacts; without this option they are only listed.")
def gc(store: Path, keep: int | None, delete: bool) -> None:
    """Remove artifacts that no run refers to.

    Without --delete the command only lists what it would remove.

    \b
    wsseg gc                      list what would be removed
    wsseg gc --keep 3 --delete    keep only what the newest three runs use
    """
    opened = open_store(store)
    folders, runs = opened.garbage(keep)
    size = _size_of(folders)
    if delete:
        folders, runs = opened.collect(keep)
    for folder in folders:
        click.echo(f"{'removed' if delete else 'would remove'} {folder}")
    for run_id in runs:
        click.echo(f"{'forgot' if delete else 'would forget'} run {run_id}")
    hint = "" if delete or not (folders or runs) else "; --delete removes them"
    click.echo(f"{len(folders)} artifacts, {mebibytes(size)}, {len(runs)} runs{hint}")


@click.command(cls=Command)
@click.argument("artifact", shell_complete=completion.artifacts)
@click.option("--config", "as_config", is_flag=True, help="Print the run's values as a config that reproduces it.")
@store_option
def show(artifact: str, as_config: bool, store: Path) -> None:
    """Show the record of an artifact or a run.

    ARTIFACT is the key, the folder or the step of an artifact, or the id of a run. The record holds values, inputs and
    metrics.

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
            _print_toml(record["config"])
        else:
            click.echo(json.dumps(record, indent=1))
        return
    match = find_artifact(opened, artifact)
    if not as_config:
        click.echo(json.dumps({"folder": str(match.folder), **match.manifest}, indent=1))
        return
    for record in reversed(runs.values()):
        if any(step["key"] == match.key for step in record["steps"].values()):
            _print_toml(record["config"])
            return
    raise ArtifactError(f"{artifact}: no run of this store refers to it, so its config is unknown")


@click.group()
def store() -> None:
    """Share a store between machines: push, pull."""


@store.command(cls=Command)
@click.argument("url")
@click.argument("run", required=False)
@store_option
def push(url: str, run: str | None, store: Path) -> None:
    """Send finished artifacts and runs to URL.

    URL is a place that all machines reach: s3://BUCKET/FOLDER, gs://..., sftp://..., or a folder. RUN is the id of a run or
    its first characters; without it all artifacts are sent. What is there is not sent again.

    \b
    wsseg store push s3://team/wsseg
    wsseg store push /mnt/shared/wsseg 20260401-10
    """
    from wsseg.store.remote import RemoteStore

    click.echo(_transferred("sent", *RemoteStore(url).push(open_store(store), run)))


@store.command(cls=Command)
@click.argument("url")
@click.argument("run", required=False)
@store_option
def pull(url: str, run: str | None, store: Path) -> None:
    """Fetch artifacts and runs from URL.

    A later run of the same recipe, config and data finds them as cached. Every file is compared with its digest. Pull only
    what people that you trust have pushed: a digest shows damage, and not who computed a result.

    \b
    wsseg store pull s3://team/wsseg
    wsseg store pull /mnt/shared/wsseg 20260401-10
    """
    from wsseg.store.remote import RemoteStore

    click.echo(_transferred("fetched", *RemoteStore(url).pull(open_store(store, make=True), run)))


def _transferred(verb: str, artifacts: int, files: int, size: int) -> str:
    return f"{verb} {counted(artifacts, 'artifact')}: {counted(files, 'file')}, {mebibytes(size)}"


def _print_toml(values: dict[str, Any]) -> None:
    """Print a config in UTF-8, the encoding of TOML, whatever the encoding of standard output: it is saved to a file."""
    from wsseg.config import to_toml

    click.echo(to_toml(values).encode(), nl=False)
