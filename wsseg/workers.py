"""Worker processes: how they start and end, and whether this system can start them.

Workers never import the user's script, leave Ctrl-C to their parent, and end when their parent is killed. All processes
that wsseg starts come from `CONTEXT`: the pools of the CRF and of the random walk, and the loaders of training images.
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
    """Hide the user's script from `multiprocessing`, which would import it in each new process.

    A script without ``if __name__ == "__main__"`` would call `wsseg.run` again in every worker. A script that was read
    from a pipe, or removed after its start, cannot be imported at all.
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
    """Block Ctrl-C in processes that start inside the block, which would print tracebacks during their imports.

    New processes inherit the signal mask of this one.
    """
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
    """Prepare a worker process; this is the first function that runs in it.

    The worker ignores Ctrl-C and ends when its parent does, because a killed parent closes no queue. It uses one thread,
    since the workers together use all cores, and it is not a process of the launcher's group.
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
    """Return whether `multiprocessing` has started this process, also while it still imports its parent's script."""
    importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    return importing or multiprocessing.parent_process() is not None


@cache
def startable() -> bool:
    """Return whether this system can start worker processes that communicate; if not, log one warning."""
    try:
        CONTEXT.Lock()
    except (OSError, ImportError) as error:  # /dev/shm is missing or full, or the system has no semaphores
        log.warning("all work runs in one process, because this system provides no semaphores (%s)", error)
        return False
    return True
