"""The processes that a launcher (torchrun, ``accelerate launch``) has started.

The main process (rank 0) plans, holds the locks and completes artifacts; the others join its trainings, make their part of
the files of stages with one file per image, and wait at other times.
Accelerate is imported only if there are several processes.
"""

import atexit
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from wsseg.errors import LaunchError, OtherProcessError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_LONGEST = 4000  # bytes of a message
_PATIENCE = timedelta(days=30)  # the others wait while the main process refines a million masks


# environment variables that launchers and MPI set for each process, and that accelerate reads
LAUNCHER_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE",
)  # fmt: skip
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # in addition to WORLD_SIZE


def count() -> int:
    """Return the number of processes of the launcher; 1 without a launcher.

    Raises:
        LaunchError: WORLD_SIZE is above 1, but other variables are missing or not valid.
    """
    world = _number("WORLD_SIZE", 1)
    if world <= 1:
        return 1
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        raise LaunchError(
            f"environment: WORLD_SIZE is {world}, but not set: {', '.join(missing)}; "
            "expected: all of them, as set by torchrun and accelerate launch, or none (unset WORLD_SIZE)"
        )
    if _number("RANK", 0) >= world:
        raise LaunchError(f"environment: found RANK {os.environ['RANK']}; expected: less than WORLD_SIZE, {world}")
    return world


def is_main() -> bool:
    """Return whether this is the main process."""
    return count() == 1 or _number("RANK", 0) == 0


def local_count() -> int:
    """Return the number of processes of the launcher on this machine, which share its cores."""
    return max(1, _number("LOCAL_WORLD_SIZE", count())) if count() > 1 else 1


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's part of `items`: every n-th one with n processes. The parts depend on nothing else."""
    return items[_number("RANK", 0) :: count()] if count() > 1 else items


def all_done() -> bool:
    """Wait until all processes have finished their parts; returns whether this is the main process, which goes on."""
    wait()
    return is_main()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise LaunchError(f"environment: found {name}={text!r}; expected: a whole number, or unset {name}")
    return int(text)


@contextmanager
def launcher_hidden() -> Iterator[None]:
    """Remove the launcher's variables inside the block if there is one process only.

    With leftover variables, accelerate would wait for other processes, or fail to read ``RANK=`` as a number.
    """
    hidden = {} if count() > 1 else {n: os.environ.pop(n) for n in LAUNCHER_VARIABLES if n in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def wait() -> None:
    """Wait until all processes have called this function."""
    if count() > 1:
        import torch

        _join()
        _call_collective(torch.distributed.barrier)


def broadcast(message: str = "") -> str:
    """Return the main process's message (its first 4,000 bytes) in every process.

    Raises:
        OtherProcessError: the main process has ended without a message.
    """
    if count() == 1:
        return message
    import torch

    sent = message.encode("utf-8", "replace")[:_LONGEST].ljust(_LONGEST)
    text = torch.frombuffer(bytearray(sent), dtype=torch.uint8).to(_join())
    _call_collective(partial(torch.distributed.broadcast, text, src=0))
    return bytes(text.tolist()).decode("utf-8", "ignore").rstrip()


def _join() -> "torch.device":
    """Join the process group; returns this process's device."""
    import torch
    from accelerate import PartialState

    if not torch.distributed.is_initialized():
        atexit.register(_leave)
    device: torch.device = PartialState(timeout=_PATIENCE).device
    return device


def _call_collective(call: Callable[[], Any]) -> None:
    """Call a collective operation; raise OtherProcessError if another process has ended."""
    try:
        call()
    except RuntimeError as error:
        raise OtherProcessError("another process of the launcher has ended; see its own message") from error


def _leave() -> None:
    """Leave the process group before this process ends.

    Gloo's threads still hold the last tensor and need the interpreter to release it. If the interpreter has ended, they
    abort, and the launcher then kills the main process while it writes the report (one of three runs on a busy machine).
    """
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()  # distributed networks refer to the group in cycles; its threads end with the last reference


@contextmanager
def main_goes_first() -> Iterator[None]:
    """Run the block in the main process first; the others enter when it has left, and find the files that it has made.

    Raises:
        OtherProcessError: in the others, if the main process has failed.
    """
    if not is_main():
        if failure := broadcast():
            raise OtherProcessError(f"the main process failed: {failure}")
        yield
        return
    try:
        yield
    except Exception as error:
        broadcast(str(error) or type(error).__name__)
        raise
    broadcast()
