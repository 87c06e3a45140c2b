"""The batches of a training: their order derives from the seed and the epoch alone."""

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

from wsseg.data.transforms import TrainingImages
from wsseg.parallel import worker_count
from wsseg.workers import CONTEXT, follow_parent, startable


def batch_loader(data: TrainingImages, batch_size: int, workers: int, rng_seed: int) -> DataLoader[dict[str, Tensor]]:
    """Return the batches of one epoch after another; worker processes live through all epochs.

    Args:
        data: the training images.
        batch_size: images per batch, over all processes.
        workers: processes that read images; with 0, this process reads them.
        rng_seed: what the order derives from, with the epoch.
    """
    workers = worker_count(workers) if workers and startable() else 0
    more: dict[str, Any] = {}
    if workers:
        more = {"multiprocessing_context": CONTEXT, "worker_init_fn": follow_parent, "persistent_workers": True}
        if not _shared_memory_holds(data, batch_size * 2 * (workers + 1)):
            more["collate_fn"] = _arrays
    return DataLoader(
        _Drawn(data),
        batch_size=batch_size,
        sampler=EpochOrder(data, rng_seed),
        num_workers=workers,
        drop_last=len(data) > batch_size,
        generator=torch.Generator(),  # workers' seeds come from here: their number must not move what dropout draws
        **more,
    )


@contextlib.contextmanager
def workers_ended(loader: Any) -> Iterator[None]:
    """End a loader's processes after the block, also if an error's traceback keeps the loader."""
    try:
        yield
    finally:
        iterator = getattr(loader, "base_dataloader", loader)._iterator  # accelerate's loader holds one of torch's
        if iterator is not None:
            iterator._shutdown_workers()


def _shared_memory_holds(data: TrainingImages, images: int) -> bool:
    """Return whether so many training images fit in the memory through which torch's processes hand over tensors.

    A container often has 64 MiB of it, and a process that takes more is killed.
    """
    folder = Path("/dev/shm")  # noqa: S108 (Linux has its shared memory there)
    if not folder.is_dir():
        return sys.platform != "linux"
    return images * sum(t.nbytes for t in data[0].values()) < 0.8 * shutil.disk_usage(folder).free


def _arrays(samples: list[dict[str, Tensor]]) -> dict[str, NDArray[Any]]:
    """Return a batch as arrays: they come through a pipe, which takes no shared memory, and a little longer."""
    return {name: np.stack([sample[name].numpy() for sample in samples]) for name in samples[0]}


class _Drawn(Dataset[dict[str, Tensor]]):
    """Training images by (epoch, index): workers that live through all epochs draw each image anew."""

    def __init__(self, data: TrainingImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Tensor]:
        self.data.epoch, index = place
        return self.data[index]


class EpochOrder(torch.utils.data.Sampler[tuple[int, int]]):
    """(epoch, index): a permutation, or as many draws by the data's weights, that derive from (rng_seed, epoch) alone."""

    def __init__(self, data: TrainingImages, rng_seed: int) -> None:
        self.data, self.rng_seed = data, rng_seed

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.data.epoch
        generator = torch.Generator().manual_seed((self.rng_seed * 1_000_003 + epoch) % 2**63)
        if self.data.weights is None:
            order = torch.randperm(len(self.data), generator=generator)
        else:
            order = torch.multinomial(self.data.weights, len(self.data), replacement=True, generator=generator)
        yield from ((epoch, index) for index in order.tolist())
