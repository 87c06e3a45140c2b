"""What surrounds a run: scripts of every form, launchers' leftovers, locales, closed streams, small limits, killed workers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.stress.children import digests, inconsistencies, run_words, write_config
from tests.stress.disk import one_line

PATIENCE = 240.0
_RECIPE = "cam_crf"
_WORKERS = 6  # that a run starts: two for each training, and for the CRF
_SCRIPT = "import wsseg\nprint('run', wsseg.run({recipe!r}, {config!r}, store={store!r}).id)\n"
_C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENVIRONMENTS = {
    "RANK=": {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""},
    "RANK alone": {"RANK": "3"},
    "RANK=x": {"RANK": "x", "LOCAL_RANK": "y"},
    "MPI's leftovers": {"PMI_SIZE": "2", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    "C locale": _C_LOCALE,
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
}
REFUSED = {"WORLD_SIZE alone": {"WORLD_SIZE": "2"}, "WORLD_SIZE=x": {"WORLD_SIZE": "x"}}
REDIRECTIONS = ("2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full")


class Trial:
    """Runs of the tiny pipeline, each in a store of its own, compared with an undisturbed one.

    Args:
        folder: where all is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, write_config(folder, workers=2)
        self.failures: list[str] = []
        self.stores = 0
        self.expected: Any = None

    def store(self) -> Path:
        """Return the folder of a new store."""
        self.stores += 1
        return self.folder / f"store{self.stores}"

    def words(self, store: Path) -> list[str]:
        """Return the command that runs the pipeline."""
        return [sys.executable, "-m", "wsseg", *run_words(self.config, store, _RECIPE)]

    def ended(
        self, what: str, command: list[str] | str, store: Path, codes: tuple[int, ...] = (0,), **options: Any
    ) -> int:
        """Run a command to its end; note what is wrong with its end and with the store."""
        start = time.monotonic()
        env = {**os.environ, **options.pop("env", {})}
        process = subprocess.Popen(
            command, env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            shell=isinstance(command, str), start_new_session=True, **options,
        )  # fmt: skip
        try:
            output = process.communicate(timeout=PATIENCE)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.failures.append(f"{what}: it hangs; killed after {time.monotonic() - start:.0f} s")
            return -1
        self.judge(what, process.returncode, output, store, codes)
        return process.returncode

    def judge(self, what: str, code: int, output: str, store: Path, codes: tuple[int, ...]) -> None:
        """Note what is wrong with a run that has ended."""
        if code not in codes:
            self.failures.append(f"{what}: exit code {code}: {output[-400:]}")
        elif code == 1 and (why := one_line(output)):
            self.failures.append(f"{what}: {why}: {output[-400:]}")
        if (store / "objects").is_dir():
            self.failures += [f"{what}: {wrong}" for wrong in inconsistencies(store)]
        if code == 0 and self.expected is not None and digests(store) != self.expected:
            self.failures.append(f"{what}: other bytes than those of an undisturbed run")


def scripts(trial: Trial, count: int) -> int:
    """Call `wsseg.run` from scripts in the forms that scripts have."""
    forms = ("file", "pipe", "guarded", "removed", "module", "command")[:count]
    for form in forms:
        store, place = trial.store(), trial.folder / form
        place.mkdir()
        text = _SCRIPT.format(recipe=_RECIPE, config=str(trial.config), store=str(store))
        if form == "guarded":
            text = "import wsseg\nif __name__ == '__main__':\n    " + text.splitlines()[1] + "\n"
        if form == "removed":
            text = f"import os\nos.remove(__file__)\n{text}"
        path = place / "script.py"
        path.write_text(text, encoding="utf-8")
        words = {"pipe": ["-"], "module": ["-m", f"{form}.script"], "command": ["-c", text]}.get(form, [str(path)])
        with path.open("rb") as given:
            trial.ended(f"script, {form}", [sys.executable, *words], store, stdin=given)
    if count <= len(forms):  # the test suite launches two processes in tests/test_processes.py
        return len(forms)
    store = trial.store()
    path = trial.folder / "launched.py"
    path.write_text(_SCRIPT.format(recipe=_RECIPE, config=str(trial.config), store=str(store)), encoding="utf-8")
    launch = [  # as --standalone, but by number: a machine may not know the name localhost
        sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0",
        "--local-addr=127.0.0.1", "--nproc_per_node=2", str(path),
    ]  # fmt: skip
    expected, trial.expected = trial.expected, None  # two processes add their gradients in another order
    trial.ended("script, torchrun", launch, store)
    trial.expected = expected
    return len(forms) + 1


def surroundings(trial: Trial, count: int) -> int:
    """Run in odd environments, and with streams that are closed or full."""
    kept, refused, lines = list(ENVIRONMENTS)[:count], list(REFUSED)[:count], REDIRECTIONS[:count]
    for what in kept:
        trial.ended(what, trial.words(store := trial.store()), store, env=ENVIRONMENTS[what])
    for what in refused:
        trial.ended(what, trial.words(store := trial.store()), store, codes=(1,), env=REFUSED[what])
    for redirection in lines:
        line = subprocess.list2cmdline(trial.words(store := trial.store()))
        trial.ended(redirection, f"{line} {redirection}", store)
    return len(kept) + len(refused) + len(lines)


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
    """Run in all surroundings, in `count` of each kind at most; so many are the memory limits and the workers killed."""
    shutil.rmtree(folder, ignore_errors=True)
    trial = Trial(folder)
    trial.ended("undisturbed", trial.words(store := trial.store()), store)
    if trial.failures:
        return {"failures": trial.failures}
    trial.expected = digests(store)
    figures: dict[str, Any] = {"scripts": scripts(trial, count), "surroundings": surroundings(trial, count)}
    skipped = small_shared_memory(trial, count)
    figures["small_shared_memory"] = f"skipped: {skipped}" if skipped else min(count, 3)
    figures |= {"limits": limits(trial, count), "killed_workers": killed_workers(trial, count)}
    return {**figures, "failures": trial.failures}
