"""`wsseg` commands in real processes that start at once, because they are forked from a process that has imported everything.

Importing PyTorch and its friends takes seconds, and the tests start about a hundred commands. Tests of what happens before
or during an import (help without PyTorch, closed streams, launchers) start an interpreter of their own instead.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_MODULES = [
    "matplotlib.figure",
    "wsseg.api",
    "wsseg.cli.main",
    "wsseg.report.page",
    "wsseg.running.execute",
    "wsseg.stages.train_classifier.training",
    "wsseg.stages.train_segmenter.training",
]
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_CONTEXT = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(_MODULES)


def _command(arguments: list[str], folder: str, environment: dict[str, str], output: str, errors: str) -> None:
    """Be the process of a command."""
    for number, path in ((1, output), (2, errors)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background of a shell ignores it
    sys.argv = ["wsseg", *arguments]
    from wsseg.cli.main import main

    main()


class Command:
    """A running `wsseg` command, with the methods of `subprocess.Popen` that the tests use.

    Args:
        arguments: words after ``wsseg``.
        cwd: folder in which it runs.
        env: its complete environment; by default this process's.
    """

    def __init__(self, *arguments: Any, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wsseg-command-")
        self._paths = [str(Path(self._folder.name) / name) for name in ("output", "errors")]
        words = list(map(str, arguments))
        environment = dict(os.environ if env is None else env)
        self._process = _CONTEXT.Process(
            target=_command, args=(words, str(cwd or Path.cwd()), environment, *self._paths)
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end; return what it printed to standard output and standard error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired("wsseg", timeout)
        # a command that fails before its streams are opened leaves no file
        texts = [path.read_text(encoding="utf-8") if (path := Path(p)).exists() else "" for p in self._paths]
        self._folder.cleanup()
        return texts[0], texts[1]


def run(
    *arguments: Any, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a `wsseg` command to its end."""
    command = Command(*arguments, cwd=cwd, env=env)
    output, errors = command.communicate(timeout=600)
    return subprocess.CompletedProcess(list(arguments), command.returncode or 0, output, errors)
