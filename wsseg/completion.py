"""What a shell offers when Tab is pressed: recipes, configs, keys of values, steps, artifacts and runs."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SHELLS = ("bash", "zsh", "fish")


def script(command: click.Command, shell: str) -> str:
    """Return what a shell evaluates to complete ``wsseg``."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell}: no such shell; expected: {', '.join(SHELLS)}")
    return found(command, {}, "wsseg", "_WSSEG_COMPLETE").source()


def _beginning(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


def shipped(folder: str) -> Complete:
    """Offer the shipped recipes (``pipelines``) or configs (``configs``), and files."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from wsseg.config import shipped_folder

        names = [path.stem for path in shipped_folder(folder).glob("*.toml")]
        return _beginning(names, incomplete) or [CompletionItem(incomplete, type="file")]

    return complete


def keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer ``TABLE.KEY=`` of every table."""
    import dataclasses

    from wsseg.stages import TABLES

    names = [f"{table}.{field.name}=" for table, cls in TABLES.items() for field in dataclasses.fields(cls)]
    return _beginning([*names, "rng_seed="], incomplete)


def _runs(context: click.Context) -> dict[str, list[str]]:
    """Return the steps of each run of the store that the command line names; nothing where it cannot be read."""
    from wsseg.errors import WssegError
    from wsseg.store.objects import ArtifactStore

    root = Path(context.params.get("store") or "wsseg-store")
    logging.getLogger("wsseg").setLevel(logging.ERROR)  # a warning would stand in the line that is typed
    try:  # nothing is made for a Tab
        return {name: list(record["steps"]) for name, record in ArtifactStore(root, make=False).runs().items()}
    except (WssegError, OSError):
        return {}


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the runs of the store."""
    return _beginning(_runs(context), incomplete)


def artifacts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the steps of the store's runs, whose newest artifact the name stands for, and folders."""
    steps = {step for names in _runs(context).values() for step in names}
    return _beginning(steps, incomplete) or [CompletionItem(incomplete, type="dir")]
