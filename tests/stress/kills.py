"""SIGKILL at random moments: over whole runs, and over the store's own renames, `gc` and `verify`."""

import os
import shutil
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.stress.children import Child, digests, inconsistencies, run_words, write_config, wsseg
from wsseg.errors import WssegError
from wsseg.store.artifact import CHECKPOINT, FILES, MANIFEST
from wsseg.store.files import TEMPORARY, atomic_write
from wsseg.store.objects import ArtifactStore

LONGEST_END = 2.0  # s from Ctrl-C to the end
PATIENCE = 120.0  # s that an undisturbed run may take
# what is written at the end, from what is kept: no item
IGNORED = {CHECKPOINT, MANIFEST, FILES, "network.safetensors", "network.json", "report.json"}


def finished_items(store: Path) -> Iterator[tuple[str, int]]:
    """Yield (key/name, time of change) of every whole file of unfinished artifacts."""
    for path in (store / "work").rglob("*"):
        try:
            if path.is_file() and path.name not in IGNORED and not path.name.startswith(TEMPORARY):
                yield str(path.relative_to(store / "work")), path.stat().st_mtime_ns
        except FileNotFoundError:
            continue


def over_runs(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill runs of the whole recipe `best` until `count` kills are reached and the last run is finished."""
    shutil.rmtree(folder, ignore_errors=True)
    config = write_config(folder)
    for _ in range(2):  # the second one finds all compiled and in memory, as those do that are killed
        shutil.rmtree(folder / "clean", ignore_errors=True)
        begin = time.monotonic()
        clean = Child(wsseg(run_words(config, folder / "clean")), folder / "clean.log")
        if (code := clean.wait(PATIENCE)) != 0:
            return {"failures": [f"the undisturbed run ended with {code}: {clean.output[-300:]}"]}
        undisturbed = time.monotonic() - begin
    expected = digests(folder / "clean")
    failures: list[str] = []
    kills = runs = redone = kept = 0
    whole: list[float] = []  # s of runs that nothing disturbed
    killed: list[tuple[int, float]] = []  # kills, and s in all, of the others
    while kills < count:
        store = folder / "killed"
        shutil.rmtree(store, ignore_errors=True)
        runs += 1
        seen: dict[str, int] = {}
        before, busy = kills, 0.0
        while True:
            begin = time.monotonic()
            child = Child(wsseg(run_words(config, store)), folder / "killed.log")
            code = child.wait(float(rng.exponential(undisturbed / 3)) if kills < count else PATIENCE)
            busy += time.monotonic() - begin
            if code is not None:
                break
            child.kill(with_workers=bool(rng.integers(2)))
            kills += 1
            seen |= dict(finished_items(store)) if (store / "work").is_dir() else {}
        if kills == before:
            whole.append(busy)
        else:
            killed.append((kills - before, busy))
        if code != 0:
            failures.append(f"run {runs} ended with {code}: {child.output[-300:]}")
            continue
        if digests(store) != expected:
            failures.append(f"run {runs}: artifacts differ from the undisturbed ones")
        failures += [f"run {runs}: {wrong}" for wrong in inconsistencies(store)]
        for name, changed in seen.items():
            again = (store / "objects" / name).stat().st_mtime_ns != changed
            redone, kept = redone + again, kept + (not again)
    if redone:
        failures.append(f"{redone} finished items were made again")
    return {
        "kills": kills,
        "runs": runs,
        "seconds_of_a_run": round(usual := statistics.median(whole or [undisturbed]), 2),
        "seconds_lost_a_kill": round(sum(s - usual for _, s in killed) / max(kills, 1), 2),
        "finished_items_kept": kept,
        "failures": failures,
    }


def care(store: Path, rng_seed: int) -> None:
    """Make, damage, reopen, verify and remove small artifacts for ever: nothing but renames and removals."""
    opened, rng = ArtifactStore(store), np.random.default_rng(rng_seed)
    manifest = {"kind": "seeds", "step": "toy", "stage": "toy", "metrics": {}, "provenance": {}}
    for index in range(1_000_000):
        key = f"{int(rng.integers(6)):064x}"
        with opened.lock(key):
            work = opened.open_work(key)
            if not (store / "objects" / key).exists():
                for number in range(3):
                    atomic_write(work / "seeds" / f"{number}.png", key.encode() * (number + 1))
                opened.complete(key, manifest)
            elif index % 3 == 0:
                (store / "objects" / key / "seeds" / "1.png").write_bytes(b"rot")
                opened.reopen(key)
        if index % 5 == 0:
            step = {"key": f"{int(rng.integers(6)):064x}", "stage": "toy", "version": 1, "config": {}, "inputs": {}}
            used = {
                "recipe": "toy",
                "config_name": "toy",
                "status": "running",
                "steps": {"toy": step},
                "started": str(index),
            }
            opened.save_run(f"run{int(rng.integers(3))}", used)
        if index % 7 == 0:
            opened.collect(keep=1)
        if index % 11 == 0:  # what verify does
            for key in opened.keys():
                with opened.lock(key):
                    artifact = opened.get(key)
                    if artifact is not None:
                        artifact.damaged_files()


def over_care(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a process that does nothing but rename, repair and collect; after each kill look for half-made objects."""
    shutil.rmtree(folder, ignore_errors=True)
    store = folder / "store"
    ArtifactStore(store)
    failures: list[str] = []
    unfinished_repairs = 0
    for number in range(count):
        child = Child(lambda number=number: care(store, number), folder / "care.log")  # type: ignore[misc]
        if (code := child.wait(float(rng.uniform(0.005, 0.15)))) is not None:
            failures.append(f"care ended by itself with {code}: {child.output[-300:]}")
            continue
        child.kill(with_workers=True)
        opened = ArtifactStore(store)
        for key in opened.keys():
            if not (store / "objects" / key / "manifest.json").exists():
                unfinished_repairs += 1  # it says so at the next use, and is taken for nothing
                shutil.rmtree(store / "objects" / key)
            elif (artifact := opened.get(key)) is None or artifact.damaged_files() not in ([], ["seeds/1.png"]):
                failures.append(f"after kill {number}: object {key[-4:]} is half-made")
        try:
            opened.runs(strict=True)
        except WssegError as error:
            failures.append(f"after kill {number}: {error}")
    return {"kills": count, "repairs_caught_midway": unfinished_repairs, "failures": failures}


def over_interrupts(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Press Ctrl-C at random moments of runs: the message says what is kept, and the run ends soon."""
    config, store = write_config(folder), folder / "interrupted"
    failures, waits = [], []
    while len(waits) < count:
        child = Child(wsseg(run_words(config, store)), folder / "interrupted.log")
        if child.wait(float(rng.uniform(0.5, 3))) is not None:
            shutil.rmtree(store)
            continue
        begin = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        code = child.wait(PATIENCE)
        if code == 0:  # it had just finished
            shutil.rmtree(store)
            continue
        waits.append(time.monotonic() - begin)
        if code != 130 or "Finished work is kept" not in child.output or "Traceback" in child.output:
            failures.append(f"Ctrl-C: exit code {code}: {child.output[-300:]}")
    if max(waits) > LONGEST_END:
        failures.append(f"Ctrl-C: {max(waits):.1f} s until the end")
    return {"interrupts": count, "longest_end_seconds": round(max(waits), 2), "failures": failures}


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Kill `count` times in all, a third of it within the store's own care, and press Ctrl-C a tenth as often."""
    rng = np.random.default_rng(0)
    over_store = over_care(count // 3, folder / "care", rng)
    over_stages = over_runs(count - count // 3, folder / "runs", rng)
    ended = over_interrupts(max(2, count // 10), folder / "interrupts", rng)
    failures = [f for part in (over_stages, over_store, ended) for f in part.pop("failures")]
    return {"stages": over_stages, "store": over_store, "ctrl_c": ended, "failures": failures}
