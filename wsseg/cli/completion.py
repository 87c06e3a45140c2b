"""Shell completion: recipes, configs, config keys, steps, artifacts and runs."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SHELLS = ("bash", "zsh", "fish")


def script(command: click.Command, shell: str) -> str:
    """Return the script that a shell evaluates to complete ``wsseg``."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.UsageError(f"{shell}: unknown shell; expected: {', '.join(SHELLS)}")
    return completion_class(command, {}, "wsseg", "_WSSEG_COMPLETE").source()


def _matching(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


def shipped(folder: str) -> Complete:
    """Return a completer for the shipped recipes (``pipelines``) or configs (``configs``), and for files."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from wsseg.config import shipped_folder

        names = [path.stem for path in shipped_folder(folder).glob("*.toml")]
        return _matching(names, incomplete) or [CompletionItem(incomplete, type="file")]

    return complete


def keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete ``TABLE.KEY=`` of all config tables."""
    import dataclasses

    from wsseg.stages import TABLES

    names = [f"{table}.{field.name}=" for table, cls in TABLES.items() for field in dataclasses.fields(cls)]
    return _matching([*names, "rng_seed="], incomplete)


def _steps_by_run(context: click.Context) -> dict[str, list[str]]:
    """Return the steps of each run in the store that the command line names, or nothing if it cannot be read."""
    from wsseg.errors import WssegError
    from wsseg.store.objects import ArtifactStore

    root = Path(context.params.get("store") or "wsseg-store")
    logging.getLogger("wsseg").setLevel(logging.ERROR)  # a warning would appear in the line that is being typed
    try:  # completion never creates a store
        return {name: list(record["steps"]) for name, record in ArtifactStore(root, make=False).runs().items()}
    except (WssegError, OSError):
        return {}


def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the ids of the store's runs."""
    return _matching(_steps_by_run(context), incomplete)


def artifacts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the steps of the store's runs (a step names its newest artifact), and folders."""
    steps = {step for names in _steps_by_run(context).values() for step in names}
    return _matching(steps, incomplete) or [CompletionItem(incomplete, type="dir")]
