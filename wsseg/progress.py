"""Log lines and progress on stderr, and callbacks.

A terminal, or a notebook with ipywidgets, shows a bar with step, rate, time left and metric. Elsewhere, long work writes a
plain line every 15 seconds.
"""

import importlib.util
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
    """The running step, its number and the number of steps."""

    name: str = ""
    number: int = 0
    total: int = 0

    def __str__(self) -> str:
        return f"{self.number}/{self.total} {self.name} · " if self.total else ""


class Callback(Protocol):
    """Receives the events of a run: `wsseg.run(..., callbacks=[...])`. The methods are called in the run's own thread."""

    def step_started(self, step: str) -> None:
        """A step of the recipe starts to run; it is not called for cached steps."""

    def epoch_done(self, step: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """A training has finished epoch 1, 2 ...; a resumed training continues to count."""

    def step_done(self, step: str, metrics: Mapping[str, Any]) -> None:
        """A step is complete; the metrics are those of its artifact."""


_NOWHERE = _Place()
_place: ContextVar[_Place] = ContextVar("place", default=_NOWHERE)
_callbacks: ContextVar[tuple[Callback, ...]] = ContextVar("callbacks", default=())
_bar: "Progress | None" = None  # the one on the terminal
_console: "Console | None" = None


@contextmanager
def listening(*callbacks: Callback) -> Iterator[None]:
    """Call these callbacks for the events inside the block."""
    token = _callbacks.set((*_callbacks.get(), *callbacks))
    try:
        yield
    finally:
        _callbacks.reset(token)


@contextmanager
def step(name: str, number: int, total: int) -> Iterator[None]:
    """Announce a step that runs inside the block.

    Args:
        name: name of the step.
        number: its number in the recipe, from 1.
        total: number of steps.
    """
    token = _place.set(_Place(name, number, total))
    try:
        for callback in _callbacks.get():
            callback.step_started(name)
        yield
    finally:
        _place.reset(token)


def step_done(name: str, metrics: Mapping[str, Any]) -> None:
    """Announce that a step is complete."""
    for callback in _callbacks.get():
        callback.step_done(name, metrics)


def epoch_done(epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
    """Announce that the running step has finished an epoch."""
    for callback in _callbacks.get():
        callback.epoch_done(_place.get().name, epoch, epochs, metrics)


def metric(text: str) -> None:
    """Show a text, such as the loss, beside the bar if there is a bar."""
    if _bar is not None:
        _bar.update(_bar.task_ids[0], metric=text)


def track(items: Iterable[T], total: int, what: str, unit: str = "images", done: int = 0) -> Iterator[T]:
    """Yield `items` and show progress as a bar or as log lines.

    Args:
        items: the items; each counts as one unit of `total`.
        total: number of units, including those in `done`.
        what: description of the work in one or two words.
        unit: plural noun for the units.
        done: units that an earlier, interrupted run has finished.
    """
    if total == 0 or not log.isEnabledFor(logging.INFO) or _bar is not None:  # nested work shows no progress of its own
        yield from items
    elif (
        any(isinstance(handler, LogHandler) and handler.level <= logging.INFO for handler in log.handlers)
        and _can_draw()
    ):
        yield from _with_bar(items, total, what, unit, done)
    else:
        yield from _with_lines(items, total, what, unit, done)


def _can_draw() -> bool:
    """Return whether a bar can be drawn: on a terminal, or in a notebook that has the package rich needs there."""
    if STDERR.isatty():
        return True
    return importlib.util.find_spec("ipywidgets") is not None and _terminal().is_jupyter


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
        _console = Console(file=STDERR)  # rich respects NO_COLOR
    return _console


class LogHandler(logging.Handler):
    """Writes plain lines to stderr, above the bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if _bar is not None:
            _terminal().print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            STDERR.write(text + "\n")
            STDERR.flush()


def show(quiet: bool = False) -> None:
    """Show log lines and progress of wsseg on stderr; with `quiet`, only warnings. Replaces the handlers of the logger."""
    log.handlers[:] = [LogHandler(logging.WARNING if quiet else logging.INFO)]
    log.setLevel(logging.INFO)


@contextmanager
def shown(quiet: bool = False) -> Iterator[None]:
    """Show log lines and progress inside the block, as `show`, in a program that has not configured logging itself.

    The program has configured it if the logger "wsseg" has a level or a handler, or if the root logger shows its lines.
    """
    root = logging.getLogger()
    if log.handlers or log.level != logging.NOTSET or (root.handlers and root.isEnabledFor(logging.INFO)):
        yield
        return
    show(quiet)
    log.propagate = False  # the root logger's handlers would repeat the lines
    try:
        yield
    finally:
        log.handlers.clear()
        log.setLevel(logging.NOTSET)
        log.propagate = True


@contextmanager
def hidden() -> Iterator[None]:
    """Show only warnings inside the block."""
    levels = [(handler, handler.level) for handler in log.handlers]
    for handler, _ in levels:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in levels:
            handler.setLevel(level)


class TensorBoard:
    """A `Callback` for TensorBoard. It writes a loss curve for each training, and one point per metric for each step.

    Args:
        folder: folder for the event files.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: "Path") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def step_started(self, step: str) -> None:
        """Write nothing."""

    def epoch_done(self, step: str, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the epoch."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{step}/{name}", value, epoch)
        self._writer.flush()

    def step_done(self, step: str, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of the step, including the IoU of each class."""
        flat = {n: v for n, v in metrics.items() if isinstance(v, int | float)}
        flat |= {f"iou/{n}": v for n, v in (metrics.get("iou") or {}).items() if v is not None}
        for name, value in flat.items():
            self._writer.add_scalar(f"{step}/{name}", value)
        self._writer.flush()
