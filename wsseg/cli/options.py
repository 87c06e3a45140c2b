"""Shared by all commands: options, the error boundary, and opening a store or an artifact."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from wsseg import processes, progress
from wsseg.cli import completion
from wsseg.errors import OtherProcessError, explained

if TYPE_CHECKING:
    from wsseg.models.classifier import Classifier, ClassifierSpec
    from wsseg.store.artifact import Artifact
    from wsseg.store.objects import ArtifactStore

F = TypeVar("F", bound=Callable[..., Any])

ANY_PATH = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

store_option = click.option(
    "--store", type=FOLDER, default=Path("wsseg-store"), envvar="WSSEG_STORE", show_default=True,
    help="Folder of the artifact store (also read from the environment variable WSSEG_STORE).",
)  # fmt: skip
config_option = click.option(
    "-c", "--config", required=True, help="Config: a TOML file or the name of a shipped config.",
    shell_complete=completion.shipped("configs"),
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override one config value (repeatable).",
    shell_complete=completion.keys,
)  # fmt: skip
overwrite_option = click.option("--overwrite", is_flag=True, help="Also replace files that wsseg did not write.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
flip_option = click.option(
    "--flip/--no-flip", default=True, show_default=True, help="Also average over the mirrored photograph."
)


def scale_option(*default: float) -> Callable[[F], F]:
    """Return the option ``--scale`` with its default scales."""
    return click.option(
        "--scale", "scales", type=click.FloatRange(0.1, 8), multiple=True, default=default, show_default=True,
        help="Scale of the photograph to average over (repeatable).",
    )  # fmt: skip


class Command(click.Command):
    """A command with ``--quiet`` and ``--debug`` that reports an error in one line and exits with code 1.

    Click itself reports usage errors and exits with code 2.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--quiet"], is_flag=True, help="Print results and errors only."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command inside the error boundary."""
        quiet, debug = ctx.params.pop("quiet"), ctx.params.pop("debug")
        progress.show(quiet)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Finished work is kept; run the same command again to resume.", err=True)
            sys.exit(130)
        except (BrokenPipeError, click.exceptions.ClickException, click.exceptions.Exit):  # click handles these
            raise
        except Exception as error:
            if debug:
                raise
            explanation = explained(error)
            if isinstance(explanation, OtherProcessError) and not processes.is_main():
                sys.exit(1)  # the process that failed reports the error
            fail(str(explanation or _internal_error(error)))


def _internal_error(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    return (
        f"internal error: {type(error).__name__}: {text} "
        "(a bug in wsseg; please report it with the traceback that --debug shows)"
    )


def fail(message: str) -> NoReturn:
    """Print an error in one line and exit with code 1."""
    click.echo("error: " + " ".join(message.split("\n")), err=True)
    sys.exit(1)


def report_unreadable(unreadable: "list[tuple[Path, str]]", written: int) -> None:
    """Name the photographs that could not be read, and exit with code 1 if there are any."""
    from wsseg.names import printable

    for path, reason in unreadable:
        click.echo(f"skipped {printable(str(path))}: {reason}", err=True)
    if unreadable:
        fail(f"{len(unreadable)} of {written + len(unreadable)} images could not be read")


def open_store(folder: Path, make: bool = False) -> "ArtifactStore":
    """Return the store in a folder; only commands that compute create a missing one (``make``).

    The shell does not expand the ``~`` of ``--store=~/folder``; it is expanded here.
    """
    from wsseg.config import expand_home
    from wsseg.store.objects import ArtifactStore

    return ArtifactStore(Path(expand_home(str(folder))), make)


def open_artifact(store: "ArtifactStore", name: str, *kinds: str, purpose: str = "") -> "Artifact":
    """Return an artifact by its key, folder or step.

    Raises:
        ArtifactError: there is no such artifact, or it is of none of the expected kinds.
    """
    from wsseg.errors import ArtifactError
    from wsseg.store.runs import find_artifact

    artifact = find_artifact(store, name)
    if artifact.kind not in kinds:
        expected = f"expected for {purpose}" if purpose else "expected"
        raise ArtifactError(f"{name}: found an artifact of kind {artifact.kind}; {expected}: {', '.join(kinds)}")
    return artifact


def open_classifier(store: "ArtifactStore", name: str) -> "tuple[Classifier, ClassifierSpec]":
    """Return a trained classifier by its key, folder or step."""
    from wsseg.models.classifier import load_classifier

    artifact = open_artifact(store, name, "classifier")
    return load_classifier(artifact.read_bytes, str(artifact.folder))
