"""Worker processes: how scripts start them, and how they end with their parent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import pytest

from wsseg import workers
from wsseg.errors import MachineError, explaining
from wsseg.parallel import map_processes, map_threads, worker_count
from wsseg.workers import CONTEXT, in_worker

# a script without `if __name__ == "__main__"`; a worker that imports it would start workers again
SCRIPT = """
import os
from wsseg.parallel import map_processes
print("script runs in", os.getpid())
assert sorted(map_processes(abs, range(-3, 0), 2)) == [1, 2, 3]
"""


def threads(_):
    """Return the limits of a worker process; runs in the worker."""
    return os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads(), os.getpid()


def what_is_known(_):
    """Return what a worker process detects about itself; runs in the worker."""
    return in_worker(), os.environ.get("WORLD_SIZE"), getattr(sys.modules["__main__"], "__file__", None)


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_together_use_no_more_than_all_cores():
    results = list(map_processes(threads, range(6), 2))
    assert {(openmp, opencv) for openmp, opencv, _ in results} == {("1", 1)}
    assert os.getpid() not in {pid for *_, pid in results} and len({pid for *_, pid in results}) <= 2


def test_one_worker_is_this_process():
    assert [pid for *_, pid in map_processes(threads, range(2), 1)] == [os.getpid()] * 2


def test_a_worker_detects_itself_and_imports_no_main_module(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    main = sys.modules["__main__"]
    assert not in_worker()
    assert set(map_processes(what_is_known, range(3), 2)) == {(True, None, None)}
    assert sys.modules["__main__"] is main


@pytest.mark.parametrize("how", ["file", "guarded file", "removed file", "module", "pipe", "command", "package"])
def test_a_script_may_start_workers(tmp_path, how):
    script = tmp_path / "script.py"
    text = SCRIPT
    if how == "guarded file":
        text = "def main():\n    " + SCRIPT.replace("\n", "\n    ") + "\nif __name__ == '__main__':\n    main()\n"
    if how == "removed file":
        text = "import os\nos.remove(__file__)\n" + SCRIPT
    script.write_text(text, encoding="utf-8")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT, encoding="utf-8")
    arguments = {"module": ["-m", "script"], "pipe": ["-"], "command": ["-c", text], "package": ["package"]}
    done = subprocess.run(
        [sys.executable, *arguments.get(how, [str(script)])],
        cwd=tmp_path, input=text, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("script runs in") == 1 and done.stderr == ""


def test_a_killed_worker_is_explained():
    jobs = map_processes(kill_itself, range(2), 2)
    expected = pytest.raises(MachineError, match="a worker process was killed.*lower pseudo_masks.workers")
    with expected as excinfo, explaining("pseudo_masks", {"pseudo_masks.workers": 2}):
        list(jobs)
    assert isinstance(excinfo.value.__cause__, BrokenProcessPool)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX")
def test_workers_end_with_a_killed_parent(tmp_path):
    script = (
        "import os, time\nfrom wsseg.workers import CONTEXT, follow_parent\n"
        "worker = CONTEXT.Process(target=__import__('runpy').run_path, args=('child.py',), daemon=True)\n"
        "worker.start()\nprint(worker.pid, flush=True)\ntime.sleep(100)\n"
    )
    (tmp_path / "child.py").write_text(
        "import time\nfrom wsseg.workers import follow_parent\nfollow_parent()\nopen('ready', 'w').close()\ntime.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    wait_until(lambda: (tmp_path / "ready").exists())
    parent.kill()
    parent.wait(10)
    wait_until(lambda: not alive(worker))


def alive(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text(encoding="utf-8").rsplit(") ", 1)[1][0] != "Z"


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_zero_workers_mean_one_per_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert worker_count(0) == 3 and worker_count(7) == 7


def test_systems_without_affinity_or_with_few_handles(monkeypatch):
    """Like macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert worker_count(0) == 5
    monkeypatch.setattr(sys, "platform", "win32")
    assert worker_count(128) == 61


def test_a_system_without_semaphores_works_in_one_process(monkeypatch, caplog):
    monkeypatch.setattr(CONTEXT, "Lock", lambda: (_ for _ in ()).throw(OSError(38, "Function not implemented")))
    workers.startable.cache_clear()
    try:
        assert {pid for *_, pid in map_processes(threads, range(2), 2)} == {os.getpid()}
        assert list(map_processes(abs, [-1], 2)) == [1]
        assert caplog.text.count("all work runs in one process, because this system provides no semaphores") == 1
    finally:
        workers.startable.cache_clear()


def test_other_processes_of_the_user_still_import_their_script(tmp_path):
    """Only the workers of wsseg skip the import."""
    (tmp_path / "script.py").write_text(
        "import multiprocessing\nfrom wsseg.parallel import map_processes\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    list(map_processes(abs, [1, 2], 2))\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        print(pool.map(double, [1, 2]))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[2, 4]", done.stderr


def test_threads_return_results_in_order_and_few_jobs_wait():
    started = []

    def slow_first(number):
        started.append(number)
        time.sleep(0.02 if number == 0 else 0)
        return number

    taken = []
    for number in map_threads(slow_first, iter(range(50)), workers=2, ahead=3):
        taken.append(number)
        assert len(started) - len(taken) <= 6
    assert taken == list(range(50))


def test_threads_stop_at_the_first_error():
    results = map_threads(lambda number: 1 // number, range(3, -1000, -1), workers=2)
    with pytest.raises(ZeroDivisionError):
        list(results)
