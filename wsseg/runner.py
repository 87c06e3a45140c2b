"""Plan x config x store -> artifacts: what is cached, what must run and why, and the running of it."""

import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsseg import processes, progress
from wsseg.config import Config, find_file, hashed, load_config, parse_table, plain
from wsseg.data.config import DATA_KINDS, DemoData, input_paths
from wsseg.data.images import LabeledImages, load_images
from wsseg.data.reading import FileMemory
from wsseg.errors import (
    ArtifactError,
    ConfigError,
    OtherProcessError,
    RecipeError,
    StageError,
    WssegError,
    explained,
    explaining,
)
from wsseg.models.device import precision_here, resolve_device
from wsseg.recipe import SOURCES, Recipe, Step, load_recipe
from wsseg.stages import TABLES
from wsseg.store.artifact import FILES, MANIFEST, Artifact
from wsseg.store.objects import ArtifactStore, key_of
from wsseg.workers import worker_count

log = logging.getLogger("wsseg")

# what the first process tells the others: a step to train, the end and the run's id, or why it failed
_STEP, _END, _FAILED = "step ", "end ", "failed "
CACHED, TO_RUN, TRAINING, RAN, SKIPPED, FAILED = "cached", "to run", "training", "ran", "skipped", "failed"
_PACKAGES = ("wsseg", "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "albumentations",
             "opencv-python-headless", "pillow", "numba", "accelerate")  # fmt: skip


class Sources:
    """The data set of a config: images with labels by split, and masks for those who may have them. Read once."""

    def __init__(self, data: Any, store: ArtifactStore) -> None:
        self._memory = FileMemory(store.root / "files.sqlite")
        self._data, self._folder = data, store.root / "data"
        for path in input_paths(data):
            if path.is_dir() and path.samefile(store.root):
                store.discard_empty()
                raise ConfigError(f"{path} is a folder of the data set; a store needs another one: choose --store")
        self._loaded: dict[str, Any] = {}

    @cached_property
    def data(self) -> Any:
        """The data config; a demo data set is generated first and then is a CSV data set like any other."""
        if not isinstance(self._data, DemoData):
            return self._data
        from wsseg.data.demo import demo_data

        self._folder.mkdir(parents=True, exist_ok=True)
        return demo_data(self._data, self._folder)

    def has(self, source: str) -> bool:
        """Return whether the config names a source."""
        from wsseg.data.truth import has_truth

        what, split = source.split(".")
        return has_truth(self.data, split) if what == "truth" else getattr(self.data, split) is not None

    def get(self, source: str) -> Any:
        """Return ``data.SPLIT`` (`LabeledImages`) or ``truth.SPLIT``; both have a `key`."""
        if source not in self._loaded:
            self._loaded[source] = self._load(*source.split("."))
        return self._loaded[source]

    def _load(self, what: str, split: str) -> Any:
        if what == "truth":
            from wsseg.data.truth import load_truth

            truth = load_truth(self.data, self.get(f"data.{split}"), self._memory)
            for note in truth.notes:
                log.warning("%s masks: %s", split, note)
            return truth
        classes = None if split == "train" else self.get("data.train").classes
        return load_images(self.data, split, self._memory, classes)


@dataclass
class PlannedStep:
    """One step with all that decides its key.

    Args:
        step: the recipe's step.
        config: its stage's values.
        inputs: key by role; empty for a skipped step.
        key: the artifact's key; empty for a skipped step.
        state: ``cached``, ``to run`` or ``skipped``; ``training`` while all processes run it; after a run ``ran``, or
            ``failed`` (steps that only measure).
        why: why it is not cached, is skipped, or failed.
        seconds: wall time, where it ran.
        artifact: the result, once it is there.
        error: what ended the step, if it failed.
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
        """Return what a run's record says of the step."""
        stage = self.step.stage
        return {
            "key": self.key,
            "stage": stage.name,
            "version": stage.version,
            "config": hashed(self.config),
            "inputs": self.inputs,
        }


@dataclass
class Plan:
    """A recipe's steps for one config and store, in order."""

    recipe: Recipe
    config: Config
    store: ArtifactStore
    sources: Sources
    steps: list[PlannedStep]

    @property
    def active(self) -> list[PlannedStep]:
        """The steps that are not skipped."""
        return [planned for planned in self.steps if planned.state != SKIPPED]

    @property
    def failed(self) -> dict[str, str]:
        """Why a step failed, by its name. Only steps that measure are here: the failure of any other ends the run."""
        return {planned.step.name: planned.why for planned in self.steps if planned.state == FAILED}

    def raise_failures(self) -> None:
        """Raise StageError if a step that only measures failed; everything else has finished by then."""
        if self.failed:
            errors = [planned.error for planned in self.steps if planned.error]
            reasons = "; ".join(f"{name} failed: {why}" for name, why in self.failed.items())
            raise StageError(f"{reasons}; all other steps finished") from errors[0]


def open_config(name: str, overrides: tuple[str, ...] = ()) -> Config:
    """Load a config by path or shipped name."""
    return load_config(find_file(name, "configs"), TABLES, DATA_KINDS, overrides)


def make_plan(recipe_name: str, config_name: str, store: ArtifactStore, overrides: tuple[str, ...] = ()) -> Plan:
    """Work out every step's key and whether it is cached; nothing is computed.

    Args:
        recipe_name: path of a recipe, or the name of a shipped one.
        config_name: path of a config, or the name of a shipped one.
        store: where artifacts are kept.
        overrides: ``TABLE.KEY=VALUE`` strings.

    Raises:
        RecipeError, ConfigError, DatasetError: the recipe, the config or the data set is not legal.
    """
    recipe = load_recipe(find_file(recipe_name, "pipelines"))
    config = open_config(config_name, overrides)
    sources = Sources(config.data, store)
    earlier = _newest_steps(store, recipe.name, config.name)
    steps: dict[str, PlannedStep] = {}
    for step in recipe.steps:
        planned = PlannedStep(step, _settled(config.tables[step.table]))
        steps[step.name] = planned
        if missing := _missing_source(step, steps, sources):
            if not step.optional:
                raise RecipeError(
                    f"{recipe.path}: steps.{step.name} needs {missing}, which {config.path} does not name"
                )
            planned.state, planned.why = SKIPPED, f"the config names no {missing}"
            continue
        for role, source in step.inputs.items():
            if source in SOURCES:
                if sources.has(source):
                    planned.inputs[role] = sources.get(source).key
            elif steps[source].state != SKIPPED:
                planned.inputs[role] = steps[source].key
        planned.key = key_of(step.stage.name, step.stage.version, hashed(planned.config), planned.inputs)
        _judge_state(planned, store, earlier.get(step.name), steps)
    _check_steps(steps, config, sources)
    return Plan(recipe, config, store, sources, list(steps.values()))


def _settled(config: Any) -> Any:
    """Return a stage's values with what ``auto`` precision means on this machine: it is that which is computed, and hashed."""
    return (
        replace(config, precision=precision_here(config.device))
        if getattr(config, "precision", "") == "auto"
        else config
    )


def _check_steps(steps: Mapping[str, PlannedStep], config: Config, sources: Sources) -> None:
    """Raise ConfigError, one line that tells of every problem, if a step that will run cannot work with its values."""
    checked: list[tuple[Any, ...]] = []
    problems: dict[str, str] = {}  # table of the first step that has it
    for planned in steps.values():
        if planned.state != TO_RUN:
            continue
        stage, roles = planned.step.stage, planned.step.inputs
        given = {
            role: sources.get(source) if (source := roles[role]) in SOURCES else steps[source].config
            for role in planned.inputs
        }
        case = (stage.name, planned.config, given)
        if case in checked:  # a network that is trained in several rounds
            continue
        checked.append(case)
        try:
            if getattr(planned.config, "device", "auto") != "auto":
                resolve_device(planned.config.device)
            stage.check(planned.config, given)
        except WssegError as error:
            problems.setdefault(str(error), planned.step.table)
    if problems:
        lines = [text if text.startswith(table) else f"{table}: {text}" for text, table in problems.items()]
        raise ConfigError(f"{config.path}: {'; '.join(lines)}")


def _missing_source(step: Step, steps: dict[str, PlannedStep], sources: Sources) -> str:
    """Return the first needed input that is not there: a source without config, or a skipped step."""
    for role, source in step.inputs.items():
        if step.stage.inputs[role].optional:
            continue
        if source in SOURCES and not sources.has(source):
            return source
        if source in steps and steps[source].state == SKIPPED:
            return source
    return ""


def _newest_steps(store: ArtifactStore, recipe: str, config: str) -> dict[str, dict[str, Any]]:
    """Return the newest record of each step, runs of the same recipe and config first."""
    newest: dict[str, dict[str, Any]] = {}
    runs = list(store.runs().values())
    for run in sorted(runs, key=lambda r: (r["config_name"] == config, r["recipe"] == recipe, r["started"])):
        newest |= run["steps"]
    return newest


def _judge_state(
    planned: PlannedStep, store: ArtifactStore, before: Mapping[str, Any] | None, steps: dict[str, PlannedStep]
) -> None:
    """Set `state` and `why` (before / now) of a step."""
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
        planned.why = "interrupted; it goes on from what is kept"
    elif before is None:
        planned.why = "never ran"
    elif before["key"] == planned.key:
        words = {True: "its artifact was removed", False: "it did not finish"}
        planned.why = words.get(before.get("finished", ""), "it did not finish, or its artifact was removed")
    else:
        planned.why = "; ".join(_differences(planned, before, steps))


def _differences(planned: PlannedStep, before: Mapping[str, Any], steps: dict[str, PlannedStep]) -> list[str]:
    stage, now = planned.step.stage, hashed(planned.config)
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
            kind = "" if source in SOURCES else " is made anew"
            lines.append(f"input {source}{kind}" + ("" if kind else f": {_short(old)} -> {_short(new)}"))
    return lines


def _short(value: Any) -> str:
    if value is None:
        return "(none)"
    text = str(value)
    return text[:8] if len(text) == 64 else text


def images_of(store: ArtifactStore, artifact: Artifact) -> LabeledImages:
    """Return the images that an artifact was made of, from the data set of a run that refers to it.

    Raises:
        ArtifactError: no run refers to it, or its data set has changed since.
        DatasetError: the data set cannot be read any more.
    """
    records = referring_runs(store, artifact)
    if not records:
        raise ArtifactError(f"{artifact.folder}: no run of this store refers to it, so its data set is not known")
    sources = Sources(recorded_data(records[-1]), store)
    for split in ("train", "val"):
        if sources.has(f"data.{split}"):
            images: LabeledImages = sources.get(f"data.{split}")
            if images.key == artifact.manifest["inputs"].get("images"):
                return images
    raise ArtifactError(f"{artifact.folder}: its images have changed since; run the recipe again")


def recorded_data(record: Mapping[str, Any]) -> Any:
    """Return the data config that a run's record keeps."""
    values = record["config"]["data"]
    return parse_table(DATA_KINDS[values["kind"]], values, "data", Path(record["config_path"]))


def referring_runs(store: ArtifactStore, artifact: Artifact) -> list[dict[str, Any]]:
    """Return the records of the runs that an artifact belongs to, oldest first."""
    return [
        record
        for record in store.runs().values()
        if any(step["key"] == artifact.key for step in record["steps"].values())
    ]


def recorded_inputs(records: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Return the files and folders that runs were made of; data sets that this version cannot tell of are left out."""
    paths = []
    for record in records:
        paths.append(Path(record["config_path"] or os.devnull))
        with suppress(WssegError, LookupError, TypeError):
            paths += input_paths(recorded_data(record))
    return paths


# --- running -----------------------------------------------------------------------------------------------------


def run_plan(plan: Plan, repair: bool = False) -> str:
    """Run what is not cached, in order; each result goes into the store the moment it is whole.

    With a launcher, the first process does so, and the others train along. All of them return when it is done.

    Args:
        plan: from `make_plan`; its steps' states, times and artifacts are filled in.
        repair: rebuild damaged artifacts of this plan; undamaged files of theirs are kept.

    Returns:
        The run's id. If a step that only measures fails, the others run all the same; see `Plan.failed`.

    Raises:
        WssegError: a stage cannot go on, or the machine does not let it; what is finished stays, and the same command
            resumes there.
    """
    if not processes.is_first():
        return _help_run(plan)
    store = plan.store
    with explaining():
        run_id, record = _recorded(plan)
    with explaining(), store.run_in_progress(run_id, record):
        try:
            with explaining():
                for planned in plan.active:
                    try:
                        _settle(planned, plan, repair)
                    except Exception as error:
                        if not planned.step.stage.measures:
                            raise
                        _note_failure(planned, error)
            processes.tell(_END + run_id)
        except BaseException as error:
            record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            if isinstance(error, Exception) and all(p.state != TRAINING for p in plan.active):
                with suppress(OtherProcessError):
                    processes.tell(_FAILED + str(error))  # within a training the others fail by themselves
            raise
        else:
            record["status"] = "failed" if plan.failed else "finished"
        finally:
            record["ended"] = _now()
            for planned in plan.active:
                record["steps"][planned.step.name]["finished"] = planned.artifact is not None
                if planned.state == FAILED:
                    record["steps"][planned.step.name]["failed"] = planned.why
            if store.root.is_dir():
                store.save_run(run_id, record)
    return run_id


def _note_failure(planned: PlannedStep, error: Exception) -> None:
    text = str(explained(error) or f"{type(error).__name__}: {error}")
    planned.state, planned.error, planned.why = FAILED, error, " ".join(text.split())
    log.warning("%s: failed: %s; the run continues", planned.step.name, planned.why)


def _recorded(plan: Plan) -> tuple[str, dict[str, Any]]:
    """Return the run's id and record before anything is computed; a run with the same keys keeps its id."""
    steps = {planned.step.name: planned.record() for planned in plan.active}
    keys = [s["key"] for s in steps.values()]
    record: dict[str, Any] = {
        "recipe": plan.recipe.name,
        "config_name": plan.config.name,
        "config_path": str(plan.config.path),
        "config": plan.config.as_dict(),
        "started": _now(),
        "status": "running",
        "steps": steps,
    }
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    run_id = f"{stamp}-{plan.recipe.name}-{plan.config.name}-{(keys or ['0'])[-1][:6]}"
    for known_id, known in plan.store.runs().items():
        same = [known["recipe"], known["config_name"]] == [record["recipe"], record["config_name"]]
        if same and [s["key"] for s in known["steps"].values()] == keys:
            run_id = known_id
    return run_id, record


def _settle(planned: PlannedStep, plan: Plan, repair: bool) -> None:
    """Find or make one step's artifact."""
    store, name = plan.store, planned.step.name
    if repair:
        with store.lock(planned.key):
            _repair(planned, store)
    planned.artifact = _intact(store, planned.key)
    if planned.artifact:
        planned.state = CACHED
        log.info("%s: cached (%s)", name, planned.key[:12])
        return
    with store.lock(planned.key, blocking=False) as held:
        if not held:
            log.info("%s: another run makes it; waiting", name)
    with store.lock(planned.key):
        planned.artifact = _intact(store, planned.key)  # another run may have made it meanwhile
        if planned.artifact:
            planned.state = CACHED
            return
        log.info("%s: runs (%s)", name, planned.why or "not cached")
        with progress.step(name, 1 + plan.active.index(planned), len(plan.active)):
            planned.artifact, planned.seconds = _execute(planned, plan)
        planned.state = RAN
        progress.step_done(name, planned.artifact.manifest["metrics"])
    log.info("%s: done in %.1f s (%s)", name, planned.seconds, planned.key[:12])


def _intact(store: ArtifactStore, key: str) -> Artifact | None:
    """Return a complete artifact whose files are all there, in their sizes."""
    artifact = store.get(key)
    if artifact and (damaged := artifact.damaged_files(content=False)):
        raise ArtifactError(
            f"{artifact.folder}: missing or damaged: {', '.join(damaged[:5])}; "
            "run the same command with --repair to rebuild it"
        )
    return artifact


def _repair(planned: PlannedStep, store: ArtifactStore) -> None:
    try:
        artifact = store.get(planned.key)
        damaged = artifact.damaged_files() if artifact else []
    except ArtifactError:
        damaged = [MANIFEST]
    if damaged:
        store.reopen(planned.key)
        whole = " (all of it: the digests are lost)" if {MANIFEST, FILES} & set(damaged) else ""
        log.warning(
            "%s: rebuilding %d damaged files: %s%s", planned.step.name, len(damaged), ", ".join(damaged[:5]), whole
        )
        planned.why = "damaged"


def _execute(planned: PlannedStep, plan: Plan) -> tuple[Artifact, float]:
    """Run a stage in its work folder and complete its artifact. The caller holds the key's lock."""
    inputs = _inputs(planned, plan)
    provenance: dict[str, Any] = {}
    for value in inputs.values():
        if isinstance(value, Artifact):
            provenance |= value.manifest["provenance"]
    stage = planned.step.stage
    out = plan.store.open_work(planned.key)
    free = shutil.disk_usage(out).free
    if free < 50 * 2**20:
        raise ArtifactError(f"{plan.store.root}: only {free / 2**20:.0f} MiB are free; make room and run again")
    if stage.distributed:
        processes.tell(_STEP + planned.step.name)
        processes.wait()  # the others have copied what they need
        planned.state = TRAINING
    start = time.monotonic()
    with explaining(planned.step.name, _dotted(planned)):
        metrics = stage.run(planned.config, inputs, out)
    seconds = time.monotonic() - start
    skipped = {s: dict(i.skipped) for s, i in inputs.items() if isinstance(i, LabeledImages) and i.skipped}
    manifest = {
        "format": 1,
        "step": planned.step.name,
        "stage": stage.name,
        "version": stage.version,
        "kind": stage.output,
        "config": plain(planned.config),
        "inputs": planned.inputs,
        "provenance": {**provenance, planned.step.table: {**plain(planned.config), **metrics.get("chosen", {})}},
        "metrics": metrics,
        "skipped_images": skipped,
        "made_with": {**_made_with(planned.config, stage.distributed), "seconds": round(seconds, 3)},
    }
    return plan.store.complete(planned.key, manifest), seconds


def _inputs(planned: PlannedStep, plan: Plan) -> dict[str, Any]:
    """Return a step's inputs by role: data sources, and artifacts that are complete.

    Raises:
        ArtifactError: an artifact was removed since the plan was made.
    """
    inputs: dict[str, Any] = {}
    for role, key in planned.inputs.items():
        source = planned.step.inputs[role]
        inputs[role] = plan.sources.get(source) if source in SOURCES else plan.store.get(key)
        if inputs[role] is None:
            raise ArtifactError(
                f"{planned.step.name}: its input {source} ({key[:12]}) was removed from {plan.store.root} meanwhile; "
                "run the same command again"
            )
    return inputs


def _dotted(planned: PlannedStep) -> dict[str, Any]:
    """Return a step's values by dotted key; ``workers`` is the number of processes that they mean."""
    values = plain(planned.config)
    if "workers" in values and not planned.step.stage.distributed:  # a training without workers reads by itself
        values["workers"] = worker_count(values["workers"])
    return {f"{planned.step.table}.{name}": value for name, value in values.items()}


def _help_run(plan: Plan) -> str:
    """Train along with the first process until it is done; returns the run's id.

    The work is done in a throw-away copy of the first process's work folder, which holds the checkpoint that it resumes.
    """
    by_name = {planned.step.name: planned for planned in plan.active}
    while (said := processes.tell()).startswith(_STEP):
        planned = by_name[said.removeprefix(_STEP)]
        with tempfile.TemporaryDirectory() as folder, explaining(planned.step.name, _dotted(planned)):
            copy = shutil.copytree(plan.store.open_work(planned.key), Path(folder) / "work")
            processes.wait()
            planned.step.stage.run(planned.config, _inputs(planned, plan), copy)
    if said.startswith(_FAILED):
        raise OtherProcessError(f"the first process failed: {said.removeprefix(_FAILED)}")
    for planned in plan.active:
        planned.artifact, planned.state = plan.store.get(planned.key), CACHED
    return said.removeprefix(_END)


def _made_with(config: Any, distributed: bool) -> dict[str, Any]:
    """Return what a result was made with: recorded, never hashed."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    made: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform(), "packages": packages}
    made["commit"] = _commit()
    if "torch" in sys.modules and hasattr(config, "device"):
        made["processes"] = processes.count() if distributed else 1
        made["device"], made["threads"] = str(resolve_device(config.device)), sys.modules["torch"].get_num_threads()
        made["precision"] = config.precision
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made["peak_memory_mib"] = round(peak / (2**20 if sys.platform == "darwin" else 2**10))
    return made


def _commit() -> str | None:
    """Return the commit of the checkout that wsseg runs from, or None in an installed package."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def summary(plan: Plan) -> dict[str, Any]:
    """Return ``{"stages": {NAME: {"key", "status", "seconds", "metrics"}}}`` of a plan that has run; ``error`` if failed."""
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
