import multiprocessing
import os
import re
import shutil
import signal

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from accelerate.state import PartialState
from PIL import Image as PILImage
from torch import nn

from tests.conftest import REPOSITORY
from wsseg.data.batches import at_size
from wsseg.data.reading import inspect_file
from wsseg.data.transforms import TrainingImages, augmentation
from wsseg.errors import DatasetError, MachineError, StageError, explaining
from wsseg.models import loading, training
from wsseg.models.checkpoint import checkpoint_bytes, load_checkpoint
from wsseg.models.device import resolve_device
from wsseg.models.freezing import freeze_levels
from wsseg.models.segmenter import SegmenterSpec, build_segmenter, check_size, enlarged_argmax, segment
from wsseg.models.training import EpochLoss, Measure, Schedule, fit, learning_rate_factor
from wsseg.models.weights import outlined
from wsseg.store.artifact import CHECKPOINT
from wsseg.types import LabeledImage


def schedule(**values):
    base = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "head_lr_multiplier": 2.0, "weight_decay": 0.01,
            "schedule": "one_cycle", "rng_seed": 0, "precision": "float32", "device": "cpu", "workers": 0}  # fmt: skip
    return Schedule(**{**base, **values})


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )


def folder(tmp_path, name):
    """Return a new folder: a training resumes from the checkpoint in its folder."""
    (tmp_path / str(name)).mkdir()
    return tmp_path / str(name)


def loss_of(model, batch):
    return nn.functional.binary_cross_entropy_with_logits(model(batch["image"]), batch["present"])


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_training_learns_and_a_finished_training_is_not_repeated(data, tmp_path):
    model = network()
    model[2].p = 0.0
    history = fit(
        model, model[5], data, loss_of, schedule(epochs=20, batch_size=3, learning_rate=0.02), tmp_path, "tiny"
    )
    assert history["loss"][-1] < 0.7 * history["loss"][0] and not model.training
    second = network()
    second[2].p = 0.0
    repeated = fit(
        second, second[5], data, None, schedule(epochs=20, batch_size=3, learning_rate=0.02), tmp_path, "tiny"
    )
    assert repeated == history and (tmp_path / CHECKPOINT).exists() and not second.training
    assert all(torch.equal(a, b) for a, b in zip(state(model).values(), state(second).values(), strict=True))


def test_a_training_stopped_after_any_epoch_resumes_to_the_same_bytes(data, tmp_path, monkeypatch):
    complete = network()
    history = fit(complete, complete[5], data, loss_of, schedule(), folder(tmp_path, "complete"), "tiny")
    for stop_after in (1, 2, 3):
        out = tmp_path / f"stopped{stop_after}"
        out.mkdir()
        written = []

        def write_and_stop(path, content, real=training.atomic_write, written=written, stop_after=stop_after):
            real(path, content)
            written.append(path)
            if len(written) == stop_after:
                raise KeyboardInterrupt

        model = network()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "atomic_write", write_and_stop)
            fit(model, model[5], data, loss_of, schedule(), out, "tiny")
        resumed = network()
        assert fit(resumed, resumed[5], data, loss_of, schedule(), out, "tiny") == history
        assert all(torch.equal(a, b) for a, b in zip(state(complete).values(), state(resumed).values(), strict=True))


def test_a_measure_is_computed_per_epoch_and_restored_after_an_interruption(data, tmp_path, monkeypatch):
    def measured(out, stop_after=None):
        """Train with a measure that is the fraction of images with the first class."""
        measure = Measure("share", (2,), lambda counts: int(counts[0]) / int(counts[1]))

        def loss_and_counts(model, batch):
            measure.add(torch.stack([batch["present"][:, 0].sum().long(), torch.tensor(len(batch["present"]))]))
            return loss_of(model, batch)

        real, written = training.atomic_write, []

        def write_and_stop(path, content):
            real(path, content)
            written.append(path)
            if len(written) == stop_after:
                raise KeyboardInterrupt

        model = network()
        with monkeypatch.context() as patch:
            patch.setattr(training, "atomic_write", write_and_stop)
            return fit(model, model[5], data, loss_and_counts, schedule(batch_size=2), out, "tiny", measure)

    complete = measured(folder(tmp_path, "complete"))
    labels = [data[i]["present"][0].item() for i in range(len(data))]
    assert complete["share"] == pytest.approx([sum(labels) / len(labels)] * len(complete["loss"]))
    out = folder(tmp_path, "stopped")
    with pytest.raises(KeyboardInterrupt):
        measured(out, stop_after=2)
    assert measured(out) == complete


def test_another_seed_gives_another_network(data, tmp_path):
    states = []
    for seed in (0, 1):
        model = network()
        fit(model, model[5], data, loss_of, schedule(epochs=1, rng_seed=seed), folder(tmp_path, seed), "tiny")
        states.append(state(model)["0.weight"])
    assert not torch.equal(*states)


def test_a_loss_that_is_not_finite_stops_the_training_with_advice(data, tmp_path):
    model = network()
    with pytest.raises(StageError, match="the loss is nan after epoch 1; lower the learning rate"):
        fit(model, model[5], data, lambda m, b: m(b["image"]).mean() * float("nan"), schedule(), tmp_path, "tiny")


def test_schedules_by_hand():
    assert [learning_rate_factor("poly", s, 10) for s in (0, 5)] == [1.0, pytest.approx(0.5**0.9)]
    assert [learning_rate_factor("one_cycle", s, 1) for s in (0, 1)] == [
        1.0,
        1.0,
    ]  # the only step, and the one that the scheduler computes after it
    one_cycle = [learning_rate_factor("one_cycle", s, 100) for s in range(100)]
    assert one_cycle[:2] == [0.1, 0.2] and one_cycle[10] == max(one_cycle) == 1.0 and one_cycle[-1] < 0.001
    assert one_cycle[55] == pytest.approx(0.5)


def test_frozen_levels_keep_weights_and_statistics(data, tmp_path):
    import timm

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = timm.create_model("test_resnet", num_classes=1)

        def forward(self, x):
            return self.net(x)

    torch.manual_seed(0)
    model = Wrapper()
    freeze_levels(model.net, 2, "test_resnet")
    before = state(model)
    fit(model, model.net.fc, data, loss_of, schedule(epochs=1), tmp_path, "tiny")
    changed = {name.split(".")[1] for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
    assert changed & {"conv1", "bn1", "layer1"} == set() and {"layer3", "fc"} <= changed
    with pytest.raises(StageError, match="expected: 0 to"):
        freeze_levels(model.net, 9, "test_resnet")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_rejected_on_a_machine_without_it():
    with pytest.raises(StageError, match="'cuda' is not available on this machine; expected here: auto, cpu"):
        resolve_device("cuda")


class Brightness(nn.Module):
    def forward(self, images):
        return torch.cat([-images[:, :1], images[:, :1]], dim=1) * 5


def test_scores_are_averaged_over_scales_and_flips():
    images = torch.rand(2, 3, 32, 64)
    inputs = [images, at_size(images, (64, 128))]
    scores = segment(Brightness(), inputs, (32, 64), True)
    assert scores.shape == (2, 2, 32, 64) and torch.allclose(scores.sum(1), torch.ones(2, 32, 64), atol=1e-5)
    mirrored = segment(Brightness(), [i.flip(3) for i in inputs], (32, 64), True)
    assert torch.allclose(scores, mirrored.flip(3), atol=1e-5)


def test_enlarged_argmax_equals_the_argmax_of_enlarged_scores():
    import cv2

    scores = np.random.default_rng(0).random((4, 5, 7)).astype(np.float32)
    large = np.stack([cv2.resize(s, (70, 33), interpolation=cv2.INTER_LINEAR) for s in scores])
    mask, highest = enlarged_argmax(scores, (33, 70))
    assert np.array_equal(mask, large.argmax(axis=0)) and np.array_equal(highest, large.max(axis=0))


class Deadly(TrainingImages):
    """Its workers are killed from outside, as a system does that runs out of memory."""

    signal = signal.SIGTERM

    def example(self, draw):
        if draw.image == 3 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), self.signal)
        return super().example(draw)


def trained(data, out, **values):
    """Return loss and weights after a training."""
    out.mkdir()
    model = network()
    history = fit(model, model[5], data, loss_of, schedule(**values), out, "tiny")
    return history, state(model)


@pytest.mark.slow
@pytest.mark.parametrize("shared_memory", [2**30, 2**10])
def test_workers_persist_between_epochs_and_change_no_byte(data, tmp_path, monkeypatch, shared_memory):
    """With the small shared memory of a container, batches pass through pipes."""
    expected = trained(data, tmp_path / "without")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 0, shared_memory))
    started = []
    monkeypatch.setattr(loading.CONTEXT.Process, "start", counted(loading.CONTEXT.Process.start, started))
    history, weights = trained(data, tmp_path / "with", workers=2)
    assert len(started) == 2  # for three epochs
    assert history == expected[0] and all(torch.equal(weights[n], expected[1][n]) for n in weights)
    assert multiprocessing.active_children() == []


def counted(start, started):
    def wrapper(self):
        started.append(self)
        start(self)

    return wrapper


def test_batches_that_do_not_fit_into_shared_memory_are_arrays(data, monkeypatch):
    free = 8 * sum(t.nbytes for t in data[0].values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    assert loading._fits_shared_memory(data, 6) and not loading._fits_shared_memory(data, 8)
    loader = loading.batch_loader(data, 2, 1)
    assert loader.collate_fn is loading._arrays
    assert set(loader.collate_fn([data[0], data[1]])) == {"image", "present"}


@pytest.mark.slow
def test_an_error_in_a_worker_is_one_line(data, tmp_path):
    path = data.items[3].path
    path.unlink()
    with pytest.raises(DatasetError) as excinfo, explaining("segmenter"):
        trained(data, tmp_path / "missing", workers=1)
    assert str(path) in str(excinfo.value) and "Traceback" not in str(excinfo.value) and "\n" not in str(excinfo.value)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SIGKILL", "a worker process was killed, .*lower segmenter.workers"),
        ("SIGBUS", "shared memory .*segmenter.workers"),
    ],
)
def test_a_killed_worker_is_explained(data, tmp_path, monkeypatch, name, message):
    if not hasattr(signal, name):
        pytest.skip(f"no {name} on this system")
    deadly = Deadly(data.items, 1, data.transform, data.mean, data.std, 0)
    deadly.signal = getattr(signal, name)
    values = {"segmenter.workers": 1, "segmenter.batch_size": 2}
    with pytest.raises(MachineError, match=message), explaining("segmenter", values):
        trained(deadly, tmp_path / "killed", workers=1)


@pytest.mark.parametrize(
    "variables", [{"RANK": "", "LOCAL_RANK": ""}, {"LOCAL_RANK": "0"}, {"RANK": "x", "PMI_SIZE": "2"}]
)
def test_incomplete_variables_of_a_launcher_are_ignored(data, tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    PartialState._reset_state()
    trained(data, tmp_path / "alone", epochs=1)
    assert {name: os.environ[name] for name in variables} == variables


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11", "efficientnet-b0", "mit_b0", "tu-resnet18"])
def test_the_first_levels_of_any_encoder_are_frozen(name):
    encoder = smp.encoders.get_encoder(name, weights=None)
    freeze_levels(encoder, 2, name)
    frozen = {n for n, p in encoder.named_parameters() if not p.requires_grad}
    assert 0 < len(frozen) < len(list(encoder.parameters()))
    image = torch.randn(2, 3, 64, 64)
    features = encoder.train()(image)
    assert not features[2].requires_grad and features[3].requires_grad
    assert all(p.grad is None for p in encoder.parameters())
    with pytest.raises(StageError, match="frozen_levels: .* expected: 0 to"):
        freeze_levels(encoder, 9, name)


def test_a_batch_with_one_value_per_channel_can_be_trained_on(tmp_path):
    PILImage.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "0.png")
    items = [LabeledImage("0", tmp_path / "0.png", (1,), (32, 32), inspect_file(tmp_path / "0.png").sha256)]
    data = TrainingImages(items, 1, augmentation((32, 32), 32, (0.8, 1.2), 0.2), (0.5,) * 3, (0.5,) * 3, 0)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 1)
    )
    history = fit(model, nn.ModuleList(), data, loss_of, schedule(epochs=2, batch_size=1), tmp_path, "tiny")
    assert len(history["loss"]) == 2
    assert (
        model[1].num_batches_tracked == 2 and model[3].num_batches_tracked == 0
    )  # the second one keeps its statistics
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_float16_on_a_cpu_is_rejected(data, tmp_path):
    model = network()
    with pytest.raises(StageError, match='precision: found "float16"; expected for training on a CPU: auto'):
        fit(model, model[5], data, loss_of, schedule(precision="float16"), tmp_path, "tiny")


def plain_network():
    """Return a network whose images do not influence each other, so that parts of a batch add up to the batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))


def test_a_training_that_runs_out_of_memory_goes_on_with_parts_of_the_batch(data, tmp_path, caplog):
    steps, seen = [], []

    def hungry_loss_of(model, batch):
        seen.append(len(batch["image"]))
        if len(batch["image"]) > 2 and len(seen) > 1:  # the first step succeeds, and must not count twice
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory")
        return loss_of(model, batch)

    expected, model = plain_network(), plain_network()
    values = schedule(batch_size=3, epochs=2)
    history = fit(expected, expected[4], data, loss_of, values, folder(tmp_path, "roomy"), "tiny")
    parts = fit(
        model, model[4], data, hungry_loss_of, values, folder(tmp_path, "tight"), "tiny", None, lambda: steps.append(1)
    )
    assert "tiny: out of memory; each batch is now computed in parts of 2 images" in caplog.text
    assert seen == [3, 3, *[2, 1] * 4] and len(steps) == 2 + 4
    assert parts["loss"] == pytest.approx(history["loss"], rel=1e-5)
    for name, tensor in state(model).items():
        torch.testing.assert_close(tensor, state(expected)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("error", ["not enough memory: no images at all", "can't allocate memory"])
def test_a_training_that_cannot_be_divided_further_fails(data, tmp_path, error):
    seen = []

    def failing(model, batch):
        seen.append(len(batch["image"]))
        raise RuntimeError(f"DefaultCPUAllocator: {error}")

    model = network()
    with pytest.raises(RuntimeError, match=error):
        fit(model, model[5], data, failing, schedule(batch_size=4), tmp_path, "tiny")
    assert seen == ([4, 2, 1] if "allocate" in error else [4])


def test_a_resumed_float16_training_keeps_its_scale(tmp_path):
    """The scale of float16's gradients changes in the training; one that starts anew would skip other steps."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    scaler.scale(torch.ones(()))
    scaler.update(128.0)
    (tmp_path / CHECKPOINT).write_bytes(checkpoint_bytes(model, optimizer, {"loss": [1.0]}, scaler))
    resumed = torch.amp.GradScaler("cpu", init_scale=512.0)
    assert load_checkpoint(tmp_path / CHECKPOINT, network(), optimizer, resumed) == {"loss": [1.0]}
    assert resumed.state_dict() == scaler.state_dict() and resumed.get_scale() == 128.0


def test_on_an_accelerator_losses_are_read_in_groups(monkeypatch):
    shown = []
    monkeypatch.setattr(training, "metric", shown.append)
    losses = EpochLoss(group=2)
    for value in (1.0, 3.0, 5.0):
        losses.add(torch.tensor(value))
    assert shown == ["loss 2.0000"]
    assert losses.mean() == losses.mean() == 3.0
    assert EpochLoss(group=2).mean() == 0.0


def test_an_accelerator_gets_reading_processes_by_default(monkeypatch):
    monkeypatch.setattr(loading, "worker_count", lambda workers, sharing=1: workers or 16 // sharing)
    cpu, accelerator = torch.device("cpu"), torch.device("cuda")
    assert [loading.reading_workers(n, cpu) for n in (None, 0, 3)] == [0, 0, 3]
    assert [loading.reading_workers(n, accelerator) for n in (None, 0, 3)] == [8, 0, 3]
    monkeypatch.setattr(loading.processes, "local_count", lambda: 4)
    assert loading.reading_workers(None, accelerator) == 4


# lines with float64 whose tensors are always on the CPU
_ON_CPU = (
    "places = torch.arange(length, dtype=torch.float64)",
    "return best.masked_fill(size[:, 0] == 0, torch.nan), (place + 1).double() / (_BINS - 1)",
)


def test_float64_is_used_on_the_cpu_only():
    """MPS does not support float64; tensors are moved to the CPU before they are summed in it."""
    for path in sorted((REPOSITORY / "wsseg").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines() if "import torch" in text else ():
            if re.search(r"\.double\(\)|torch\.float64|torch\.double", line):
                assert ".cpu()" in line or line.strip() in _ON_CPU, f"{path.name}: {line.strip()}"
            assert ".cuda(" not in line, f"{path.name}: names one kind of device: {line.strip()}"


def test_the_first_accelerator_is_found_with_the_interface_of_torch_2_6(monkeypatch):
    def current_accelerator():  # 2.6 has no argument check_available
        return torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda available=available: available)
        assert resolve_device("auto").type == expected


def test_a_segmenter_that_does_not_accept_a_size_is_rejected():
    spec = SegmenterSpec("pan", "resnet18", {}, ("a",), 64, (0.5,) * 3, (0.5,) * 3)
    outline = outlined(lambda: build_segmenter(spec))
    check_size(outline, (320, 256))
    with pytest.raises(StageError, match=r"does not accept images of \(64, 96\) px .* increase segmenter.size"):
        check_size(outline, (64, 96))
    with pytest.raises(StageError, match=r"does not accept images of \(64, 64\) px"):
        segment(build_segmenter(spec).eval(), [torch.zeros(1, 3, 64, 64)], (64, 64), False)
