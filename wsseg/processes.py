"""This process among those that ``accelerate launch`` started. Accelerate is imported only where there are several.

The first process plans, holds the locks and writes; the others help to train, and wait meanwhile.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

_PATIENCE = timedelta(days=30)  # the others wait while the first one refines a million masks


def count() -> int:
    """Return how many processes run together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that plans and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Return when all processes have come here."""
    tell()


def tell(message: str = "") -> str:
    """Return the first process's message (at most 4,000 bytes), in every process."""
    if count() == 1:
        return message
    import torch
    from accelerate import PartialState

    state = PartialState(timeout=_PATIENCE)
    text = torch.frombuffer(bytearray(message.encode().ljust(4000)), dtype=torch.uint8).to(state.device)
    try:
        torch.distributed.broadcast(text, src=0)
    except RuntimeError:
        if is_first():
            raise
        sys.exit(1)  # the first process is gone, and has said why
    return bytes(text.tolist()).decode().rstrip()


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the others enter when the first process has left: what it made is there for them."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()
