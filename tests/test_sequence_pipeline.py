"""Sequences through the stages of photographs: the recipe runs, its files have one row, and the commands read them."""

import json

import numpy as np
import pytest

from tests.commands import run as command
from wsseg.data.masks import decode_mask
from wsseg.errors import ConfigError
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.saliency.seeds import decode_seed
from wsseg.store.objects import ArtifactStore

TINY = """
rng_seed = 1

[classifier]
backbone = "cnn_1d"
weights = "none"
frozen_levels = 0
pooling = "lse"
size = 48
epochs = 1
batch_size = 4

[pseudo_masks]
levels = [0.35]
crf = "chain"

[segmenter]
architecture = "unet_1d"
weights = "none"
frozen_levels = 0
size = 48
epochs = 1
batch_size = 4

[predictions]
crf = "off"

[evaluation]
boundary = false
"""
SIGNALS = """
[data]
kind = "sequences"
train = { sequences = "train.npz", labels = "train.csv", masks = "train-masks.npy" }
val = { sequences = "val.npz", labels = "val.csv", masks = "val-masks.npy" }
"""
PLANTED = """
[data]
kind = "planted_dna"
train = { sequences = 12 }
val = { sequences = 6 }
length = 64
"""


def write_signals(folder):
    """Write windows of two channels, half of them with a slow wave in the middle of the second channel."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        values = rng.normal(size=(count, 2, 60)).astype(np.float32)
        masks = np.zeros((count, 60), np.uint8)
        masks[::2, 20:40] = 1
        values[::2, 1, 20:40] += 3
        np.savez(folder / f"{split}.npz", values=values, ids=np.array([f"w{i}" for i in range(count)]))
        np.save(folder / f"{split}-masks.npy", masks)
        rows = "".join(f"w{i},{'' if i % 2 else 'wave'}\n" for i in range(count))
        (folder / f"{split}.csv").write_text(f"image_id,classes\n{rows}")


@pytest.fixture
def signals(tmp_path):
    write_signals(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY + SIGNALS)
    return tmp_path / "tiny.toml"


def finished(config, folder, *overrides, recipe="cam_crf"):
    plan = make_plan(recipe, str(config), ArtifactStore(folder / "store"), overrides)
    run_plan(plan)
    return {planned.step.name: planned.artifact for planned in plan.active}


@pytest.mark.slow
def test_signals_run_through_the_recipe_of_photographs(signals, tmp_path):
    steps = finished(signals, tmp_path)
    seed = decode_seed(steps["seeds"].read_bytes("seeds/w0.png"))
    assert seed.size == (1, 60) and seed.maps.shape == (1, 1, 60)
    mask = decode_mask(steps["predictions"].read_bytes("masks/w1.png"))
    scores = decode_mask(steps["predictions"].read_bytes("scores/w1.png"))
    assert mask.shape == (1, 60) and scores.shape == (1, 60)
    assert np.array_equal(mask[0] == 1, scores[0] > 127.5)
    network = json.loads(steps["classifier"].read_bytes("network.json"))
    assert network["channels"] == ["1", "2"] and network["backbone"] == "cnn_1d"
    for step in ("seed_quality", "evaluation"):
        metrics = steps[step].manifest["metrics"]
        assert 0 <= metrics["place_map"] <= 1 and set(metrics["peak_hits"]) == {"wave"}
    assert set(steps["classifier_quality"].manifest["metrics"]["auc"]) == {"wave"}
    again = finished(signals, tmp_path / "again")
    for step in ("classifier", "seeds", "pseudo_masks", "segmenter", "predictions"):
        assert steps[step].files == again[step].files


@pytest.mark.slow
def test_dna_runs_through_the_recipe_and_is_explained(tmp_path):
    pytest.importorskip("Bio", reason="FASTA files need the extra: pip install 'wsseg[sequences]'")
    (tmp_path / "tiny.toml").write_text(TINY + PLANTED)
    done = command("run", "cam_crf", "-c", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "new.fa").write_text(">one\nACGTTAGACA\n>two\nACGTTTTTTTTTGGG\n")
    done = command("explain", "new.fa", "--method", "mutagenesis,gradient,cam", "-o", "heat", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "heat" / "new.fa.mutagenesis.npz") as maps:
        assert maps["one"].shape == (3, 10) and (maps["two"] >= 0).all()
        assert maps["classes"].tolist() == ["gata", "cre", "ets"]
    track = (tmp_path / "heat" / "new.fa.cam.1-gata.bedgraph").read_text().splitlines()
    assert {line.split("\t")[0] for line in track} == {"one", "two"}
    assert track[0].split("\t")[1] == "0" and track[-1].split("\t")[2] == "15"
    done = command("predict", "segmenter", "new.fa", "-o", "sites", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "sites").glob("new*")) == [
        "new.fa.1-gata.bedgraph", "new.fa.2-cre.bedgraph", "new.fa.3-ets.bedgraph", "new.fa.bed",
    ]  # fmt: skip
    done = command("export", "predictions", "--format", "bed", "-o", "sites.bed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (tmp_path / "sites.bed").read_text().splitlines():
        assert line.split("\t")[3] in ("gata", "cre", "ets")
    done = command("export", "predictions", "--format", "coco", "-o", "sites.json", cwd=tmp_path)
    assert done.returncode == 1 and "expected for masks of sequences: bed" in done.stderr
    done = command("export", "segmenter", "--format", "onnx", cwd=tmp_path)
    assert done.returncode == 1 and "a network for sequences cannot be exported" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("cam_crf", "classifier.backbone=resnet18", "found 'resnet18'; expected for sequences: cnn_1d, dilated_1d"),
        ("cam_crf", "classifier.weights=package", "weights: found 'package'; expected for sequences: 'none' or 'file'"),
        ("cam_crf", "classifier.frozen_levels=2", "frozen_levels: found 2; expected for sequences: 0"),
        ("cam_crf", "pseudo_masks.crf=irn", 'found \'irn\'; expected for sequences: "chain", "off"'),
        ("cam_crf", "pseudo_masks.levels=[]", "expected for sequences: pamr_iterations = 0, and one level or two"),
        ("cam_crf", "segmenter.architecture=fpn", "architecture: found 'fpn'; expected for sequences: unet_1d"),
        ("cam_crf", "predictions.crf=deeplab", "crf: found 'deeplab'; expected for sequences"),
        ("cam_crf", "seeds.method=lpcam", "seeds.method: found 'lpcam'"),
        ("irn", "rng_seed=1", "train_affinity needs photographs"),
    ],
)
def test_values_that_sequences_do_not_have_are_refused_before_anything_runs(
    signals, tmp_path, recipe, override, message
):
    with pytest.raises(ConfigError) as error:
        make_plan(recipe, str(signals), ArtifactStore(tmp_path / "store"), (override,))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_chain_is_refused_for_photographs(csv_data, tmp_path):
    with pytest.raises(ConfigError, match="crf: found 'chain'; expected for photographs"):
        make_plan("cam_crf", str(csv_data), ArtifactStore(tmp_path / "store"), ("pseudo_masks.crf=chain",))


def test_init_recognises_arrays_with_labels_and_masks(tmp_path):
    write_signals(tmp_path)
    done = command("init", ".", "-o", "mine.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train: 12 sequences in train.npz, labels from train.csv, true places from train-masks.npy" in done.stdout
    assert "next: wsseg run cam_crf -c mine.toml" in done.stdout
    make_plan("cam_crf", str(tmp_path / "mine.toml"), ArtifactStore(tmp_path / "store"))


def test_init_without_a_label_table_says_which_one_is_expected(tmp_path):
    np.save(tmp_path / "eeg.npy", np.ones((3, 20)))
    done = command("init", ".", "-o", "mine.toml", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "no label table is beside it; expected eeg.csv with the header image_id,classes" in done.stderr
