import os

import cv2

from wsseg.stages.base import map_processes, worker_count


def threads(_):
    """What a worker process may use; runs there."""
    return os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads(), os.getpid()


def test_workers_do_not_take_more_cores_than_there_are():
    found = list(map_processes(threads, range(6), 2))
    assert {(openmp, opencv) for openmp, opencv, _ in found} == {("1", 1)}
    assert os.getpid() not in {pid for *_, pid in found} and len({pid for *_, pid in found}) <= 2


def test_one_worker_is_this_process():
    assert [pid for *_, pid in map_processes(threads, range(2), 1)] == [os.getpid()] * 2


def test_zero_workers_mean_one_a_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert worker_count(0) == 3 and worker_count(7) == 7
