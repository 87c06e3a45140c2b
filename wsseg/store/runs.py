"""Records of runs, and the lookup of runs and artifacts by the names that users type."""

import json
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsseg.config import expand_home
from wsseg.errors import ArtifactError, nearest
from wsseg.store.artifact import MANIFEST, Artifact
from wsseg.store.files import check_format

if TYPE_CHECKING:
    from wsseg.store.objects import ArtifactStore

_KEY = re.compile(r"[0-9a-f]{64}")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of one run: ``runs/ID.json``.

    Raises:
        ArtifactError: the record is damaged.
        FormatError: another version of wsseg wrote the record in another format.
        FileNotFoundError: the record does not exist.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        record = json.loads(path.read_bytes())
        if isinstance(record, dict):
            check_format(record, path)
        if not _is_record(record):
            raise ValueError("it is not a record of a run")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: {error}; delete it if the run is no longer needed") from error
    return {"config": {}, "config_path": "", **record}


def _is_record(record: Any) -> bool:
    """Return whether a run's record has all fields that later runs and reports need."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("recipe", "config_name", "started", "status"))
        and isinstance(record.get("config", {}), dict)
        and isinstance(record.get("config_path", ""), str)
        and isinstance(record.get("steps"), dict)
        and all(_is_step(step) for step in record["steps"].values())
    )


def _is_step(step: Any) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("key"), str)
        and _KEY.fullmatch(step["key"]) is not None
        and isinstance(step.get("stage"), str)
        and isinstance(step.get("version"), int)
        and isinstance(step.get("config"), dict)
        and are_keys(step.get("inputs"))
    )


def are_keys(inputs: Any) -> bool:
    """Return whether `inputs` maps roles to keys."""
    return isinstance(inputs, dict) and all(isinstance(key, str) for key in inputs.values())


def full_name(reference: str, names: Iterable[str], things: str) -> str | None:
    """Return the name that `reference` abbreviates, or None if no name matches.

    Args:
        reference: a name or its first characters.
        names: all names.
        things: plural noun for the error message, such as ``runs``.

    Raises:
        ArtifactError: several names start with `reference`.
    """
    matches = [name for name in names if name.startswith(reference)]
    if reference in matches:
        return reference
    if len(matches) > 1:
        unit = "digits" if re.fullmatch("[0-9a-f]+", reference) else "characters"
        raise ArtifactError(
            f"{reference}: ambiguous: {len(matches)} {things} match ({', '.join(matches[-4:])}); give more {unit}"
        )
    return matches[0] if matches else None


def find_run(store: "ArtifactStore", reference: str | None) -> tuple[str, dict[str, Any]]:
    """Return (id, record) of a run.

    Args:
        store: the store that holds the run.
        reference: the run's id or its first characters; None for the newest run.

    Raises:
        ArtifactError: no run or several runs match, or the record is damaged.
    """
    if reference is not None and store.has_run(reference):  # a damaged record raises its own error
        return reference, store.run(reference)
    runs = store.runs()
    if not runs:
        raise ArtifactError(f"{store.root}: no run yet; start one, such as: wsseg run cam_crf -c demo")
    if reference is None:
        return list(runs.items())[-1]
    run_id = full_name(reference, runs, "runs")
    if run_id is None:
        raise ArtifactError(f"{reference}: no such run; known: {', '.join(list(runs)[-8:])}{nearest(reference, runs)}")
    return run_id, runs[run_id]


def find_artifact(store: "ArtifactStore", reference: str) -> Artifact:
    """Return the artifact that a reference names.

    Args:
        store: the store that holds the artifact.
        reference: a key or at least its first 4 digits; an artifact's folder; a step, such as ``segmenter``, of the
            newest run that has finished it; or ``RUN:STEP``, where RUN is a run's id or its first characters.

    Raises:
        ArtifactError: no artifact or several artifacts match.
        ConfigError: the reference is a path that starts with an unknown ``~user``.
    """
    folder = Path(expand_home(reference))
    name = folder.resolve().name if folder.is_dir() and (folder / MANIFEST).is_file() else reference
    if re.fullmatch(r"[0-9a-f]{4,64}", name):
        key = full_name(name, store.keys(), "artifacts")
        if key and (artifact := store.get(key)):
            return artifact
        if folder.is_dir():
            raise ArtifactError(f"{reference}: an artifact of another store; choose it with --store")
    run_name, _, step = reference.rpartition(":")
    runs = store.runs()
    run_id = full_name(run_name, runs, "runs") if run_name else None
    steps: set[str] = set()
    unfinished = ""
    for candidate_id, run in reversed(runs.items()):
        steps |= set(run["steps"])
        if (not run_name or candidate_id == run_id) and step in run["steps"]:
            key = run["steps"][step]["key"]
            if artifact := store.get(key):
                return artifact
            unfinished = unfinished or _why_absent(store, candidate_id, run, key)
    if unfinished:
        raise ArtifactError(f"{reference}: {unfinished}")
    reason = "the folder is not a finished artifact" if folder.is_dir() else "no such artifact"
    raise ArtifactError(
        f"{reference}: {reason} in {store.root}; expected: a key, an artifact's folder, or a step of a run "
        f"({', '.join(sorted(steps)) or 'there is no run yet'}){nearest(step, steps)}"
    )


def _why_absent(store: "ArtifactStore", run_id: str, run: Mapping[str, Any], key: str) -> str:
    """Return why a step of a run has no artifact, and the command that creates it."""
    command = f"'wsseg run {run['recipe']} -c {run['config_path'] or run['config_name']}'"
    if store.is_running(run_id):
        return f"run {run_id} is in progress and has not finished this step"
    if store.has_work(key):
        return f"run {run_id} ({run['status']}) did not finish this step; {command} resumes it"
    return f"run {run_id} ({run['status']}) has no artifact of this step: the run did not reach it, or the artifact was removed; {command} creates it"
