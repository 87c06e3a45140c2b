"""The batches of a training; their order depends only on the seed and the epoch."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wsseg import processes
from wsseg.data.transforms import Draw, TrainingImages
from wsseg.parallel import worker_count
from wsseg.workers import CONTEXT, follow_parent, startable

_MOST_BY_DEFAULT = 8  # reading processes per training process


def reading_workers(workers: int | None, device: torch.device) -> int:
    """Return the number of reading processes of a training for a setting of ``workers``; None chooses by the device.

    An accelerator waits while images are read, so each training process gets its share of the cores, at most eight. On a CPU
    they would take cores from the training, so it gets none.
    """
    if workers is not None:
        return worker_count(workers) if workers else 0
    return 0 if device.type == "cpu" else min(_MOST_BY_DEFAULT, worker_count(0, processes.local_count()))


def batch_loader(
    data: TrainingImages, batch_size: int, workers: int, pinned: bool = False
) -> DataLoader[dict[str, Tensor]]:
    """Return a loader that yields the batches of one epoch per iteration; worker processes persist between epochs.

    Args:
        data: the training images.
        batch_size: images per batch, over all processes.
        workers: processes that read images; with 0, this process reads them.
        pinned: whether batches are in pinned memory, from which CUDA copies while it computes.
    """
    workers = workers if workers and startable() else 0
    options: dict[str, Any] = {}
    if workers:
        options = {"multiprocessing_context": CONTEXT, "worker_init_fn": follow_parent, "persistent_workers": True}
        if not _fits_shared_memory(data, batch_size * 2 * (workers + 1)):
            options["collate_fn"] = _arrays
    return DataLoader(
        _Drawn(data),
        batch_size=batch_size,
        sampler=EpochOrder(data),
        num_workers=workers,
        pin_memory=pinned,
        drop_last=data.draws > batch_size,
        generator=torch.Generator(),  # for the workers' seeds: with torch's own generator, their number would change dropout
        **options,
    )


@contextlib.contextmanager
def workers_ended(loader: Any) -> Iterator[None]:
    """End a loader's processes after the block, even if the traceback of an error keeps the loader alive."""
    try:
        yield
    finally:
        iterator = getattr(loader, "base_dataloader", loader)._iterator  # accelerate's loader wraps torch's
        if iterator is not None:
            iterator._shutdown_workers()


def _fits_shared_memory(data: TrainingImages, images: int) -> bool:
    """Return whether a number of training images fits into the shared memory through which torch's processes pass tensors.

    Containers often have 64 MiB of it; a process that uses more is killed.
    """
    folder = Path("/dev/shm")  # noqa: S108 (shared memory under Linux)
    if not folder.is_dir():
        return sys.platform != "linux"
    return images * sum(t.nbytes for t in data[0].values()) < 0.8 * shutil.disk_usage(folder).free


def _arrays(samples: list[dict[str, Tensor]]) -> dict[str, NDArray[Any]]:
    """Return a batch as arrays, which pass through a pipe: a little slower, and without shared memory."""
    return {name: np.stack([sample[name].numpy() for sample in samples]) for name in samples[0]}


class _Drawn(Dataset[dict[str, Tensor]]):
    """Training examples by `Draw`."""

    def __init__(self, data: TrainingImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.draws

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        return self.data.example(draw)


class EpochOrder(torch.utils.data.Sampler[Draw]):
    """Yields the draws of the data's current epoch."""

    def __init__(self, data: TrainingImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.draws

    def __iter__(self) -> Iterator[Draw]:
        yield from self.data.order(self.data.epoch)
