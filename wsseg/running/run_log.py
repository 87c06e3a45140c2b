"""The log file of a run, ``runs/ID.log`` in the store: versions, command, log lines and the traceback of every error."""

import logging
import os
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsseg import processes
from wsseg.models.device import resolve_device
from wsseg.running.plan import TO_RUN, Plan
from wsseg.running.provenance import commit, package_versions

log = logging.getLogger("wsseg")
_TIME = "%Y-%m-%dT%H:%M:%SZ"  # UTC
# never through a link, and never waiting for the reader of a pipe
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class RunLog(logging.Handler):
    """Appends lines with a time stamp (UTC) to a file. A file that cannot be written causes one warning and no error.

    Args:
        path: the log file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", _TIME)
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self.path = path
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, _FLAGS, 0o644)
        except OSError as error:
            self._give_up(error)

    def emit(self, record: logging.LogRecord) -> None:
        """Append a log line."""
        self.append(self.format(record))

    def append(self, text: str) -> None:
        """Append text and a line break."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, f"{text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self._give_up(error)

    def append_traceback(self, error: BaseException) -> None:
        """Append the complete traceback of an error and of its causes."""
        self.append("".join(traceback.format_exception(error)).rstrip())

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _give_up(self, error: OSError) -> None:
        self.close()
        log.warning("%s: the log of this run cannot be written: %s", self.path, error.strerror)


@contextmanager
def open_run_log(path: Path, plan: Plan, command: str) -> Iterator[RunLog]:
    """Write the log lines of a run to a file inside the block, and the traceback of an error that leaves it.

    Lines of level INFO and above are written, also those that ``--quiet`` or the logger's own level hides elsewhere.

    Args:
        path: the log file; a resumed run appends to it.
        plan: the plan that is run.
        command: command line or API call; empty for the command line of this process.
    """
    run_log = RunLog(path)
    level = log.level
    shown_from = log.getEffectiveLevel()

    def write(record: logging.LogRecord) -> bool:
        """Write a line to the file; return whether the logger's own level lets it pass to the handlers."""
        run_log.handle(record)
        return record.levelno >= shown_from

    log.addFilter(write)
    log.setLevel(min(shown_from, logging.INFO))
    try:
        run_log.append(_header(path.stem, plan, command))
        yield run_log
        run_log.append(f"=== {_now()} finished")
    except KeyboardInterrupt:
        run_log.append(f"=== {_now()} interrupted")
        raise
    except BaseException as error:
        run_log.append_traceback(error)
        run_log.append(f"=== {_now()} failed")
        log.info("the log of this run has the traceback: %s", path)
        raise
    finally:
        log.removeFilter(write)
        log.setLevel(level)
        run_log.close()


def _header(run_id: str, plan: Plan, command: str) -> str:
    """Return the first lines of a run's log: versions, machine, command and config."""
    packages = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    devices = {
        resolve_device(p.config.device).type for p in plan.active if p.state == TO_RUN and hasattr(p.config, "device")
    }
    return "\n".join(
        [
            f"=== {_now()} run {run_id}",
            f"versions: {packages}, Python {platform.python_version()}, commit {commit() or 'unknown'}",
            f"system: {platform.platform()}, {os.cpu_count()} CPU cores, processes: {processes.count()}"
            + (f", device: {', '.join(sorted(devices))}" if devices else ""),
            f"command: {command or shlex.join(sys.argv)}",
            f"recipe: {plan.recipe.path}",
            f"config: {plan.config.path}",
            f"overrides: {' '.join(plan.overrides) or '(none)'}",
        ]
    )


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
