"""The one training loop: epochs, schedule, autocast, a checkpoint an epoch, byte-identical resume."""

import contextlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wsseg import processes
from wsseg.data.transforms import TrainingImages
from wsseg.errors import StageError
from wsseg.models.allocation import freed_memory_kept
from wsseg.models.depthwise import DepthwiseGradientsInFloat32
from wsseg.models.device import Device, Precision, resolve_device, training_precision
from wsseg.progress import epoch_done, metric, track
from wsseg.store.artifact import CHECKPOINT
from wsseg.store.files import atomic_write
from wsseg.workers import CONTEXT, follow_parent, startable, worker_count

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Args:
        epochs: passes over the data.
        batch_size: images a step, over all processes.
        learning_rate: the highest learning rate of the pre-trained part.
        head_factor: how much faster freshly initialised parts learn.
        weight_decay: AdamW's, on weights of two or more dimensions.
        schedule: ``one_cycle`` (linear warm-up over a tenth, then cosine to 0) or ``poly`` (power 0.9).
        rng_seed: source of all randomness.
        precision: autocast; ``auto`` takes bfloat16 where the device computes in it natively.
        device: where to train; ``auto`` takes the first accelerator, else the CPU.
        workers: processes that read and augment; 0 reads in the training process.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    head_factor: float
    weight_decay: float
    schedule: Literal["one_cycle", "poly"]
    rng_seed: int
    precision: Precision
    device: Device
    workers: int


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Return the learning rate at `step` of `steps`, relative to its highest value, in (0, 1]."""
    if schedule == "poly":
        return float((1 - step / steps) ** 0.9)
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


class Measure:
    """A figure of each epoch, beside the loss: it is read off counts that `loss_of` adds at every step.

    What a network does on the augmented crops that it learns from costs no second look; it says whether a training goes
    well, not how good the network is.

    Args:
        name: of the figure.
        shape: of the counts.
        figure: reads the figure, a fraction, off the int64 counts of an epoch.
    """

    def __init__(self, name: str, shape: tuple[int, ...], figure: Callable[[Tensor], float]) -> None:
        self.name, self.figure = name, figure
        self.counts = torch.zeros(shape, dtype=torch.long)

    def add(self, counts: Tensor) -> None:
        """Add the counts of a step."""
        self.counts += counts.detach().cpu()


@freed_memory_kept()
def fit(
    model: nn.Module,
    fresh: nn.Module,
    data: TrainingImages,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    schedule: Schedule,
    out: Path,
    what: str,
    measure: Measure | None = None,
) -> dict[str, list[float]]:
    """Train `model` in place; an interrupted training goes on from the last whole epoch, to the same bytes.

    Args:
        model: the network.
        fresh: the part of it without pre-trained weights, which learns `head_factor` times faster.
        data: augmented training images; its `epoch` is set.
        loss_of: returns the scalar loss of a batch.
        schedule: how to train.
        out: folder that holds the checkpoint; it stays until the artifact is complete, so that a kill after the last epoch
            costs nothing either.
        what: a word for the progress line.
        measure: what `loss_of` counts beside the loss.

    Returns:
        The mean ``loss`` of each epoch, and the measure's figure by its name.

    Raises:
        StageError: the loss is no longer finite.
    """
    if len(data) == 0:
        raise StageError("there is no image to train on")
    if schedule.batch_size % processes.count():
        raise StageError(
            f"batch_size: found {schedule.batch_size}; legal with {processes.count()} processes: a multiple of that"
        )
    device = resolve_device(schedule.device)
    dtype = training_precision(schedule.precision, device)
    mixed = {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    AcceleratorState._reset_state()  # a process trains several networks, each with its own precision
    with processes.launcher_hidden():
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=mixed,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            step_scheduler_with_optimizer=False,
        )
    loader = _loader(data, schedule)
    steps = schedule.epochs * len(loader)
    optimizer = torch.optim.AdamW(_parameter_groups(model, fresh, schedule))
    model.to(memory_format=torch.channels_last)
    history: dict[str, list[float]] = {"loss": []}
    if measure is not None:
        history[measure.name] = []
    checkpoint = out / CHECKPOINT
    if checkpoint.is_file() and (kept := _load_checkpoint(checkpoint, model, optimizer)) is not None:
        history = kept
        log.info("%s: goes on after epoch %d of %d", what, len(history["loss"]), schedule.epochs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(schedule.schedule, step, steps),
        last_epoch=len(history["loss"]) * len(loader) - 1,
    )
    slow = device.type == "cpu" and dtype == torch.bfloat16
    quick_gradients = DepthwiseGradientsInFloat32() if slow else contextlib.nullcontext()
    prepared, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    with _workers_ended(loader), single_values_unnormalised(model):
        for epoch in range(len(history["loss"]), schedule.epochs):
            data.epoch = epoch
            torch.manual_seed((schedule.rng_seed * 1_000_003 + epoch) % 2**63)  # dropout and the like
            torch.empty(
                (), dtype=torch.long
            ).random_()  # torch's loader drew this once an epoch: networks keep their bytes
            prepared.train()
            for module in prepared.modules():  # a frozen normalisation keeps its statistics, too
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
                    p.requires_grad for p in module.parameters()
                ):
                    module.eval()
            total, count = torch.zeros((), dtype=torch.float64), 0
            if measure is not None:
                measure.counts.zero_()
            for batch in track(loader, len(loader), f"{what} epoch {epoch + 1}/{schedule.epochs}", "steps"):
                batch = {name: torch.as_tensor(value, device=accelerator.device) for name, value in batch.items()}
                batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
                with accelerator.autocast(), quick_gradients:
                    loss = loss_of(prepared, batch)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                total, count = total + loss.detach().cpu().double(), count + 1  # MPS has no float64
                metric(f"loss {float(total) / count:.4f}")
            mean = float(total) / max(count, 1)
            if accelerator.num_processes > 1:
                mean = float(accelerator.reduce(torch.tensor(mean, device=accelerator.device), "mean"))
            if not math.isfinite(mean):
                raise StageError(
                    f"{what}: the loss is {mean} after epoch {epoch + 1}; lower the learning rate or use float32"
                )
            figures = {"loss": mean}
            if measure is not None:
                counts = measure.counts.to(accelerator.device)
                figures[measure.name] = measure.figure(accelerator.reduce(counts, "sum").cpu())
            for name, value in figures.items():
                history[name].append(value)
            told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            log.info("%s: epoch %d/%d, %s", what, epoch + 1, schedule.epochs, told)
            epoch_done(epoch + 1, schedule.epochs, figures)
            if accelerator.is_main_process:
                atomic_write(checkpoint, _checkpoint_bytes(model, optimizer.optimizer, history))
    model.eval()
    return history


@contextlib.contextmanager
def single_values_unnormalised(model: nn.Module) -> Iterator[None]:
    """While entered, a batch normalisation in training that is given one value per channel uses its running statistics.

    A batch of one image has one value per channel where the feature maps are one place: it has no statistics of its own.
    """

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and inputs[0].numel() == inputs[0].shape[1]:
            module.eval()

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(keep) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def try_training(outline: nn.Module, schedule: Schedule, count: int, size: int, what: str) -> None:
    """Pass a batch through a network's outline as training would, which takes no memory.

    Args:
        outline: the network on torch's device ``meta``.
        schedule: how it is to be trained.
        count: of the training images.
        size: height and width of the crops, in pixels.
        what: the config table, for errors.

    Raises:
        StageError: the device, the precision, the batch or the size does not fit.
    """
    training_precision(schedule.precision, resolve_device(schedule.device))
    batch = max(1, min(schedule.batch_size, count) // processes.count())
    try:
        with torch.device("meta"), single_values_unnormalised(outline):
            outline.train()(torch.zeros(batch, 3, size, size))
    # networks refuse a size in any way
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AssertionError,
        AttributeError,
        NotImplementedError,
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(
            f"{what}.size: the network does not take {batch} crops of {size} px ({reason}); a multiple of 32 fits most"
        ) from error


def freeze_levels(network: nn.Module, levels: int, name: str) -> None:
    """Keep the weights of a network's first feature levels (strides 2, 4, 8 ...) as they are, in place.

    timm's networks name their levels; an encoder of segmentation-models-pytorch returns them, from the image itself on.

    Early filters are general, and the costliest to train: two levels of efficientnet-lite0 take a third of the time.

    Raises:
        StageError: the network has fewer levels.
    """
    if levels == 0:
        return
    info = getattr(getattr(network, "model", network), "feature_info", None)
    modules = [level["module"] for level in getattr(info, "info", info) or []]
    if not modules:
        _freeze_returned(network, levels, name)
        return
    if levels > len(modules):
        raise StageError(f"frozen_levels: {name!r} names {len(modules)} feature levels; legal: 0 to {len(modules)}")
    prefix = "model." if hasattr(network, "model") else ""
    names = [n for n, _ in network.named_parameters()]

    def of(module: str) -> list[int]:
        """Positions of a module's parameters; timm's feature extractors write stages.0 as stages_0."""
        heads = (f"{prefix}{module}.", f"{prefix}{module.replace('.', '_')}.")
        return [i for i, n in enumerate(names) if n.startswith(heads)]

    own = of(modules[levels - 1])
    # a level without weights of its own (an activation) ends where the next level begins
    end = own[-1] + 1 if own else min((i for later in modules[levels:] for i in of(later)), default=0)
    for parameter in list(network.parameters())[:end]:
        parameter.requires_grad = False


def _freeze_returned(encoder: nn.Module, levels: int, name: str) -> None:
    """Freeze what the `levels`-th of the feature maps that an encoder returns is computed with."""
    mode = encoder.training
    first = next(encoder.parameters())
    with torch.enable_grad():
        features = encoder.eval()(torch.zeros(1, 3, 64, 64, device=first.device))
    encoder.train(mode)
    if not isinstance(features, list | tuple) or levels >= len(features):
        deepest = max(len(features) - 1, 0) if isinstance(features, list | tuple) else 0
        raise StageError(f"frozen_levels: {name!r} has {deepest} feature levels; legal: 0 to {deepest}")
    if not features[levels].requires_grad:  # a level that stands for a stride that the network does not have
        return
    parameters = list(encoder.parameters())
    found = torch.autograd.grad(features[levels].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            parameter.requires_grad = False


def _loader(data: TrainingImages, schedule: Schedule) -> DataLoader[dict[str, Tensor]]:
    """Return the batches of one epoch after another; worker processes live through all of them."""
    workers = worker_count(schedule.workers) if schedule.workers and startable() else 0
    more: dict[str, Any] = {}
    if workers:
        more = {"multiprocessing_context": CONTEXT, "worker_init_fn": follow_parent, "persistent_workers": True}
        if not _shared_memory_holds(data, schedule.batch_size * 2 * (workers + 1)):
            more["collate_fn"] = _arrays
    return DataLoader(
        _Drawn(data),
        batch_size=schedule.batch_size,
        sampler=_EpochOrder(data, schedule.rng_seed),
        num_workers=workers,
        drop_last=len(data) > schedule.batch_size,
        generator=torch.Generator(),  # workers' seeds come from here: their number must not move what dropout draws
        **more,
    )


@contextlib.contextmanager
def _workers_ended(loader: Any) -> Iterator[None]:
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


class _EpochOrder(torch.utils.data.Sampler[tuple[int, int]]):
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


def _parameter_groups(model: nn.Module, fresh: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Return four groups: pre-trained or fresh, with weight decay (weights) or without (norms, biases)."""
    fresh_ids = {id(p) for p in fresh.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(a, b): [] for a in (False, True) for b in (False, True)}
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        groups[id(parameter) in fresh_ids, parameter.ndim > 1].append(parameter)
    return [
        {
            "params": parameters,
            "lr": (rate := schedule.learning_rate * (schedule.head_factor if is_fresh else 1.0)),
            "initial_lr": rate,  # where LambdaLR starts from when a checkpoint is resumed
            "weight_decay": schedule.weight_decay if decays else 0.0,
        }
        for (is_fresh, decays), parameters in groups.items()
    ]


def _checkpoint_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, history: dict[str, list[float]]) -> bytes:
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(tensors, metadata={"history": json.dumps(history)})


def _load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[float]] | None:
    """Load what was learnt, in place; returns the figures of the epochs, or None for an older version's checkpoint."""
    with safetensors.safe_open(path, framework="pt") as file:
        if "history" not in file.metadata():
            return None
        history: dict[str, list[float]] = json.loads(file.metadata()["history"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return history
