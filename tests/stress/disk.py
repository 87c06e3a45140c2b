"""Disks that fill up, vanish, turn read-only or fail late: one line, exit code 1, an intact store, and the run resumes afterwards."""

import errno
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.stress.children import Child, digests, inconsistencies, run_words, write_config, wsseg

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
PATIENCE = 120.0
_SIZE = 120  # MiB of the small file system


def counting(path: Path) -> Callable[[], None]:
    """Return what makes a process leave a byte in a file for each of its writes, flushes and renames."""

    def patch() -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        guard(lambda _: os.write(descriptor, b"."))

    return patch


def guard(before: Callable[[str | None], object]) -> None:
    """Have `before` called with the place of every write, flush, rename and new folder of this process.

    A write that fails leaves half of its bytes, as a full disk does. SQLite writes by itself: a file that it cannot read or
    write is done without (`wsseg.data.file_memory.FileMemory`).
    """

    class Guarded(io.FileIO):
        def write(self, data: Any) -> int:
            try:
                before(str(self.name))
            except OSError:
                super().write(memoryview(data)[: len(data) // 2])
                raise
            return super().write(data)

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "wb" and not args and not kwargs:
            return io.BufferedWriter(Guarded(path, "w"))
        return whole_open(path, mode, *args, **kwargs)

    whole_open = Path.open
    Path.open = opened  # type: ignore[method-assign, assignment]

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before(str(args[0]) if args else None)
            return call(*args, **kwargs)

        return wrapper

    os.fsync = guarded(os.fsync)
    Path.replace = guarded(Path.replace)  # type: ignore[method-assign]
    Path.rename = guarded(Path.rename)  # type: ignore[method-assign]
    Path.mkdir = guarded(Path.mkdir)  # type: ignore[method-assign]


def failing(after: int, code: int) -> Callable[[], None]:
    """Return what makes the `after`-th write, flush or rename of a process fail, and all later ones on a full disk."""

    left = after

    def count(place: str | None) -> None:
        nonlocal left
        left -= 1
        if left == 0 or (left < 0 and code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)):
            raise OSError(code, os.strerror(code), place)

    return lambda: guard(count)


def one_line(output: str) -> str:
    """Return what is wrong with the errors that a failed run printed; nothing where it is one line."""
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    if len(errors) != 1:
        return f"{len(errors)} error lines"
    if "Traceback" in output or "internal error" in output:
        return "a traceback or an internal error"
    return ""


def judge(code: int | None, child: Child, store: Path, what: str) -> list[str]:
    """Return what is wrong after a run that was to fail."""
    wrong = [] if code == 1 else [f"{what}: exit code {code}: {child.output[-300:]}"]
    if code == 1 and (why := one_line(child.output)):
        wrong.append(f"{what}: {why}: {child.output[-300:]}")
    return wrong + [f"{what}: {w}" for w in (inconsistencies(store) if (store / "objects").is_dir() else [])]


def over_every_write(most: int, folder: Path) -> dict[str, Any]:
    """Let the first, the second, the third ... write of a run fail, each in a store of its own, up to the last.

    Every tenth store is then run again, on a disk that is well.

    Args:
        most: how many; where there are more writes, they are spread over all of them.
        folder: where all is written.
    """
    config, store = write_config(folder), folder / "store"
    clean = Child(wsseg(run_words(config, folder / "clean"), counting(folder / "writes")), folder / "clean.log")
    if (code := clean.wait(PATIENCE)) != 0:
        return {"failures": [f"the undisturbed run ended with {code}: {clean.output[-300:]}"], "failed_writes": 0}
    expected, writes = digests(folder / "clean"), (folder / "writes").stat().st_size
    failures: list[str] = []
    places = sorted({1 + index * writes // min(most, writes) for index in range(min(most, writes))})
    again = 0
    for number, after in enumerate(places):
        code = CODES[number % len(CODES)]
        shutil.rmtree(store, ignore_errors=True)
        child = Child(wsseg(run_words(config, store), failing(after, code)), folder / "run.log")
        failures += judge(child.wait(PATIENCE), child, store, f"{errno.errorcode[code]} at write {after}")
        if number % 10 == 0:
            again += 1
            child = Child(wsseg(run_words(config, store)), folder / "run.log")
            if (ended := child.wait(PATIENCE)) != 0 or digests(store) != expected:
                failures.append(f"after write {after} failed, the next run ended with {ended}: {child.output[-300:]}")
    return {"writes_of_a_run": writes, "failed_writes": len(places), "run_again": again, "failures": failures}


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
        if code != 1 or one_line(child.output):
            failures.append(f"a read-only store: exit code {code}: {child.output[-300:]}")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        child = Child(wsseg(run_words(config, store)), folder / "again.log")
        if (code := child.wait(PATIENCE)) != 0:
            failures.append(f"once there was room the run ended with {code}: {child.output[-300:]}")
        failures += inconsistencies(store)
        shutil.rmtree(store)
        child = Child(wsseg(run_words(config, store)), folder / "gone.log")
        while not list((store / "work").glob("*/seeds")) and child.wait(0.002) is None:
            pass
        shutil.rmtree(store, ignore_errors=True)
        code = child.wait(PATIENCE)
        if code != 1 or one_line(child.output):
            failures.append(f"a store removed under the run: exit code {code}: {child.output[-300:]}")
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


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Let up to `count` writes fail, then stress a run on a real, small file system."""
    shutil.rmtree(folder, ignore_errors=True)
    injections = over_every_write(count, folder)
    small = over_a_small_file_system(folder)
    failures = injections.pop("failures") + small.pop("failures")
    return {"injected": injections, "small_file_system": small, "failures": failures}
