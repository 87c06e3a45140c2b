"""The audit on a network whose evidence is known: it sees colours, and nothing else."""

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


def test_the_figures_of_a_network_that_sees_colours(model, sources):
    images, truth = sources.get("data.train"), sources.get("truth.train")
    found = dict(audit(model, SPEC, images, truth, ["cam", "eigen_cam"], VALUES, Sample(4, 8, "zero")))["cam"]
    assert found["insertion"] > found["deletion"] + 0.1
    assert found["pointing"] == 1 and found["pxap"] > 0.9 and found["seed_miou"] > 0.7
    assert found["flip"] == pytest.approx(1, abs=1e-3) and found["sensitivity"] < 0.2
    assert set(found["randomisation"]) == {"head", "backbone.same"} and found["ms_per_image"] > 0


def test_without_masks_there_is_no_plausibility(model, sources):
    sample = Sample(images=99, steps=4, road=True)
    found = dict(audit(model, SPEC, sources.get("data.val"), None, ["cam"], VALUES, sample))
    assert "pxap" not in found["cam"] and "seed_miou" not in found["cam"] and found["cam"]["road"] > 0
    assert agreement(found) == []


def test_other_classes_are_named(model, sources):
    other = ClassifierSpec("pixels", ("cat", "dog"), SPEC.mean, SPEC.std)
    with pytest.raises(StageError, match="trained on the classes cat, dog; those of the images are red, blue"):
        next(audit(model, other, sources.get("data.train"), None, ["cam"], VALUES, Sample()))


def row(insertion, iou, randomised=0.0):
    return {"insertion": insertion, "deletion": 0.1, "best_iou": iou, "randomised": randomised}


def test_disagreement_is_said():
    same = agreement({"a": row(0.9, 0.6), "b": row(0.5, 0.5), "c": row(0.2, 0.1)})
    assert same == [
        "Faithfulness and plausibility agree on the order of methods (rank correlation over 3 methods 1.00); "
        "a leads in both."
    ]
    (other, blind) = agreement({"a": row(0.9, 0.1), "b": row(0.5, 0.5), "edges": row(0.2, 0.6, randomised=0.9)})
    assert "disagree on the order of methods (rank correlation over 3 methods -1.00)" in other
    assert "by deletion and insertion a tells best" in other and "by the masks edges looks best" in other
    assert blind.startswith("Hardly changed by random weights, so no evidence of what was learnt: edges")


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
