"""Worker processes: what they inherit, how they end, and whether this system can start them.

Workers never import the user's script, leave Ctrl-C to their parent, and end when it is killed.
Every process that wsseg starts comes from `CONTEXT`: the pools of the CRF and of the walk, and the loaders of training images.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import connection
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType

from wsseg.processes import LAUNCHER_VARIABLES

log = logging.getLogger("wsseg")
_start = threading.RLock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the user's script from `multiprocessing`, which tells each new process to import it.

    A script without ``if __name__ == "__main__"`` would call `wsseg.run` again in every worker; one that came through a
    pipe, or was removed meanwhile, cannot be imported at all.
    """
    with _start:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: they inherit the mask, and would print tracebacks while they import."""
    if sys.platform == "win32":
        yield
    else:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(SpawnProcess):
    def start(self) -> None:
        with _without_main(), _interrupts_held_back():
            super().start()


class _WorkerContext(SpawnContext):
    Process = _Worker


CONTEXT = _WorkerContext()


def follow_parent(_number: int = 0) -> None:
    """Prepare a worker process; it runs there first.

    It ignores Ctrl-C and dies with its parent (a killed one cannot say so, and the queues stay open). It uses one thread: the
    processes together take all cores already. It is no process of a launcher's group.
    """
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for name in LAUNCHER_VARIABLES:
        os.environ.pop(name, None)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def in_worker() -> bool:
    """Return whether this process was started by `multiprocessing`, or imports its parent's script just now."""
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    return importing or multiprocessing.parent_process() is not None


@cache
def startable() -> bool:
    """Return whether this system lets processes talk to each other; if not, one line says so, once."""
    try:
        CONTEXT.Lock()
    except (OSError, ImportError) as error:  # no or a full /dev/shm, a system without semaphores
        log.warning("one process does all the work: this system refuses semaphores (%s)", error)
        return False
    return True
