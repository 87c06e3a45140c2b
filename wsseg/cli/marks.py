"""Commands about marks: ``marks import``."""

import shlex
from pathlib import Path

import click

from wsseg.cli.options import (
    ANY_PATH,
    FOLDER,
    Command,
    config_option,
    open_store,
    overwrite_option,
    set_option,
    store_option,
)
from wsseg.errors import ConfigError, counted


@click.group()
def marks() -> None:
    """Import what a person drew on images."""


@marks.command(name="import", cls=Command)
@click.argument("source", type=ANY_PATH)
@config_option
@set_option
@click.option("-o", "--output", type=FOLDER, help="Folder for the marks; by default data.train.marks of the config.")
@click.option("--complete", is_flag=True, help="Annotations are complete: what was not drawn on is background.")
@click.option("--value", "values", multiple=True, metavar="NAME=VALUE",
              help="For a folder of masks: the value or the colour R,G,B of a class (repeatable); also of 'background' and 'unsaid'.")  # fmt: skip
@overwrite_option
@store_option
def import_command(
    source: Path,
    config: str,
    overrides: tuple[str, ...],
    output: Path | None,
    complete: bool,
    values: tuple[str, ...],
    overwrite: bool,
    store: Path,
) -> None:
    """Convert annotations of a tool into marks.

    SOURCE is a JSON file of Label Studio (brush, polygon, rectangle), an XML file of CVAT (mask, polygon, rectangle), a
    COCO file, or a folder of masks. Regions of the class 'background' say "this is none of the classes".

    \b
    wsseg marks import project.json -c mine.toml -o marks
    wsseg marks import masks -c mine.toml -o marks --value scratch=255,0,0
    """
    from wsseg.data.file_memory import FileMemory
    from wsseg.data.frames import photographs
    from wsseg.data.mark_import import import_marks
    from wsseg.data.marks import mark_files
    from wsseg.outputs import Outputs
    from wsseg.running.plan import open_config
    from wsseg.running.sources import Sources

    by_name = dict(_pair(text) for text in values)
    opened = open_store(store, make=True)
    loaded = open_config(config, overrides)
    sources = Sources(loaded.data, opened)
    images, named = sources.get("data.train"), sources.data.train.marks
    folder = output or named
    if folder is None:
        raise ConfigError(f"{loaded.path}: data.train.marks is not set; give the folder for the marks with -o")
    known = photographs(images, FileMemory(opened.root / "files.sqlite"))
    imported = import_marks(source, images, known, complete, by_name)
    inputs = [source, loaded.path, *(item.path for item in images.items)]
    outputs = Outputs(inputs, overwrite)
    files = {folder / name: content for name, content in mark_files(imported.marks, images.classes).items()}
    outputs.check(files)
    for path, content in files.items():
        outputs.write(path, content)
    for note in imported.notes:
        click.echo(note)
    click.echo(f"{counted(len(imported.marks), 'mark')} in {folder}")
    if named is None or named.resolve() != folder.resolve():
        click.echo(f"next: name the folder in {shlex.quote(str(loaded.path))}: marks = {str(folder)!r} in [data.train]")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name.strip():
        raise click.BadParameter(f"{text}: expected NAME=VALUE, such as scratch=3", param_hint="--value")
    return name.strip(), value.strip()
