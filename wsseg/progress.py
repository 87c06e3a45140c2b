"""Progress of long work: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
log = logging.getLogger("wsseg")

SECONDS_BETWEEN_LINES = 15.0


def track(items: Iterable[T], total: int, what: str, unit: str = "images", done: int = 0) -> Iterator[T]:
    """Yield `items` and report progress on stderr.

    Args:
        items: what is worked on; each counts as one unit of `total`.
        total: units in all, those `done` before included.
        what: a word or two in front of the figures.
        unit: the plural of what is counted.
        done: units that an earlier, interrupted run has finished already.
    """
    if not log.isEnabledFor(logging.INFO):  # --quiet
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", initial=done, leave=False)
        return
    start = last_line = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            rate = count / (now - start)
            left = (total - done - count) / rate
            log.info("%s: %d/%d %s, %.1f/s, %.0f s left", what, done + count, total, unit, rate, left)
