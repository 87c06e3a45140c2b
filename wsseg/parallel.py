"""Ordered maps over processes and threads, with a bounded number of results in memory."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from wsseg.workers import CONTEXT, follow_parent, startable

Job = TypeVar("Job")
Result = TypeVar("Result")
_MOST_ON_WINDOWS = 61  # Windows cannot wait for more handles at once


def worker_count(workers: int, sharing: int = 1) -> int:
    """Return the number of processes for a setting of `workers`; 0 means one per core that this process may use.

    Args:
        workers: the setting.
        sharing: number of processes that start workers on the same cores; 0 is divided among them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or max(1, cores // sharing)
    return min(count, _MOST_ON_WINDOWS) if sys.platform == "win32" else count


def map_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int = 4
) -> Iterator[Result]:
    """Yield ``function(job)`` for each job, in order, computed by worker processes.

    Args:
        function: a function that can be pickled.
        jobs: its arguments.
        workers: number of processes; with 1, this process computes everything.
        ahead: number of jobs per worker that are submitted in advance.
    """
    if workers <= 1 or not startable():
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=CONTEXT, initializer=follow_parent) as pool:
        try:
            yield from _in_order(pool, function, jobs, ahead * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def map_threads(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int = 0, ahead: int = 2
) -> Iterator[Result]:
    """Yield ``function(job)`` for each job, in order, computed by threads.

    Use it for work that releases the interpreter's lock: decoding, OpenCV, NumPy on large arrays.

    Args:
        function: the function.
        jobs: its arguments.
        workers: number of threads; see `worker_count`.
        ahead: number of jobs per thread that are submitted in advance.
    """
    threads = worker_count(workers)
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from _in_order(pool, function, jobs, ahead * threads)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: Executor, function: Callable[[Job], Result], jobs: Iterable[Job], in_flight: int
) -> Iterator[Result]:
    """Yield results in the order of the jobs; at most `in_flight` results are in memory."""
    queue = iter(jobs)
    waiting = deque(pool.submit(function, job) for job in islice(queue, in_flight))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, job) for job in islice(queue, 1))
