"""The plan of a run: for each step its key, whether it is cached, and the reason if it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wsseg.config import Config, find_file, hashed, load_config, plain
from wsseg.data.config import DATA_KINDS
from wsseg.errors import (
    ArtifactError,
    ConfigError,
    RecipeError,
    StageError,
    WssegError,
)
from wsseg.models.device import precision_here, resolve_device
from wsseg.parallel import worker_count
from wsseg.running.recipe import SOURCES, Recipe, Step, load_recipe
from wsseg.running.sources import Sources
from wsseg.stages import TABLES
from wsseg.store.artifact import MANIFEST, Artifact
from wsseg.store.objects import ArtifactStore, key_of

CACHED, TO_RUN, TRAINING, RAN, SKIPPED, FAILED = "cached", "to run", "training", "ran", "skipped", "failed"


@dataclass
class PlannedStep:
    """One step of a plan, with everything that its key depends on.

    Args:
        step: the recipe's step.
        config: the values of its stage.
        inputs: key by role; empty for a skipped step.
        key: the artifact's key; empty for a skipped step.
        state: ``cached``, ``to run`` or ``skipped``; ``training`` while all processes run it; after a run ``ran``, or
            ``failed`` (measuring steps only).
        why: the reason why the step is not cached, is skipped, or failed.
        seconds: wall time of a step that ran.
        artifact: the result of a complete step.
        error: the error of a failed step.
    """

    step: Step
    config: Any
    inputs: dict[str, str] = field(default_factory=dict)
    key: str = ""
    state: str = TO_RUN
    why: str = ""
    seconds: float = 0.0
    artifact: Artifact | None = None
    error: Exception | None = None

    def record(self) -> dict[str, Any]:
        """Return the step's entry in the run's record."""
        stage = self.step.stage
        return {
            "key": self.key,
            "stage": stage.name,
            "version": stage.version,
            "config": hashed(self.config, self.inputs),
            "inputs": self.inputs,
        }

    def values(self) -> dict[str, Any]:
        """Return the step's values by dotted key; ``workers = 0`` is replaced by the number of processes that it means."""
        values = plain(self.config)
        if "workers" in values and not hasattr(self.config, "epochs"):  # trainings choose by the device
            values["workers"] = worker_count(values["workers"])
        return {f"{self.step.table}.{name}": value for name, value in values.items()}


@dataclass
class Plan:
    """A recipe's steps for one config and store, in order."""

    recipe: Recipe
    config: Config
    store: ArtifactStore
    sources: Sources
    steps: list[PlannedStep]
    overrides: tuple[str, ...] = ()

    @property
    def active(self) -> list[PlannedStep]:
        """The steps that are not skipped."""
        return [planned for planned in self.steps if planned.state != SKIPPED]

    @property
    def failed(self) -> dict[str, str]:
        """Reason of each failed measuring step, by name; the failure of any other step ends the run."""
        return {planned.step.name: planned.why for planned in self.steps if planned.state == FAILED}

    def raise_failures(self) -> None:
        """Raise StageError if a measuring step failed; call it after the run, when all other steps have finished."""
        if self.failed:
            errors = [planned.error for planned in self.steps if planned.error]
            reasons = "; ".join(f"{name} failed: {why}" for name, why in self.failed.items())
            raise StageError(f"{reasons}; all other steps finished") from errors[0]


def open_config(name: str, overrides: tuple[str, ...] = ()) -> Config:
    """Load a config by path or shipped name."""
    return load_config(find_file(name, "configs"), TABLES, DATA_KINDS, overrides)


def make_plan(recipe_name: str, config_name: str, store: ArtifactStore, overrides: tuple[str, ...] = ()) -> Plan:
    """Return the plan of a recipe: every step's key, and whether it is cached. No stage runs.

    Args:
        recipe_name: path of a recipe, or the name of a shipped one.
        config_name: path of a config, or the name of a shipped one.
        store: the store of artifacts.
        overrides: ``TABLE.KEY=VALUE`` strings.

    Raises:
        RecipeError, ConfigError, DatasetError: the recipe, the config or the data set is not valid.
    """
    recipe = load_recipe(find_file(recipe_name, "pipelines"))
    config = open_config(config_name, overrides)
    sources = Sources(config.data, store)
    earlier = _newest_steps(store, recipe.name, config.name)
    steps: dict[str, PlannedStep] = {}
    for step in recipe.steps:
        planned = PlannedStep(step, _with_precision(config.tables[step.table]))
        steps[step.name] = planned
        if missing := _missing_source(step, steps, sources):
            if not step.optional:
                raise RecipeError(f"{recipe.path}: steps.{step.name} needs {missing}, but {config.path} has none")
            planned.state, planned.why = SKIPPED, f"the config has no {missing}"
            continue
        for role, source in step.inputs.items():
            if source in SOURCES:
                if sources.has(source) and (key := _source_key(planned, role, sources.get(source))):
                    planned.inputs[role] = key
            elif steps[source].state != SKIPPED:
                planned.inputs[role] = steps[source].key
        planned.key = key_of(
            step.stage.name, step.stage.version, hashed(planned.config, planned.inputs), planned.inputs
        )
        _look_up(planned, store, earlier.get(step.name), steps)
    _check_steps(steps, config, sources)
    return Plan(recipe, config, store, sources, list(steps.values()), overrides)


def _source_key(planned: PlannedStep, role: str, source: Any) -> str:
    """Return the key of a source, or of the part of the marks that a step uses; empty if it uses none."""
    part = planned.step.stage.inputs[role].part
    return str(source.key if part is None else source.key_of(part(planned.config)))


def _with_precision(config: Any) -> Any:
    """Return a stage's values with ``precision = "auto"`` replaced by this machine's precision, which the key depends on."""
    if getattr(config, "precision", "") == "auto":
        return replace(config, precision=precision_here(config.device))
    return config


def _check_steps(steps: Mapping[str, PlannedStep], config: Config, sources: Sources) -> None:
    """Check the values of all steps that will run.

    Raises:
        ConfigError: some values cannot work; one line lists all of them.
    """
    checked: list[tuple[Any, ...]] = []
    problems: dict[str, str] = {}  # by message: the table of the first step that has the problem
    for planned in steps.values():
        if planned.state != TO_RUN:
            continue
        stage, roles = planned.step.stage, planned.step.inputs
        inputs = {
            role: sources.get(source) if (source := roles[role]) in SOURCES else steps[source].config
            for role in planned.inputs
        }
        case = (stage.name, planned.config, inputs)
        if case in checked:  # such as a network that is trained in several rounds
            continue
        checked.append(case)
        try:
            if getattr(planned.config, "device", "auto") != "auto":
                resolve_device(planned.config.device)
            stage.check(planned.config, inputs)
        except WssegError as error:
            problems.setdefault(str(error), planned.step.table)
    if problems:
        lines = [text if text.startswith(table) else f"{table}: {text}" for text, table in problems.items()]
        raise ConfigError(f"{config.path}: {'; '.join(lines)}")


def _missing_source(step: Step, steps: dict[str, PlannedStep], sources: Sources) -> str:
    """Return the first required input that is missing: a source that the config does not name, or a skipped step."""
    for role, source in step.inputs.items():
        if step.stage.inputs[role].optional:
            continue
        if source in SOURCES and not sources.has(source):
            return source
        if source in steps and steps[source].state == SKIPPED:
            return source
    return ""


def _newest_steps(store: ArtifactStore, recipe: str, config: str) -> dict[str, dict[str, Any]]:
    """Return the newest record of each step by name; runs of the same config, then of the same recipe, take precedence."""
    newest: dict[str, dict[str, Any]] = {}
    runs = list(store.runs().values())
    for run in sorted(runs, key=lambda r: (r["config_name"] == config, r["recipe"] == recipe, r["started"])):
        newest |= run["steps"]
    return newest


def _look_up(
    planned: PlannedStep, store: ArtifactStore, before: Mapping[str, Any] | None, steps: Mapping[str, PlannedStep]
) -> None:
    """Look a step's artifact up in the store, and set the step's state and reason.

    Args:
        planned: the step; its key is set.
        store: the store of artifacts.
        before: the newest record of this step, to compare with.
        steps: the steps before it, by name.
    """
    try:
        artifact = store.get(planned.key)
        damaged = artifact.damaged_files(content=False) if artifact else []
    except ArtifactError:
        artifact, damaged = None, [MANIFEST]
    if damaged:
        planned.why = f"damaged: {', '.join(damaged[:5])}; run with --repair"
    elif artifact:
        planned.state, planned.artifact = CACHED, artifact
    elif store.has_work(planned.key):
        planned.why = "interrupted; will resume"
    elif before is None:
        planned.why = "never ran"
    elif before["key"] == planned.key:
        reasons = {True: "its artifact was removed", False: "not finished"}
        planned.why = reasons.get(before.get("finished", ""), "not finished, or its artifact was removed")
    else:
        planned.why = "; ".join(_differences(planned, before, steps))


def _differences(planned: PlannedStep, before: Mapping[str, Any], steps: Mapping[str, PlannedStep]) -> list[str]:
    """Return the differences between a step's record and its plan, as ``NAME: BEFORE -> NOW``."""
    stage, now = planned.step.stage, hashed(planned.config, planned.inputs)
    lines = []
    if before["stage"] != stage.name or before["version"] != stage.version:
        lines.append(f"stage: {before['stage']} v{before['version']} -> {stage.name} v{stage.version}")
    for name in sorted({*before["config"], *now}):
        old, new = before["config"].get(name), now.get(name)
        if old != new:
            lines.append(f"{planned.step.table}.{name}: {_short(old)} -> {_short(new)}")
    for role in sorted({*before["inputs"], *planned.inputs}):
        old, new = before["inputs"].get(role), planned.inputs.get(role)
        if old != new:
            source = planned.step.inputs.get(role, role)
            if source in SOURCES:
                change = f": {_short(old)} -> {_short(new)}"
            else:
                recomputed = source in steps and steps[source].state != CACHED
                change = " will be recomputed" if recomputed else " has changed"
            lines.append(f"input {source!r}{change}")
    return lines


def _short(value: Any) -> str:
    if value is None:
        return "(none)"
    text = str(value)
    return text[:8] if len(text) == 64 else text


def summary(plan: Plan) -> dict[str, Any]:
    """Return ``{"stages": {NAME: {"key", "status", "seconds", "metrics"}}}`` after a run; failed steps have an ``error``."""
    stages: dict[str, Any] = {}
    for planned in plan.active:
        metrics = planned.artifact.manifest["metrics"] if planned.artifact else {}
        stages[planned.step.name] = {
            "key": planned.key,
            "status": planned.state,
            "seconds": round(planned.seconds, 3),
            "metrics": metrics,
            **({"error": planned.why} if planned.state == FAILED else {}),
        }
    return {"stages": stages}
