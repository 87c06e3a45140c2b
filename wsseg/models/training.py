"""The training loop: epochs, learning rate schedule, autocast and checkpoints."""

import contextlib
import gc
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from wsseg import processes
from wsseg.data.transforms import TrainingImages
from wsseg.errors import StageError
from wsseg.models.checkpoint import checkpoint_bytes, load_checkpoint
from wsseg.models.compilation import compiled
from wsseg.models.cpu.allocation import freed_memory_kept
from wsseg.models.cpu.depthwise import DepthwiseGradientsInFloat32
from wsseg.models.device import Device, Precision, release_memory, resolve_device, training_precision
from wsseg.models.loading import batch_loader, reading_workers, workers_ended
from wsseg.progress import epoch_done, metric, track
from wsseg.store.artifact import CHECKPOINT
from wsseg.store.files import atomic_write

log = logging.getLogger("wsseg")
_STEPS_BETWEEN_READS = 50  # of the loss on an accelerator: reading it waits for the work that is queued there


@dataclass(frozen=True)
class Schedule:
    """Values of a training.

    Args:
        epochs: passes over the data.
        batch_size: images per step, over all processes.
        learning_rate: highest learning rate of the pre-trained part.
        head_lr_multiplier: learning rate of newly initialised parts as a multiple of `learning_rate`.
        weight_decay: weight decay of AdamW, for parameters of two or more dimensions.
        schedule: ``one_cycle`` (linear warm-up over a tenth of the steps, then cosine to 0) or ``poly`` (power 0.9).
        rng_seed: seed of all random numbers.
        precision: data type of autocast, see `resolve_precision`.
        device: device of the training; ``auto`` is the first accelerator, or the CPU if there is none.
        workers: processes that read and augment images; with 0 the training process reads them. None chooses, see
            `reading_workers`.
        compile: whether the network is compiled, see `wsseg.models.compilation`.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    head_lr_multiplier: float
    weight_decay: float
    schedule: Literal["one_cycle", "poly"]
    rng_seed: int
    precision: Precision
    device: Device
    workers: int | None
    compile: bool = False


def learning_rate_factor(schedule: str, step: int, steps: int) -> float:
    """Return the learning rate at `step` of `steps` as a fraction of the highest one, in (0, 1]."""
    if schedule == "poly":
        return float((1 - step / steps) ** 0.9)
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


class Measure:
    """A metric of each epoch, computed from counts that `loss_of` adds in every step.

    It is measured on the augmented crops of the training, without another forward pass: it shows the progress of the
    training, not the quality of the network.

    Args:
        name: name of the metric.
        shape: shape of the counts.
        metric: computes the metric, a fraction, from the int64 counts of an epoch.
    """

    def __init__(self, name: str, shape: tuple[int, ...], metric: Callable[[Tensor], float]) -> None:
        self.name, self.metric = name, metric
        self.counts = torch.zeros(shape, dtype=torch.long)

    def add(self, counts: Tensor) -> None:
        """Add the counts of one step."""
        self.counts = self.counts.to(counts.device) + counts.detach()


class EpochLoss:
    """The mean loss of an epoch. Losses stay on their device and are read in groups, so that a step waits for no result.

    Args:
        group: number of losses that are read at once.
    """

    def __init__(self, group: int) -> None:
        self._group = group
        self._unread: list[Tensor] = []
        self._total, self._count = 0.0, 0

    def add(self, loss: Tensor) -> None:
        """Add the scalar loss of one step, and show the mean beside the progress bar if a group is complete."""
        self._unread.append(loss.detach())
        if len(self._unread) == self._group:
            metric(f"loss {self.mean():.4f}")

    def mean(self) -> float:
        """Return the mean of all losses; 0 without any."""
        for value in torch.stack(self._unread).tolist() if self._unread else ():
            self._total, self._count = self._total + value, self._count + 1
        self._unread.clear()
        return self._total / max(self._count, 1)


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
    before_step: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Train `model` in place. An interrupted training resumes after its last complete epoch and ends in the same bytes.

    If the device runs out of memory, the training goes back to its last complete epoch and computes each batch in parts of
    half as many images. Their gradients are summed, weighted by their number of images, so that steps and learning rates
    stay the same; batch normalisations see fewer images at once, so that the network's bytes depend on the parts.

    Args:
        model: the network.
        fresh: the part of the network without pre-trained weights; its learning rate is `head_lr_multiplier` times higher.
        data: augmented training images; its `epoch` is set.
        loss_of: returns the scalar loss of a batch, or of a part of it.
        schedule: the values of the training.
        out: folder of the checkpoint, which is kept until the artifact is complete: a kill after the last epoch loses no
            work either.
        what: name of the network in log lines.
        measure: metric that `loss_of` counts besides the loss.
        before_step: is called once before each step.

    Returns:
        The mean ``loss`` of each epoch, and the metric of `measure` under its name.

    Raises:
        StageError: there are no images, the batch cannot be split over the processes, or the loss is not finite.
    """
    if len(data) == 0:
        raise StageError(f"{what}: no training images")
    if schedule.batch_size % processes.count():
        raise StageError(
            f"batch_size: found {schedule.batch_size}; expected with {processes.count()} processes: a multiple of {processes.count()}"
        )
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at_once = schedule.batch_size // processes.count()
    while True:
        try:
            return _fit(model, fresh, data, loss_of, schedule, out, what, measure, before_step, at_once)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            # the other processes of a launcher would wait for this one
            if at_once == 1 or processes.count() > 1 or not should_reduce_batch_size(error):
                raise
        at_once = (at_once + 1) // 2
        log.warning("%s: out of memory; each batch is now computed in parts of %d images", what, at_once)
        gc.collect()  # the error's traceback held the tensors of the failed step
        release_memory(resolve_device(schedule.device))
        model.zero_grad(set_to_none=True)
        model.load_state_dict(initial)


def _fit(
    model: nn.Module,
    fresh: nn.Module,
    data: TrainingImages,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    schedule: Schedule,
    out: Path,
    what: str,
    measure: Measure | None,
    before_step: Callable[[], None],
    at_once: int,
) -> dict[str, list[float]]:
    """Train like `fit`, with at most `at_once` images in memory at a time."""
    device = resolve_device(schedule.device)
    dtype = training_precision(schedule.precision, device)
    mixed = {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    AcceleratorState._reset_state()  # one process trains several networks, which may differ in precision
    with processes.launcher_hidden():
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=mixed,
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=device.type == "cuda"),
            step_scheduler_with_optimizer=False,
        )
    workers = reading_workers(schedule.workers, device)
    loader = batch_loader(data, schedule.batch_size, workers, pinned=device.type == "cuda")
    steps = schedule.epochs * len(loader)
    optimizer = torch.optim.AdamW(_parameter_groups(model, fresh, schedule))
    model.to(memory_format=torch.channels_last)
    history: dict[str, list[float]] = {"loss": []}
    if measure is not None:
        history[measure.name] = []
    checkpoint = out / CHECKPOINT
    if (
        checkpoint.is_file()
        and (earlier := load_checkpoint(checkpoint, model, optimizer, accelerator.scaler)) is not None
    ):
        history = earlier
        log.info("%s: resumes after epoch %d of %d", what, len(history["loss"]), schedule.epochs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(schedule.schedule, step, steps),
        last_epoch=len(history["loss"]) * len(loader) - 1,
    )
    slow = device.type == "cpu" and dtype == torch.bfloat16
    quick_gradients = DepthwiseGradientsInFloat32() if slow else contextlib.nullcontext()
    prepared, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    network = compiled(prepared, what) if schedule.compile else prepared
    with workers_ended(loader), single_values_unnormalised(model):
        for epoch in range(len(history["loss"]), schedule.epochs):
            data.epoch = epoch
            torch.manual_seed((schedule.rng_seed * 1_000_003 + epoch) % 2**63)  # for dropout and similar layers
            # torch's loader drew one number per epoch when it used the global generator; drawing it keeps networks' bytes
            torch.empty((), dtype=torch.long).random_()
            prepared.train()
            for module in prepared.modules():  # frozen batch normalisations keep their statistics as well
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
                    p.requires_grad for p in module.parameters()
                ):
                    module.eval()
            losses = EpochLoss(1 if device.type == "cpu" else _STEPS_BETWEEN_READS)
            if measure is not None:
                measure.counts.zero_()
            for batch in track(loader, len(loader), f"{what} epoch {epoch + 1}/{schedule.epochs}", "steps"):
                batch = {name: torch.as_tensor(value, device=accelerator.device) for name, value in batch.items()}
                batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
                before_step()
                step_losses = []
                for part, share in _parts(batch, at_once):
                    with accelerator.autocast(), quick_gradients:
                        loss = loss_of(network, part) * share
                    accelerator.backward(loss)
                    step_losses.append(loss.detach())
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                losses.add(torch.stack(step_losses).sum())
            mean = losses.mean()
            if accelerator.num_processes > 1:
                mean = float(accelerator.reduce(torch.tensor(mean, device=accelerator.device), "mean"))
            if not math.isfinite(mean):
                raise StageError(
                    f"{what}: the loss is {mean} after epoch {epoch + 1}; lower the learning rate or use float32"
                )
            metrics = {"loss": mean}
            if measure is not None:
                counts = measure.counts.to(accelerator.device)
                metrics[measure.name] = measure.metric(accelerator.reduce(counts, "sum").cpu())
            for name, value in metrics.items():
                history[name].append(value)
            summary = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            log.info("%s: epoch %d/%d, %s", what, epoch + 1, schedule.epochs, summary)
            epoch_done(epoch + 1, schedule.epochs, metrics)
            if accelerator.is_main_process:
                atomic_write(checkpoint, checkpoint_bytes(model, optimizer.optimizer, history, accelerator.scaler))
    model.eval()
    return history


def _parts(batch: dict[str, Tensor], at_once: int) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Yield parts of a batch of at most `at_once` images, and the fraction of the batch's images in each part."""
    count = len(batch["image"])
    for start in range(0, count, at_once):
        part = {name: values[start : start + at_once] for name, values in batch.items()}
        yield part, len(part["image"]) / count


@contextlib.contextmanager
def single_values_unnormalised(model: nn.Module) -> Iterator[None]:
    """While entered, a batch normalisation in training mode uses its running statistics for a single value per channel.

    A batch of one image whose feature maps have one place has one value per channel, and no variance.
    """

    def use_running_statistics(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and inputs[0].numel() == inputs[0].shape[1]:
            module.eval()

    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(use_running_statistics) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def try_training(
    outline: nn.Module, schedule: Schedule, count: int, crop: tuple[int, int], what: str, channels: int = 3
) -> None:
    """Pass a batch through a network on the device ``meta`` as the training will, without computing anything.

    Args:
        outline: the network on torch's device ``meta``.
        schedule: the values of the training.
        count: number of training images.
        crop: (H, W) of the crops, in pixels.
        what: the config table, for errors.
        channels: channels of the images.

    Raises:
        StageError: the device, the precision, the batch size or the size of the crops does not fit.
    """
    training_precision(schedule.precision, resolve_device(schedule.device))
    batch = max(1, min(schedule.batch_size, count) // processes.count())
    try:
        with torch.device("meta"), single_values_unnormalised(outline):
            outline.train()(torch.zeros(batch, channels, *crop))
    # networks raise any of these for a size that does not fit
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
            f"{what}: the network does not accept {batch} crops of {crop[0]}x{crop[1]} px ({reason}); "
            "expected for most networks: a multiple of 32"
        ) from error


def _parameter_groups(model: nn.Module, fresh: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Return four groups: pre-trained or fresh parameters, with weight decay (weights) or without (norms, biases)."""
    fresh_ids = {id(p) for p in fresh.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(a, b): [] for a in (False, True) for b in (False, True)}
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        groups[id(parameter) in fresh_ids, parameter.ndim > 1].append(parameter)
    return [
        {
            "params": parameters,
            "lr": (rate := schedule.learning_rate * (schedule.head_lr_multiplier if is_fresh else 1.0)),
            "initial_lr": rate,  # LambdaLR requires it when a checkpoint is resumed
            "weight_decay": schedule.weight_decay if decays else 0.0,
        }
        for (is_fresh, decays), parameters in groups.items()
    ]
