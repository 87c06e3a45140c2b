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
    LaunchError,
    OtherProcessError,
    explained,
    explaining,
)
from wsseg.metrics.wording import headline
from wsseg.running.plan import CACHED, FAILED, RAN, TRAINING, Plan, PlannedStep
from wsseg.running.provenance import made_with
from wsseg.running.recipe import SOURCES
from wsseg.running.run_log import RunLog, open_run_log
from wsseg.stages.layout import PER_IMAGE
from wsseg.store.artifact import FILES, MANIFEST, Artifact
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")
# messages of the main process to the others: a step to train, the end with the run's id, or the reason of a failure
_STEP, _END, _FAILED = "step ", "end ", "failed "
_LEAST_FREE = 50 * 2**20  # bytes on the store's disk


def run_plan(plan: Plan, repair: bool = False, command: str = "") -> str:
    """Run the steps that are not cached, in order; each result enters the store as soon as it is complete.

    Under a launcher, the main process runs the steps; the other processes join its trainings and take their part of the
    images of other steps. All of them return when the run has ended. The run keeps a log file, ``runs/ID.log`` in the store.

    Args:
        plan: from `make_plan`; the states, times and artifacts of its steps are filled in.
        repair: rebuild damaged artifacts of this plan; their undamaged files are kept.
        command: the API call, for the log file; empty for the command line of this process.

    Returns:
        The run's id. If a measuring step fails, the other steps still run; see `Plan.failed`.

    Raises:
        WssegError: a stage or the machine failed. Finished work is kept, and the same command resumes the run.
    """
    if not processes.is_main():
        return _run_helper(plan)
    store = plan.store
    with explaining():
        run_id, record = _new_record(plan)
    with (
        explaining(),
        store.run_in_progress(run_id, record),
        open_run_log(store.log_path(run_id), plan, command) as run_log,
    ):
        try:
            with explaining():
                for planned in plan.active:
                    try:
                        _complete_step(planned, plan, repair)
                    except Exception as error:
                        if not planned.step.stage.measures:
                            raise
                        _note_failure(planned, error, run_log)
            processes.broadcast(_END + run_id)
        except BaseException as error:
            record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            if isinstance(error, Exception) and all(p.state != TRAINING for p in plan.active):
                with suppress(OtherProcessError):
                    processes.broadcast(_FAILED + str(error))  # during a training, the others fail without a message
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


def _note_failure(planned: PlannedStep, error: Exception, run_log: RunLog) -> None:
    """Mark a measuring step as failed, and write the traceback to the run's log."""
    text = str(explained(error) or f"{type(error).__name__}: {error}")
    planned.state, planned.error, planned.why = FAILED, error, " ".join(text.split())
    log.warning("%s: failed: %s; the run continues", planned.step.name, planned.why)
    run_log.append_traceback(error)


def _new_record(plan: Plan) -> tuple[str, dict[str, Any]]:
    """Return the run's id and its record before any step runs; a run with the same keys keeps its id."""
    steps = {planned.step.name: planned.record() for planned in plan.active}
    keys = [step["key"] for step in steps.values()]
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
    for earlier_id, earlier in plan.store.runs().items():
        same_names = [earlier["recipe"], earlier["config_name"]] == [record["recipe"], record["config_name"]]
        if same_names and [step["key"] for step in earlier["steps"].values()] == keys:
            run_id = earlier_id
    return run_id, record


def _complete_step(planned: PlannedStep, plan: Plan, repair: bool) -> None:
    """Set the artifact of a step: take it from the store, or run the stage."""
    store, name = plan.store, planned.step.name
    if repair:
        with store.lock(planned.key):
            _reopen_if_damaged(planned, store)
    planned.artifact = _undamaged_artifact(store, planned.key)
    if planned.artifact:
        planned.state = CACHED
        log.info("%s: cached (%s)", name, planned.key[:12])
        return
    with store.lock(planned.key, blocking=False) as held:
        if not held:
            log.info("%s: waiting for another run that computes it", name)
    with store.lock(planned.key):
        planned.artifact = _undamaged_artifact(store, planned.key)  # another run may have finished it
        if planned.artifact:
            planned.state = CACHED
            return
        log.info("%s: runs (%s)", name, planned.why or "not cached")
        with progress.step(name, 1 + plan.active.index(planned), len(plan.active)):
            planned.artifact, planned.seconds = _run_stage(planned, plan)
        planned.state = RAN
        progress.step_done(name, planned.artifact.manifest["metrics"])
    text = headline(planned.artifact.manifest["metrics"])
    log.info("%s: done in %.1f s (%s)%s", name, planned.seconds, planned.key[:12], text and f": {text}")


def _undamaged_artifact(store: ArtifactStore, key: str) -> Artifact | None:
    """Return the artifact of `key`, or None if it is not complete.

    Raises:
        ArtifactError: files of the artifact are missing or have another size.
    """
    artifact = store.get(key)
    if artifact and (damaged := artifact.damaged_files(content=False)):
        raise ArtifactError(
            f"{artifact.folder}: missing or damaged: {', '.join(damaged[:5])}; "
            "run the same command with --repair to rebuild it"
        )
    return artifact


def _reopen_if_damaged(planned: PlannedStep, store: ArtifactStore) -> None:
    """Turn a damaged artifact into unfinished work, so that the step rebuilds its damaged files."""
    try:
        artifact = store.get(planned.key)
        damaged = artifact.damaged_files() if artifact else []
    except ArtifactError:
        damaged = [MANIFEST]
    if damaged:
        store.reopen(planned.key)
        extent = " (all files, because the digests are lost)" if {MANIFEST, FILES} & set(damaged) else ""
        log.warning(
            "%s: rebuilding %d damaged files: %s%s", planned.step.name, len(damaged), ", ".join(damaged[:5]), extent
        )
        planned.why = "damaged"


def _run_stage(planned: PlannedStep, plan: Plan) -> tuple[Artifact, float]:
    """Run a stage in its work folder and complete its artifact; the caller holds the key's lock.

    Returns:
        The artifact and the stage's wall time in seconds.
    """
    inputs = _inputs(planned, plan)
    provenance: dict[str, Any] = {}
    for value in inputs.values():
        if isinstance(value, Artifact):
            provenance |= value.manifest["provenance"]
    stage = planned.step.stage
    out = plan.store.open_work(planned.key)
    free = shutil.disk_usage(out).free
    if free < _LEAST_FREE:
        raise ArtifactError(
            f"{plan.store.root}: {free / 2**20:.0f} MiB of disk space are free; expected: at least "
            f"{_LEAST_FREE / 2**20:.0f} MiB; free some space and run the same command again"
        )
    if stage.distributed:
        processes.broadcast(_STEP + planned.step.name)
        processes.wait()  # until the others have copied the work folder
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
    """Return a step's inputs by role: data sources, and complete artifacts.

    Raises:
        ArtifactError: an artifact was removed after the plan was made.
    """
    inputs: dict[str, Any] = {}
    for role, key in planned.inputs.items():
        source = planned.step.inputs[role]
        inputs[role] = plan.sources.get(source) if source in SOURCES else plan.store.get(key)
        if inputs[role] is None:
            raise ArtifactError(
                f"{planned.step.name}: its input {source!r} ({key[:12]}) was removed from {plan.store.root} during the "
                "run; run the same command again"
            )
    return inputs


def _run_helper(plan: Plan) -> str:
    """Join the distributed steps of the main process until the run has ended; returns the run's id.

    A helper trains in a temporary copy of the main process's work folder, which holds the checkpoint to resume from. Files
    of images are written into that folder itself.
    """
    by_name = {planned.step.name: planned for planned in plan.active}
    while (message := processes.broadcast()).startswith(_STEP):
        planned = by_name[message.removeprefix(_STEP)]
        if not plan.store.has_work(planned.key):
            raise LaunchError(
                f"{plan.store.root}: the main process works in another folder of this name; expected with several machines: "
                "a store in a folder that they share; choose it with --store"
            )
        work = plan.store.open_work(planned.key)
        with tempfile.TemporaryDirectory() as folder, explaining(planned.step.name, planned.values()):
            if planned.step.stage.output not in PER_IMAGE:
                work = shutil.copytree(work, Path(folder) / "work")
            processes.wait()
            planned.step.stage.run(planned.config, _inputs(planned, plan), work)
    if message.startswith(_FAILED):
        raise OtherProcessError(f"the main process failed: {message.removeprefix(_FAILED)}")
    for planned in plan.active:
        planned.artifact, planned.state = plan.store.get(planned.key), CACHED
    return message.removeprefix(_END)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
