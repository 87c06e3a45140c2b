"""Compare the speed of wsseg's training with a plain PyTorch loop of the same network, images and batches, in one run.

python scripts/bench_training.py -c demo                               efficientnet-lite0, 16 images of 320 px per step
python scripts/bench_training.py -c demo --size 64 --epochs 2 --repeats 1 --backbone test_resnet       a quick look

The plain loop has what PyTorch offers: channels-last, autocast, AdamW, the same reading processes, pinned memory on CUDA, and
the loss read once per epoch. Both take turns; the first epoch of each is not measured. The figures are images per second:
the median over the measured epochs. wsseg's figure includes its metrics and its checkpoint of each epoch.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from wsseg.cli.options import Command, config_option, overwrite_option
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.models.classifier import ClassifierSpec, backbone_statistics, build_classifier
from wsseg.models.device import Device, autocast, precision_here, resolve_device
from wsseg.models.loading import reading_workers
from wsseg.models.training import Schedule, fit
from wsseg.outputs import Outputs
from wsseg.progress import listening
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.store.objects import ArtifactStore
from wsseg.workers import CONTEXT, follow_parent


class Epochs:
    """Notes when epochs end; a callback of wsseg's progress."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step_started(self, step: str) -> None:
        """Do nothing."""

    def step_done(self, step: str, metrics: Any) -> None:
        """Do nothing."""

    def epoch_done(self, step: str, epoch: int, epochs: int, metrics: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    def rate(self, images: int) -> float:
        """Return the median images per second of all epochs but the first."""
        return images / statistics.median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False))


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the multi-label loss."""
    return F.binary_cross_entropy_with_logits(network(batch["image"]).float(), batch["present"])


def with_wsseg(model: nn.Module, data: TrainingImages, schedule: Schedule) -> float:
    """Return wsseg's images per second."""
    epochs = Epochs()
    with tempfile.TemporaryDirectory() as folder, listening(epochs):
        fit(model, model.get_submodule("head"), data, loss_of, schedule, Path(folder), "bench")
    return epochs.rate(len(data) // schedule.batch_size * schedule.batch_size)


def with_plain_loop(model: nn.Module, data: TrainingImages, schedule: Schedule) -> float:
    """Return the images per second of a plain loop."""
    device = resolve_device(schedule.device)
    workers = reading_workers(schedule.workers, device)
    options: dict[str, Any] = {}
    if workers:
        options = {"multiprocessing_context": CONTEXT, "worker_init_fn": follow_parent, "persistent_workers": True}
    pinned = device.type == "cuda"
    loader = DataLoader(
        data, schedule.batch_size, shuffle=True, drop_last=True, num_workers=workers, pin_memory=pinned, **options
    )
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate)
    epochs = Epochs()
    for epoch in range(schedule.epochs):
        total = torch.zeros((), device=device)
        for batch in loader:
            batch = {name: values.to(device, non_blocking=pinned) for name, values in batch.items()}
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
            with autocast(schedule.precision, device):
                loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        float(total)
        epochs.epoch_done("bench", epoch + 1, schedule.epochs, {})
    return epochs.rate(len(loader) * schedule.batch_size)


@click.command(cls=Command)
@config_option
@click.option("--backbone", default="tf_efficientnet_lite0", show_default=True, help="A timm network.")
@click.option("--size", default=320, show_default=True, help="Height and width of the crops in pixels.")
@click.option("--batch-size", default=16, show_default=True, help="Images per step.")
@click.option("--images", default=128, show_default=True, help="Images per epoch.")
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(min=2), help="The first is not measured.")
@click.option("--repeats", default=3, show_default=True, help="Measurements of each loop.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda", "mps"]))
@click.option("--workers", type=int, help="Reading processes; by default as in a training.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@overwrite_option
def bench(
    config: str, backbone: str, size: int, batch_size: int, images: int, epochs: int, repeats: int, device: Device,
    workers: int | None, output: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Print the images per second of both loops and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Sources(open_config(config).data, ArtifactStore(Path(folder))).get("data.train")
        items, classes = listed.items[:images], listed.classes
        if len(items) < batch_size:
            raise click.UsageError(
                f"{config} has {len(items)} training images; expected: at least --batch-size {batch_size}"
            )
        mean, std = backbone_statistics(backbone)
        transform = augmentation((size, size), size, (0.7, 1.5), 0.3)
        data = TrainingImages(items, len(classes), transform, mean, std, 0)
        spec = ClassifierSpec(backbone, classes.names, mean, std)
        schedule = Schedule(
            epochs, batch_size, 3e-4, 10.0, 0.01, "one_cycle", 0, precision_here(device), device, workers
        )
        loops: dict[str, Callable[[nn.Module, TrainingImages, Schedule], float]]
        loops = {"wsseg": with_wsseg, "plain": with_plain_loop}
        rates: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(repeats):
            for name, loop in loops.items():
                torch.manual_seed(0)
                rates[name].append(loop(build_classifier(spec), data, schedule))
                click.echo(f"{name}: {rates[name][-1]:.1f} images/s", err=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    figures = {
        "backbone": backbone, "size": size, "batch_size": batch_size, "device": str(resolve_device(device)),
        "precision": schedule.precision, "workers": reading_workers(workers, resolve_device(device)),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "images_per_second": rates,
        "ratio": medians["wsseg"] / medians["plain"],
    }  # fmt: skip
    click.echo(f"wsseg {medians['wsseg']:.1f}, plain {medians['plain']:.1f} images/s, ratio {figures['ratio']:.2f}")
    if output is not None:
        Outputs(overwrite=overwrite).write(output, json.dumps(figures, indent=1).encode())


if __name__ == "__main__":
    sys.exit(bench())
