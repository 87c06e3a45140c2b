"""Disks that fill up, vanish, turn read-only or fail late: one line, exit code 1, a whole store, and the run goes on after."""

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tortures.children import Child, digests, inconsistencies, run_words, write_config, wsseg

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
PATIENCE = 120.0
_SIZE = 120  # MiB of the small file system


def failing(after: int, code: int) -> Callable[[], None]:
    """Return what makes the `after`-th write, flush or rename of a process fail, and all later ones on a full disk."""

    def patch() -> None:
        left = after

        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0 or (left < 0 and code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)):
                    raise OSError(code, os.strerror(code), str(args[0]) if args else None)
                return call(*args, **kwargs)

            return wrapper

        os.fsync = guarded(os.fsync)
        Path.replace = guarded(Path.replace)  # type: ignore[method-assign]
        Path.rename = guarded(Path.rename)  # type: ignore[method-assign]
        Path.mkdir = guarded(Path.mkdir)  # type: ignore[method-assign]

    return patch


def one_line(said: str) -> str:
    """Return what is wrong with the errors that a failed run printed; nothing where it is one line."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        return f"{len(errors)} error lines"
    if "Traceback" in said or "internal error" in said:
        return "a traceback or an internal error"
    return ""


def judge(code: int | None, child: Child, store: Path, what: str) -> list[str]:
    """Return what is wrong after a run that was to fail."""
    wrong = [] if code == 1 else [f"{what}: exit code {code}: {child.said[-300:]}"]
    if code == 1 and (why := one_line(child.said)):
        wrong.append(f"{what}: {why}: {child.said[-300:]}")
    return wrong + [f"{what}: {w}" for w in (inconsistencies(store) if (store / "objects").is_dir() else [])]


def over_injections(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Let single writes fail at random places of runs, `count` times, each run going on where the last one failed."""
    config = write_config(folder)
    clean = Child(wsseg(run_words(config, folder / "clean")), folder / "clean.log")
    if (code := clean.wait(PATIENCE)) != 0:
        return {"failures": [f"the undisturbed run ended with {code}: {clean.said[-300:]}"], "failed_writes": 0}
    expected = digests(folder / "clean")
    failures: list[str] = []
    store, injected, finished = folder / "store", 0, 0
    while injected < count:
        code, after = int(rng.choice(CODES)), int(rng.geometric(1 / 60))
        child = Child(wsseg(run_words(config, store), failing(after, code)), folder / "run.log")
        ended = child.wait(PATIENCE)
        if ended == 0:
            finished += 1
            if digests(store) != expected:
                failures.append("artifacts differ from the undisturbed ones")
            shutil.rmtree(store)
            continue
        injected += 1
        failures += judge(ended, child, store, f"{errno.errorcode[code]} at write {after}")
    last = Child(wsseg(run_words(config, store)), folder / "run.log")
    if (ended := last.wait(PATIENCE)) != 0 or digests(store) != expected:
        failures.append(f"once the disk was well again the run ended with {ended}: {last.said[-300:]}")
    return {"failed_writes": injected, "runs_finished_between": finished, "failures": failures}


def over_a_small_file_system(folder: Path) -> dict[str, Any]:
    """Fill a real file system under a run, make it read-only, remove the store; None of it needs more than root's mount."""
    disk = folder / "small"
    disk.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        return {"skipped": f"mount: {mounted.stderr.decode().strip()}", "failures": []}
    failures: list[str] = []
    config, store, ballast = write_config(folder), disk / "store", disk / "ballast"
    try:
        child = Child(wsseg(run_words(config, store)), folder / "full.log")
        while not list((store / "work").glob("*/checkpoint.safetensors")) and child.wait(0.002) is None:
            pass
        fill(ballast)
        failures += judge(child.wait(PATIENCE), child, store, "a disk that fills up")
        child = Child(wsseg(run_words(config, store)), folder / "full.log")
        failures += judge(child.wait(PATIENCE), child, store, "a disk that is full")
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        child = Child(wsseg(run_words(config, store)), folder / "ro.log")
        code = child.wait(PATIENCE)
        if code != 1 or one_line(child.said):
            failures.append(f"a read-only store: exit code {code}: {child.said[-300:]}")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        child = Child(wsseg(run_words(config, store)), folder / "again.log")
        if (code := child.wait(PATIENCE)) != 0:
            failures.append(f"once there was room the run ended with {code}: {child.said[-300:]}")
        failures += inconsistencies(store)
        shutil.rmtree(store)
        child = Child(wsseg(run_words(config, store)), folder / "gone.log")
        while not list((store / "work").glob("*/seeds")) and child.wait(0.002) is None:
            pass
        shutil.rmtree(store, ignore_errors=True)
        code = child.wait(PATIENCE)
        if code != 1 or one_line(child.said):
            failures.append(f"a store removed under the run: exit code {code}: {child.said[-300:]}")
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True)
    return {"filled": True, "read_only": True, "removed": True, "failures": failures}


def fill(path: Path) -> None:
    """Write zeros until the disk is full, and again what is freed meanwhile."""
    with path.open("ab") as file:
        for _ in range(20):
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                time.sleep(0.05)


def torment(count: int, folder: Path) -> dict[str, Any]:
    """Let `count` writes fail, then torment a run on a real, small file system."""
    shutil.rmtree(folder, ignore_errors=True)
    injections = over_injections(count, folder, np.random.default_rng(0))
    small = over_a_small_file_system(folder)
    failures = injections.pop("failures") + small.pop("failures")
    return {"injected": injections, "small_file_system": small, "failures": failures}
