"""Progress of long work: a bar with step, rate, time left and metric on a terminal, a plain line now and then elsewhere.

Others can listen: see `Callback`.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from wsseg.streams import STDERR

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")
log = logging.getLogger("wsseg")

SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True)
class _Place:
    """The step that runs, and which of how many it is."""

    name: str = ""
    number: int = 0
    total: int = 0

    def __str__(self) -> str:
        return f"{self.number}/{self.total} {self.name} · " if self.total else ""


class Callback(Protocol):
    """What may listen to a run: `wsseg.run(..., callbacks=[...])`. It is called in the run's own thread, and in order."""

    def step_started(self, step: str) -> None:
        """A step of the recipe begins to compute; a cached one does not."""

    def epoch_done(self, step: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """A training has finished an epoch (1, 2 ...); a resumed one goes on counting where it was."""

    def step_done(self, step: str, metrics: Mapping[str, Any]) -> None:
        """A step is complete; its metrics are those of the artifact."""


_NOWHERE = _Place()
_place: ContextVar[_Place] = ContextVar("place", default=_NOWHERE)
_callbacks: ContextVar[tuple[Callback, ...]] = ContextVar("callbacks", default=())
_bar: "Progress | None" = None  # the one on the terminal
_console: "Console | None" = None


@contextmanager
def listening(*callbacks: Callback) -> Iterator[None]:
    """Have callbacks called by what runs inside the block."""
    token = _callbacks.set((*_callbacks.get(), *callbacks))
    try:
        yield
    finally:
        _callbacks.reset(token)


@contextmanager
def step(name: str, number: int, total: int) -> Iterator[None]:
    """Say that a step computes inside the block."""
    token = _place.set(_Place(name, number, total))
    try:
        for callback in _callbacks.get():
            callback.step_started(name)
        yield
    finally:
        _place.reset(token)


def step_done(name: str, metrics: Mapping[str, Any]) -> None:
    """Say that a step is complete."""
    for callback in _callbacks.get():
        callback.step_done(name, metrics)


def epoch_done(epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
    """Say that the step that runs has finished an epoch."""
    for callback in _callbacks.get():
        callback.epoch_done(_place.get().name, epoch, epochs, metrics)


def metric(text: str) -> None:
    """Show a figure beside the bar, where there is one."""
    if _bar is not None:
        _bar.update(_bar.task_ids[0], metric=text)


def track(items: Iterable[T], total: int, what: str, unit: str = "images", done: int = 0) -> Iterator[T]:
    """Yield `items` and report progress on stderr.

    Args:
        items: what is worked on; each counts as one unit of `total`.
        total: units in all, those `done` before included.
        what: a word or two in front of the figures.
        unit: the plural of what is counted.
        done: units that an earlier, interrupted run has finished already.
    """
    if not log.isEnabledFor(logging.INFO) or _bar is not None:  # --quiet, or work within work
        yield from items
    elif STDERR.isatty():
        yield from _with_bar(items, total, what, unit, done)
    else:
        yield from _with_lines(items, total, what, unit, done)


def _with_lines(items: Iterable[T], total: int, what: str, unit: str, done: int) -> Iterator[T]:
    start = last_line = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            rate = count / (now - start)
            left = (total - done - count) / rate
            log.info("%s: %d/%d %s, %.1f/s, %.0f s left", what, done + count, total, unit, rate, left)


def _with_bar(items: Iterable[T], total: int, what: str, unit: str, done: int) -> Iterator[T]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    global _bar
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False), TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[metric]}", markup=False),
    )  # fmt: skip
    start = time.monotonic()
    with Progress(*columns, console=_terminal(), transient=True) as bar:
        task = bar.add_task(f"{_place.get()}{what}", total=total, completed=done, unit=unit, rate="", metric="")
        _bar = bar
        try:
            for count, item in enumerate(items, start=1):
                yield item
                bar.update(task, advance=1, rate=f"{count / (time.monotonic() - start):.1f}/s")
        finally:
            _bar = None


def _terminal() -> "Console":
    from rich.console import Console

    global _console
    if _console is None:
        _console = Console(file=STDERR)  # no colours where NO_COLOR says so
    return _console


class LogHandler(logging.Handler):
    """Writes plain lines to stderr; above the bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if _bar is not None:
            _terminal().print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            STDERR.write(text + "\n")
            STDERR.flush()


class TensorBoard:
    """A `Callback` that writes losses and metrics for TensorBoard: one curve of the loss and one point a figure for each step.

    Args:
        folder: of the event files.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: "Path") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def step_started(self, step: str) -> None:
        """Nothing is written yet."""

    def epoch_done(self, step: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """Write the epoch's figures."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{step}/{name}", value, epoch)
        self._writer.flush()

    def step_done(self, step: str, metrics: Mapping[str, Any]) -> None:
        """Write the step's own figures, IoU by class among them."""
        flat = {n: v for n, v in metrics.items() if isinstance(v, int | float)}
        flat |= {f"iou/{n}": v for n, v in (metrics.get("iou") or {}).items() if v is not None}
        for name, value in flat.items():
            self._writer.add_scalar(f"{step}/{name}", value)
        self._writer.flush()
