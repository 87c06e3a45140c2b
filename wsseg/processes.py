"""This process among those that ``accelerate launch`` started. Accelerate is imported only where there are several.

The first process plans, holds the locks and writes; the others help to train, and wait meanwhile.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(days=30)  # the others wait while the first one refines a million masks


def count() -> int:
    """Return how many processes run together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that plans and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        import torch

        _join()
        _or_leave(torch.distributed.barrier)


def tell(message: str = "") -> str:
    """Return the first process's message (at most 4,000 bytes), in every process."""
    if count() == 1:
        return message
    import torch

    text = torch.frombuffer(bytearray(message.encode().ljust(4000)), dtype=torch.uint8).to(_join())
    _or_leave(partial(torch.distributed.broadcast, text, src=0))
    return bytes(text.tolist()).decode().rstrip()


def _join() -> "torch.device":
    """Enter the group; returns this process's device."""
    import torch
    from accelerate import PartialState

    if not torch.distributed.is_initialized():
        atexit.register(_leave)
    device: torch.device = PartialState(timeout=_PATIENCE).device
    return device


def _or_leave(together: Callable[[], Any]) -> None:
    """Do what all processes do together; where the first one is gone, and has said why, the others end."""
    try:
        together()
    except RuntimeError:
        if is_first():
            raise
        sys.exit(1)


def _leave() -> None:
    """Take this process out of the group before it ends.

    Gloo's threads still hold the last tensor, and need the interpreter to let go of it: one that has ended aborts them, and the
    launcher then kills the first process at its report. Seen in one of three runs on a busy machine.
    """
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()  # networks that trained together hold the group in cycles; its threads end with the last reference


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the others enter when the first process has left: what it made is there for them."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()
