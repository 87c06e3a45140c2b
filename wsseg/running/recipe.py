"""Reads a recipe file and returns its checked steps in an order in which they can run. Recipes hold no numbers.

A recipe is a TOML file with a ``description`` and one table ``[steps.NAME]`` per step::

    [steps.seeds]
    stage = "make_seeds"
    inputs = { images = "data.train", classifier = "classifier" }

An input is the name of another step, or a source: ``data.train``, ``data.val`` (images with image-level labels),
``marks.train`` (what a person said of some pixels) or ``truth.train``, ``truth.val`` (true masks, drawn by a person). ``optional = true`` marks a step that is skipped if the
config does not name its source (diagnostics, evaluation). ``table = "NAME"`` gives a step another config table than the
default one of its stage, so that a recipe can run a stage twice with different values. A step that learns from true masks
states ``supervision = "truth"``; apart from it, only `evaluate_masks` may take true masks.
"""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from wsseg.config import read_toml
from wsseg.errors import RecipeError, nearest
from wsseg.stages import STAGES, TABLES
from wsseg.stages.protocol import Stage

SOURCES = {
    "data.train": "images",
    "data.val": "images",
    "marks.train": "marks",
    "truth.train": "truth",
    "truth.val": "truth",
}
# roles of earlier versions, and their replacements
_MOVED = {
    ("train_classifier", "val_images"): "; add a step with the stage measure_classifier to measure the classifier"
}
STEP_KEYS = ("stage", "inputs", "optional", "supervision", "table")


@dataclass(frozen=True)
class Step:
    """One step of a recipe.

    Args:
        name: name of the step.
        stage: the stage that it runs.
        inputs: step name or source, by role.
        table: name of the config table with its values.
        optional: whether the step is skipped if an input is missing.
    """

    name: str
    stage: Stage
    inputs: dict[str, str]
    table: str
    optional: bool = False


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; its steps are in an order in which they can run."""

    name: str
    path: Path
    description: str
    steps: tuple[Step, ...]


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: a key, stage, role or input is unknown, an input is missing or of the wrong kind, or the steps form
            a cycle; the message names the file, the key, the value found and the values expected.
    """
    raw = read_toml(path)
    for key in raw:
        if key not in ("description", "steps"):
            raise RecipeError(
                f"{path}: unknown key {key!r}; expected: description, steps{nearest(key, ['description', 'steps'])}"
            )
    tables = raw.get("steps")
    if not isinstance(tables, dict) or not tables:
        raise RecipeError(f"{path}: no [steps.NAME] table; expected: at least one step")
    steps = {name: _read_step(name, table, tables, path) for name, table in tables.items()}
    for step in steps.values():
        _check_kinds(step, steps, tables[step.name].get("supervision"), path)
    graph = {name: [i for i in step.inputs.values() if i in steps] for name, step in steps.items()}
    try:
        order = _file_order(graph)
    except CycleError as error:
        raise RecipeError(f"{path}: the steps {' -> '.join(error.args[1])} form a cycle; break it") from error
    return Recipe(path.stem, path, str(raw.get("description", "")), tuple(steps[name] for name in order))


def _file_order(graph: dict[str, list[str]]) -> list[str]:
    """Return a topological order of the steps that follows the order of the file as far as possible."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    position = {name: i for i, name in enumerate(graph)}
    ready: list[str] = []
    order: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=position.__getitem__)
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return order


def _read_step(name: str, table: Any, tables: dict[str, Any], path: Path) -> Step:
    where = f"{path}: steps.{name}"
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: found {table!r}; expected: a table with stage and inputs")
    if not name.isidentifier():
        raise RecipeError(f"{where}: not a valid name of a step; expected: letters, digits and _")
    for key in table:
        if key not in STEP_KEYS:
            raise RecipeError(
                f"{where}: unknown key {key!r}; expected: {', '.join(STEP_KEYS)}{nearest(key, STEP_KEYS)}"
            )
    stage_name = table.get("stage")
    if not isinstance(stage_name, str) or stage_name not in STAGES:
        raise RecipeError(
            f"{where}.stage: found {stage_name!r}; expected: {', '.join(STAGES)}{nearest(str(stage_name), STAGES)}"
        )
    stage = STAGES[stage_name]
    inputs = table.get("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(v, str) for v in inputs.values()):
        raise RecipeError(f'{where}.inputs: found {inputs!r}; expected: a table of role = "step or source"')
    sources = [*tables, *SOURCES]
    for role, source in inputs.items():
        if role not in stage.inputs:
            expected = ", ".join(stage.inputs)
            advice = _MOVED.get((stage_name, role)) or nearest(role, stage.inputs)
            raise RecipeError(f"{where}.inputs: {stage_name} has no role {role!r}; expected: {expected}{advice}")
        if source not in sources:
            raise RecipeError(
                f"{where}.inputs.{role}: found {source!r}; expected: a step ({', '.join(tables)}) or a source "
                f"({', '.join(SOURCES)}){nearest(source, sources)}"
            )
    for role, declared in stage.inputs.items():
        if role not in inputs and not declared.optional:
            raise RecipeError(
                f"{where}.inputs: the role {role!r} is missing; {stage_name} needs {' or '.join(declared.kinds)}"
            )
    optional = table.get("optional", False)
    if not isinstance(optional, bool):
        raise RecipeError(f"{where}.optional: found {optional!r}; expected: true, false")
    table_name = table.get("table", stage.table)
    fitting = [stage.table, *(t for t, cls in TABLES.items() if t != stage.table and issubclass(cls, stage.Config))]
    if table_name not in fitting:
        raise RecipeError(
            f"{where}.table: found {table_name!r}; expected: {', '.join(fitting)}{nearest(str(table_name), fitting)}"
        )
    return Step(name, stage, dict(inputs), table_name, optional)


def _check_kinds(step: Step, steps: dict[str, Step], supervision: Any, path: Path) -> None:
    where = f"{path}: steps.{step.name}"
    if supervision not in (None, "truth"):
        raise RecipeError(f'{where}.supervision: found {supervision!r}; expected: "truth", or no such key')
    learns_from_truth = False
    for role, source in step.inputs.items():
        kind = SOURCES[source] if source in SOURCES else steps[source].stage.output
        expected = step.stage.inputs[role].kinds
        if kind not in expected:
            raise RecipeError(f"{where}.inputs.{role}: {source!r} is of kind {kind}; expected: {' or '.join(expected)}")
        if source in steps and steps[source].optional and not step.optional and not step.stage.inputs[role].optional:
            raise RecipeError(f"{where}.inputs.{role}: {source!r} is optional, so this step must be optional too")
        learns_from_truth |= kind == "truth" and role == "masks"
        if kind == "truth" and role == "masks" and source != "truth.train":
            raise RecipeError(f"{where}.inputs.{role}: {source!r} is held out; expected: truth.train")
    if learns_from_truth != (supervision == "truth"):
        if learns_from_truth:
            raise RecipeError(f'{where}: it learns from true masks; add supervision = "truth"')
        raise RecipeError(f"{where}: it does not learn from true masks; remove supervision")
