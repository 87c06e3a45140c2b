"""The complete recipes on small parts of the demo dataset and of real photographs."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image as PILImage

from tests import commands
from tests.conftest import REPOSITORY

QUICK = (
    "classifier.epochs=1",
    "segmenter.epochs=1",
    "seeds.scales=[1.0]",
    "classifier.size=128",
    "seeds.size=128",
    "segmenter.size=128",
)


def wsseg(*arguments, cwd, **environment):
    """Run the command; return the finished process."""
    inherited = {name: value for name, value in os.environ.items() if name != "WSSEG_STORE"}
    return commands.run(*arguments, cwd=cwd, env=inherited | environment)


def run(config, tmp_path, data, *overrides, recipe="cam_crf"):
    sets = [word for value in (*QUICK, *overrides) for word in ("--set", value)]
    done = wsseg("run", recipe, "-c", config, *sets, "--json", "--quiet", cwd=tmp_path, WSSEG_DATA=str(data))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["stages"]


@pytest.mark.slow
def test_demo(tmp_path):
    stages = run("demo", tmp_path, tmp_path, "data.train.images=24", "data.val.images=16")
    assert {stage["status"] for stage in stages.values()} == {"ran"}
    result = stages["evaluation"]["metrics"]
    assert result["images"] == 16 and result["classes_counted"] == 5 and 0 < result["miou"] < 1


@pytest.mark.slow
@pytest.mark.parametrize(("config", "classes", "kilobytes"), [("voc_vehicles", 6, 8), ("neu_seg", 3, 4)])
def test_sixty_real_photographs(tmp_path, real_data, config, classes, kilobytes):
    subset = ("data.train.limit=60", "data.val.limit=20")
    stages = run(config, tmp_path, real_data, *subset)
    assert stages["seeds"]["metrics"]["images"] == 60
    assert stages["seeds"]["metrics"]["bytes_per_image"] <= 1000 * kilobytes
    result = stages["evaluation"]["metrics"]
    assert result["images"] == 20 and len(result["iou"]) == classes + 1 and 0 < result["miou"] < 1
    folder = tmp_path / "wsseg-store" / "objects" / stages["predictions"]["key"] / "masks"
    for path in folder.glob("*.png"):
        mask = PILImage.open(path)
        assert mask.mode == "P" and np.asarray(mask).max() <= classes
    full = run(config, tmp_path, real_data, *subset, recipe="full_supervision")
    assert full["classifier"]["status"] == "cached" and full["segmenter"]["status"] == "ran"
    assert full["segmenter"]["key"] != stages["segmenter"]["key"]


@pytest.mark.slow
def test_self_training_relabels_in_two_rounds(csv_data, tmp_path):
    done = wsseg(
        "run",
        "self_training",
        "-c",
        str(csv_data),
        "--set",
        "relabeling.min_confidence=0.99",
        "--json",
        "--quiet",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    for number in (1, 2):
        metrics = stages[f"pseudo_masks_{number}"]["metrics"]
        assert metrics["images"] == 12 and 0 <= metrics["changed"] <= 1 and 0 < metrics["undecided"] < 1
    assert stages["evaluation"]["metrics"]["conditions"]["relabeling"]["min_confidence"] == 0.99
    folder = tmp_path / "wsseg-store" / "objects" / stages["pseudo_masks_2"]["key"] / "masks"
    for index in range(12):  # only what the image-level labels allow
        mask = np.asarray(PILImage.open(folder / f"{index:03d}.png"))
        assert set(np.unique(mask)) <= {0, (index + 1) % 3, 255}


@pytest.mark.slow
def test_the_irn_recipe_runs_all_steps_and_is_cached(csv_data, tmp_path):
    done = wsseg("run", "irn", "-c", str(csv_data), "--json", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert stages["affinity_labels"]["key"] != stages["pseudo_masks"]["key"]
    assert stages["affinity"]["metrics"]["loss"] > 0
    assert stages["walked_seeds"]["metrics"]["images"] == 12
    assert stages["walked_seed_quality"]["metrics"]["classes_counted"] == 3
    again = wsseg("run", "irn", "-c", str(csv_data), "--json", "--quiet", cwd=tmp_path)
    assert {s["status"] for s in json.loads(again.stdout)["stages"].values()} == {"cached"}


@pytest.mark.slow
def test_levels_and_crf_preset_are_chosen_without_true_masks(csv_data, tmp_path):
    chosen = ("--set", "pseudo_masks.levels=[]", "--set", "pseudo_masks.crf=auto", "--set", "seeds.method=lpcam")
    done = wsseg("run", "pseudo_masks", "-c", str(csv_data), *chosen, "--json", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    artifact = tmp_path / "wsseg-store" / "objects" / stages["pseudo_masks"]["key"]
    choice = json.loads((artifact / "choice.json").read_text())
    evidence = {(candidate["level"], candidate["crf"]): candidate for candidate in choice["evidence"]}
    assert len(evidence) == 10 + 4 * 5  # ten levels without a CRF, and five with each of four presets
    floor = 0.92 * max(candidate["score"] for candidate in choice["evidence"])
    best = min((c for c in choice["evidence"] if c["score"] >= floor), key=lambda c: c["area"])
    assert choice["levels"] == [best["level"]] and choice["crf"] == best["crf"]
    conditions = stages["pseudo_mask_quality"]["metrics"]["conditions"]["pseudo_masks"]
    assert conditions["levels"] == choice["levels"] and conditions["crf"] == choice["crf"]
    wrong = wsseg("run", "best", "-c", str(csv_data), "--set", "affinity_labels.levels=[]", cwd=tmp_path)
    assert wrong.returncode == 1 and "expected in this table: two" in wrong.stderr and "Traceback" not in wrong.stderr


EVERYTHING_ON = (
    "classifier.sampling=balanced",
    "classifier.erase=salient",
    "classifier.consistency=0.5",
    "pseudo_masks.pamr_iterations=3",
    "segmenter.loss=symmetric",
    "segmenter.absent_class_weight=0.1",
    "segmenter.ema_decay=0.9",
    "segmenter.stop_below_change=1.0",
)


@pytest.mark.slow
def test_the_best_recipe_with_all_options(csv_data, tmp_path):
    sets = [word for value in EVERYTHING_ON for word in ("--set", value)]
    steps = re.search(
        r"```toml\n(.*?)```", (REPOSITORY / "docs/howto/quality.md").read_text(encoding="utf-8"), re.DOTALL
    )
    recipe = tmp_path / "best.toml"
    recipe.write_text((REPOSITORY / "pipelines/best.toml").read_text(encoding="utf-8") + "\n" + steps[1])
    done = wsseg("run", str(recipe), "-c", str(csv_data), *sets, "--json", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    chosen = stages["walked_seeds"]["metrics"]["chosen"]
    assert set(chosen["ranked_right"]) <= {"red", "blue"}
    fractions = list(chosen["ranked_right"].values())
    assert chosen["when"] == ("always" if fractions and np.mean(fractions) >= 0.97 else "never")
    for network, masks in (("segmenter_1", "pseudo_masks_1"), ("segmenter", "pseudo_masks_2")):
        assert stages[network]["metrics"]["stopped"] == stages[masks]["metrics"]["changed"]
    networks = (
        tmp_path / "wsseg-store" / "objects" / stages[name]["key"] / "network.safetensors"
        for name in ("segmenter_0", "segmenter_1", "segmenter")
    )
    assert len({path.read_bytes() for path in networks}) == 1  # the previous network is kept
    for name, split, images in (("quality_estimate", "train", 12), ("prediction_estimate", "val", 6)):
        metrics = stages[name]["metrics"]
        assert metrics["conditions"]["split"] == split and metrics["conditions"]["images"] == images
        iou, low, high = metrics["estimate"]["miou"]
        assert 0 <= low < iou < high <= 1 and set(metrics["estimate"]["iou"]) == {"background", "red", "blue"}
        assert set(metrics["evidence"]["rounds"].values()) == {None}  # a network's agreement with itself is no evidence
