"""Small limits: shared memory, memory, open files, and workers that the system kills."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.stress.trial import PATIENCE, Trial

_WORKERS = 6  # that a run starts: two for each training, and for the CRF


def small_shared_memory(trial: Trial, count: int) -> str:
    """Run with a container's /dev/shm; returns why not, if it cannot be mounted."""
    mount = "mount -t tmpfs -o size={size} tmpfs /dev/shm"
    private = ["unshare", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run([*private, mount.format(size="64k")], capture_output=True, text=True)
    if tried.returncode != 0:
        return tried.stderr.strip()
    for size in ("64m", "64k", "1m")[:count]:
        line = subprocess.list2cmdline(trial.words(store := trial.store()))
        trial.ended(f"shared memory of {size}", [*private, f"{mount.format(size=size)} && exec {line}"], store)
    return ""


def limits(trial: Trial, count: int) -> dict[str, int]:
    """Run with little memory and few open files: it ends well, or in one line; then run again without the limit.

    C libraries that get no memory may end the process by themselves (SIGSEGV, SIGABRT): that is counted apart.
    """
    given = [f"-v {1_000_000 + 6_000_000 * i // count}" for i in range(count)] + ["-n 24", "-n 64"][:count]
    crashes = (-signal.SIGSEGV, -signal.SIGABRT)
    codes = []
    for limit in given:
        line = subprocess.list2cmdline(trial.words(store := trial.store()))
        what = f"ulimit {limit}"
        codes.append(trial.ended(what, f"{what} && exec {line}", store, codes=(0, 1, *crashes)))
        if codes[-1] != 0:
            trial.ended(f"after {what}", trial.words(store), store)
    return {"runs": len(given), "one_line": codes.count(1), "crashed_in_c": sum(code in crashes for code in codes)}


def killed_workers(trial: Trial, count: int) -> int:
    """Kill worker processes, as a system does when memory runs out; then run again."""
    kills = 0
    for number in range(count):
        store = trial.store()
        with (trial.folder / "killed.log").open("wb") as log:
            process = subprocess.Popen(
                trial.words(store), stdout=log, stderr=log, cwd=trial.folder, start_new_session=True
            )
        wanted, deadline = 1 + number % _WORKERS, time.monotonic() + PATIENCE
        seen: set[int] = set()
        while process.poll() is None and time.monotonic() < deadline:
            seen |= set(spawned(process.pid))
            if len(seen) >= wanted:
                os.kill(sorted(seen)[-1], signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            trial.failures.append(f"worker {wanted} killed: the run hangs")
            continue
        output = (trial.folder / "killed.log").read_text(encoding="utf-8", errors="replace")
        trial.judge(f"worker {wanted} killed", code, output, store, codes=(0, 1))
        trial.ended(f"after worker {wanted} was killed", trial.words(store), store)
    return kills


def spawned(pid: int) -> list[int]:
    """Return the worker processes of a process (Linux)."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text(encoding="utf-8").rsplit(") ", 1)[1].split()[1])
            if parent == pid and b"multiprocessing.spawn" in (folder / "cmdline").read_bytes():
                pids.append(int(folder.name))
        except OSError:
            continue
    return pids


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Run under `count` limits of memory, and kill as many workers."""
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(folder)
    metrics: dict[str, Any] = {}
    if trial.run_undisturbed():
        skipped = small_shared_memory(trial, count)
        metrics["small_shared_memory"] = f"skipped: {skipped}" if skipped else min(count, 3)
        metrics |= {"limits": limits(trial, count), "killed_workers": killed_workers(trial, count)}
    return {**metrics, "failures": trial.failures}
