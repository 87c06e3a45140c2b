"""Runs the steps of a plan that are not cached, in order."""

import logging
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsseg import processes, progress
from wsseg.config import plain
from wsseg.data.images import LabeledImages
from wsseg.errors import (
    ArtifactError,
    OtherProcessError,
    explained,
    explaining,
)
from wsseg.running.plan import CACHED, FAILED, RAN, TRAINING, Plan, PlannedStep
from wsseg.running.provenance import made_with
from wsseg.running.recipe import SOURCES
from wsseg.store.artifact import FILES, MANIFEST, Artifact
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")
# what the first process tells the others: a step to train, the end and the run's id, or why it failed
_STEP, _END, _FAILED = "step ", "end ", "failed "


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
    if not processes.is_main():
        return _run_helper(plan)
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
            processes.broadcast(_END + run_id)
        except BaseException as error:
            record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            if isinstance(error, Exception) and all(p.state != TRAINING for p in plan.active):
                with suppress(OtherProcessError):
                    processes.broadcast(_FAILED + str(error))  # within a training the others fail by themselves
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
        processes.broadcast(_STEP + planned.step.name)
        processes.wait()  # the others have copied what they need
        planned.state = TRAINING
    start = time.monotonic()
    with explaining(planned.step.name, planned.values()):
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
        "made_with": {**made_with(planned.config, stage.distributed), "seconds": round(seconds, 3)},
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


def _run_helper(plan: Plan) -> str:
    """Train along with the first process until it is done; returns the run's id.

    The work is done in a throw-away copy of the first process's work folder, which holds the checkpoint that it resumes.
    """
    by_name = {planned.step.name: planned for planned in plan.active}
    while (said := processes.broadcast()).startswith(_STEP):
        planned = by_name[said.removeprefix(_STEP)]
        with tempfile.TemporaryDirectory() as folder, explaining(planned.step.name, planned.values()):
            copy = shutil.copytree(plan.store.open_work(planned.key), Path(folder) / "work")
            processes.wait()
            planned.step.stage.run(planned.config, _inputs(planned, plan), copy)
    if said.startswith(_FAILED):
        raise OtherProcessError(f"the first process failed: {said.removeprefix(_FAILED)}")
    for planned in plan.active:
        planned.artifact, planned.state = plan.store.get(planned.key), CACHED
    return said.removeprefix(_END)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
