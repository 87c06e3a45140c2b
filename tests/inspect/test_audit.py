"""The audit of a network that only uses colours, so that its evidence is known."""

import json

import pytest
import torch
from click.testing import CliRunner

from tests.inspect.test_explain import Pixels
from wsseg.cli.main import cli
from wsseg.errors import StageError
from wsseg.inspect.audit import Sample, agreement, audit
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.stages.make_seeds.config import Config
from wsseg.store.objects import ArtifactStore

SPEC = ClassifierSpec("pixels", ("red", "blue"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
VALUES = Config(layers=("backbone.same",), size=64, scales=(1.0,), precision="float32")


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr("wsseg.inspect.audit.feature_levels", lambda model: ["backbone.same"])
    network = Classifier(Pixels(), 3, 2)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[12.0, -6.0, -6.0], [-6.0, -6.0, 12.0]])[:, :, None, None])
    return network.eval()


@pytest.fixture
def sources(csv_data, tmp_path):
    return Sources(open_config(str(csv_data)).data, ArtifactStore(tmp_path / "store"))


def test_the_metrics_of_a_network_that_uses_colours(model, sources):
    images, truth = sources.get("data.train"), sources.get("truth.train")
    row = dict(audit(model, SPEC, images, truth, ["cam", "eigen_cam"], VALUES, Sample(4, 8, "zero")))["cam"]
    assert row["insertion"] > row["deletion"] + 0.1
    assert row["pointing"] == 1 and row["pxap"] > 0.9 and row["seed_miou"] > 0.7
    assert row["flip"] == pytest.approx(1, abs=1e-3) and row["sensitivity"] < 0.2
    assert set(row["randomisation"]) == {"head", "backbone.same"} and row["ms_per_image"] > 0


def test_plausibility_is_not_measured_without_masks(model, sources):
    sample = Sample(images=99, steps=4, road=True)
    rows = dict(audit(model, SPEC, sources.get("data.val"), None, ["cam"], VALUES, sample))
    assert "pxap" not in rows["cam"] and "seed_miou" not in rows["cam"] and rows["cam"]["road"] > 0
    assert agreement(rows) == []


def test_a_classifier_of_other_classes_is_refused(model, sources):
    other = ClassifierSpec("pixels", ("cat", "dog"), SPEC.mean, SPEC.std)
    with pytest.raises(StageError, match="trained on the classes cat, dog; those of the images are red, blue"):
        next(audit(model, other, sources.get("data.train"), None, ["cam"], VALUES, Sample()))


def metrics(insertion, iou, randomised=0.0):
    return {"insertion": insertion, "deletion": 0.1, "best_iou": iou, "randomised": randomised}


def test_the_sentences_on_faithfulness_and_plausibility():
    same = agreement({"a": metrics(0.9, 0.6), "b": metrics(0.5, 0.5), "c": metrics(0.2, 0.1)})
    assert same == [
        "Faithfulness and plausibility agree on the order of methods (rank correlation over 3 methods 1.00); "
        "a is best in both."
    ]
    (disagreement, insensitive) = agreement(
        {"a": metrics(0.9, 0.1), "b": metrics(0.5, 0.5), "edges": metrics(0.2, 0.6, randomised=0.9)}
    )
    assert "disagree on the order of methods (rank correlation over 3 methods -1.00)" in disagreement
    assert "a is the most faithful, edges the most plausible" in disagreement
    assert insensitive == (
        "Insensitive to random weights (correlation above 0.5), so no evidence of what the network learned: edges."
    )


@pytest.mark.slow
def test_the_command(csv_data, tmp_path):
    store = ["--store", str(tmp_path / "store")]
    runner = CliRunner()
    assert runner.invoke(cli, ["run", "cam_crf", "-c", str(csv_data), *store]).exit_code == 0
    command = ["audit", "--data", str(csv_data), "--method", "cam,layer_cam,gradient", "--images", "3", *store]
    result = runner.invoke(cli, [*command, "--steps", "4", "-o", str(tmp_path / "audit.json")])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:3] == ["faithfulness", "deletion↓", "insertion↑"] and lines[1].startswith("cam ")
    report = json.loads((tmp_path / "audit.json").read_text())
    assert set(report["methods"]) == {"cam", "layer_cam", "gradient"} and report["findings"]
    bad = runner.invoke(cli, [*command[:3], "--method", "kam", *store])
    assert bad.exit_code == 1 and bad.stderr.startswith("error: method: found 'kam'; expected: cam, ")
