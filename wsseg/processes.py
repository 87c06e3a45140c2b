"""This process among those that ``accelerate launch`` started. Accelerate is imported only where there are several.

The first process plans, holds the locks and writes; the others help to train, and wait meanwhile.
"""

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from wsseg.errors import LaunchError, OtherProcessError

if TYPE_CHECKING:
    import torch

_LONGEST = 4000  # bytes of a message
_PATIENCE = timedelta(days=30)  # the others wait while the first one refines a million masks


# what launchers and MPI tell each process, and accelerate reads
LAUNCHER_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE",
)  # fmt: skip
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE


def count() -> int:
    """Return how many processes run together; 1 without a launcher.

    Raises:
        LaunchError: the environment names several processes, but not all that they need to find each other.
    """
    world = _number("WORLD_SIZE", 1)
    if world <= 1:
        return 1
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        raise LaunchError(
            f"environment: WORLD_SIZE is {world}, and not set: {', '.join(missing)}; "
            "expected: all of them, as torchrun and accelerate launch set them, or none (unset WORLD_SIZE)"
        )
    if _number("RANK", 0) >= world:
        raise LaunchError(f"environment: found RANK {os.environ['RANK']}; expected: less than WORLD_SIZE, {world}")
    return world


def is_main() -> bool:
    """Return whether this process is the one that plans and writes."""
    return count() == 1 or _number("RANK", 0) == 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise LaunchError(f"environment: found {name}={text!r}; expected: a whole number, or unset {name}")
    return int(text)


@contextmanager
def launcher_hidden() -> Iterator[None]:
    """Hide a launcher's variables if there is one process: accelerate would wait for others, or read ``RANK=`` as a number."""
    hidden = {} if count() > 1 else {n: os.environ.pop(n) for n in LAUNCHER_VARIABLES if n in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        import torch

        _join()
        _together(torch.distributed.barrier)


def broadcast(message: str = "") -> str:
    """Return the first process's message (its first 4,000 bytes), in every process.

    Raises:
        OtherProcessError: the first process has ended without a message.
    """
    if count() == 1:
        return message
    import torch

    sent = message.encode("utf-8", "replace")[:_LONGEST].ljust(_LONGEST)
    text = torch.frombuffer(bytearray(sent), dtype=torch.uint8).to(_join())
    _together(partial(torch.distributed.broadcast, text, src=0))
    return bytes(text.tolist()).decode("utf-8", "ignore").rstrip()


def _join() -> "torch.device":
    """Enter the group; returns this process's device."""
    import torch
    from accelerate import PartialState

    if not torch.distributed.is_initialized():
        atexit.register(_leave)
    device: torch.device = PartialState(timeout=_PATIENCE).device
    return device


def _together(call: Callable[[], Any]) -> None:
    """Do what all processes do together; if another one has ended, and has said why, this one fails."""
    try:
        call()
    except RuntimeError as error:
        raise OtherProcessError("another process of the launcher has ended; its own message says why") from error


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
    """Let the others enter when the first process has left: what it made is there for them.

    Raises:
        OtherProcessError: in the others, if the first process has failed.
    """
    if not is_main():
        if failure := broadcast():
            raise OtherProcessError(f"the first process failed: {failure}")
        yield
        return
    try:
        yield
    except Exception as error:
        broadcast(str(error) or type(error).__name__)
        raise
    broadcast()
