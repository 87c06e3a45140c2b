"""Runs of the tiny pipeline under odd conditions, each in its own store, compared with an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.stress.children import digests, inconsistencies, run_words, write_config
from tests.stress.disk import one_line

PATIENCE = 240.0  # s
RECIPE = "cam_crf"


class Trial:
    """Runs the tiny pipeline, each time in another store, and compares it with an undisturbed run.

    Args:
        folder: for all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, write_config(folder, workers=2)
        self.failures: list[str] = []
        self.stores = 0
        self.expected: Any = None

    def run_undisturbed(self) -> bool:
        """Run the pipeline once; its files are those that all other runs must have. Return whether it worked."""
        self.ended("undisturbed", self.words(store := self.store()), store)
        if not self.failures:
            self.expected = digests(store)
        return not self.failures

    def store(self) -> Path:
        """Return the folder of a new store."""
        self.stores += 1
        return self.folder / f"store{self.stores}"

    def words(self, store: Path) -> list[str]:
        """Return the command that runs the pipeline."""
        return [sys.executable, "-m", "wsseg", *run_words(self.config, store, RECIPE)]

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
