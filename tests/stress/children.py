"""A tiny pipeline to stress, and processes that run it and may be killed."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from wsseg.store.objects import ArtifactStore
from wsseg.store.table import FileTable

log = logging.getLogger("wsseg")

CONFIG = """
rng_seed = 5

[data]
kind = "demo"
size = 64
train = {{ images = 12 }}
val = {{ images = 4 }}

[classifier]
backbone = "test_resnet"
weights = "none"
frozen_levels = 0
size = 64
epochs = 3
batch_size = 4
erase = "random"
workers = {loaders}

[seeds]
size = 64
scales = [1.0]
batch_size = 3

[affinity_labels]
workers = {workers}

[affinity]
size = 64
epochs = 2
batch_size = 4
workers = {loaders}

[walk]
size = 64
steps = 8
workers = {workers}

[walked_masks]
crf = "irn"
workers = {workers}

[pseudo_masks]
crf = "irn"
workers = {workers}

[segmenter]
encoder = "tu-test_resnet"
decoder = {{ decoder_channels = 16 }}
frozen_levels = 0
size = 64
epochs = 3
batch_size = 4
ema_decay = 0.9
workers = {loaders}

[relabeling]
workers = {workers}

[predictions]
scales = [1.0]
"""


def write_config(folder: Path, workers: int = 1) -> Path:
    """Write the config of the tiny pipeline; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny_{workers}.toml"
    path.write_text(CONFIG.format(workers=workers, loaders=workers - 1))
    return path


def run_words(config: Path, store: Path, recipe: str = "best") -> list[str]:
    """Return the command line that runs the tiny pipeline."""
    return ["run", recipe, "-c", str(config), "--store", str(store), "--no-report"]


def warm_up() -> None:
    """Import what the stages import, so that forked children begin at once."""
    import accelerate
    import albumentations
    import numba
    import segmentation_models_pytorch
    import timm

    import wsseg.cli.main
    import wsseg.stages.train_classifier.training
    import wsseg.stages.train_segmenter.training  # noqa: F401

    log.debug("imported %s", (accelerate, albumentations, numba, segmentation_models_pytorch, timm))


class Child:
    """A process forked from this one (which has imported torch already) that does some work; its exit code and output can be read.

    Args:
        work: the function to call.
        log: file for its standard output and error.
    """

    def __init__(self, work: Callable[[], None], log: Path) -> None:
        self.log = log
        self.ended: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            code = 1
            try:
                work()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:  # noqa: BLE001 (a child must not return into its parent's code)
                traceback.print_exc()
                code = 99
            sys.stdout.flush()
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, negative for a signal; None if it is still running after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                break
            else:
                time.sleep(0.002)
        return self.ended

    def kill(self, with_workers: bool) -> None:
        """SIGKILL it, alone or with all that it started, and wait for its end."""
        (os.killpg if with_workers else os.kill)(self.pid, signal.SIGKILL)
        self.ended = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def output(self) -> str:
        """Everything that it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def wsseg(words: list[str], before: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """Return work for a `Child`: a wsseg command line; `before` is called in the child first."""

    def work() -> None:
        from wsseg.cli.main import cli

        before()
        cli.main(args=words, prog_name="wsseg")

    return work


def digests(store: Path) -> dict[str, FileTable]:
    """Return size and digest of every file of every artifact, by key."""
    opened = ArtifactStore(store)
    artifacts = ((key, opened.get(key)) for key in opened.keys())
    return {key: artifact.files for key, artifact in artifacts if artifact is not None}


def inconsistencies(store: Path) -> list[str]:
    """Return what is wrong with a store that nothing works on: damaged objects, locks that are still held."""
    opened = ArtifactStore(store)
    wrong = []
    for key in opened.keys():
        artifact = opened.get(key)
        if artifact is None or (damaged := artifact.damaged_files()):
            wrong.append(f"object {key[:12]} is damaged: {damaged if artifact else 'gone'}")
    for path in (store / "locks").iterdir():
        with opened.lock(path.name, blocking=False) as held:
            if not held:
                wrong.append(f"lock {path.name[:12]} is held by no live process")
    return wrong
