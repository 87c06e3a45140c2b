"""All stages on the first accelerator of this machine, or on the CPU if there is none. `scripts/check_device.py` runs this file.

The device is that of the fixture `device`. On each device:

- equal networks give equal bytes of seeds, masks and confidences; trainings promise equal bytes on a CPU only, because
  gradients of interpolation and pooling are summed in any order elsewhere;
- probabilities differ from those of a CPU in float32 by at most 0.001 in float32, and 0.05 in the precision ``auto``;
- a loss is computed without waiting for a result of the device.
"""

import shutil

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.test_training import folder, loss_of, network, plain_network, schedule
from wsseg.data.reading import read_image
from wsseg.models.segmenter import load_segmenter
from wsseg.models.training import fit
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.stages import train_affinity, train_classifier, train_segmenter
from wsseg.stages.layout import PER_IMAGE
from wsseg.stages.predict_masks.config import Config
from wsseg.stages.predict_masks.prediction import Predictor
from wsseg.store.artifact import CHECKPOINT
from wsseg.store.objects import ArtifactStore

TRAININGS = (train_classifier, train_affinity, train_segmenter)


class Waits(TorchDispatchMode):
    """Collects the operations whose result the CPU must know before it can go on."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        to_cpu = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("device") == torch.device("cpu")
        if to_cpu or {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


def run(config, store, device):
    """Run the recommended recipe on a device, without the CRF, which runs on the CPU."""
    first = make_plan("best", str(config), store)
    tables = {p.step.table: p.config for p in first.steps}
    values = [f"{name}.device={device.type}" for name, values in tables.items() if hasattr(values, "device")]
    values += [f"{name}.crf=off" for name, values in tables.items() if hasattr(values, "crf")]
    plan = make_plan("best", str(config), store, (*values, "walk.when=always"))
    run_plan(plan)
    return plan


@pytest.mark.slow
def test_all_stages_run_and_equal_networks_give_equal_bytes(csv_data, tmp_path, device, monkeypatch):
    waits = Waits()
    trained = []

    def spied(fit):
        def fit_and_watch(model, fresh, images, loss_of, *args, **kwargs):
            def watched(network, batch):
                with waits:
                    return loss_of(network, batch)

            trained.append(args[2])
            return fit(model, fresh, images, watched, *args, **kwargs)

        return fit_and_watch

    for stage in TRAININGS:
        monkeypatch.setattr(f"{stage.__name__}.training.fit", spied(fit))
    store = ArtifactStore(tmp_path / "store")
    plan = run(csv_data, store, device)
    assert not plan.failed and all(planned.artifact for planned in plan.active)
    assert {"classifier", "affinity", "segmenter"} <= set(trained) and waits.found == set()

    again = ArtifactStore(shutil.copytree(store.root, tmp_path / "again"))
    for planned in plan.active:
        if planned.artifact.kind in PER_IMAGE:
            shutil.rmtree(again.root / "objects" / planned.key)
    for planned in run(csv_data, again, device).active:
        assert planned.artifact.files == store.get(planned.key).files, planned.step.name

    segmenter = store.get(plan.active[[p.step.name for p in plan.active].index("segmenter")].key)
    photograph = read_image(next(iter((csv_data.parent / "data" / "val" / "images").iterdir())))

    def probability(device, precision):
        config = Config(crf="off", device=device, precision=precision)
        model, spec = load_segmenter(segmenter.read_bytes, "here")
        return Predictor(model, spec, config).predict([photograph])[0].probability

    expected = probability("cpu", "float32")
    assert np.abs(probability(device.type, "float32") - expected).max() < 0.001
    assert np.abs(probability(device.type, "auto") - expected).max() < 0.05


def test_memory_that_runs_out_on_the_device_is_handled(data, tmp_path, device, caplog):
    def hungry(model, batch):
        if len(batch["image"]) > 1:
            torch.empty(2**48, device=device)  # 1 PiB
        return loss_of(model, batch)

    model = plain_network()
    history = fit(model, model[4], data, hungry, schedule(device=device.type, epochs=1), tmp_path, "tiny")
    assert "computed in parts of 1 images" in caplog.text and np.isfinite(history["loss"]).all()


def test_a_float16_training_resumes_with_its_scale(data, tmp_path, device):
    if device.type == "cpu":
        pytest.skip("float16 trainings need an accelerator")
    values = {"device": device.type, "precision": "float16"}
    complete, resumed = network(), network()
    history = fit(complete, complete[5], data, loss_of, schedule(**values), folder(tmp_path, "complete"), "tiny")
    out = folder(tmp_path, "stopped")

    def stopping(model, batch):
        if (out / CHECKPOINT).is_file():
            raise KeyboardInterrupt
        return loss_of(model, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(resumed, resumed[5], data, stopping, schedule(**values), out, "tiny")
    resumed = network()
    assert fit(resumed, resumed[5], data, loss_of, schedule(**values), out, "tiny")["loss"] == pytest.approx(
        history["loss"], rel=1e-2
    )


def test_a_step_that_waits_would_be_found(device):
    """The test of the loss functions relies on it."""
    values = torch.arange(3.0, device=device)
    for wait in (lambda: values[values > 1], lambda: float(values.sum()), lambda: torch.bincount(values.long())):
        with Waits() as waits:
            wait()
        assert waits.found
    with Waits() as waits:
        torch.softmax(values, 0).sum()
    assert not waits.found
