"""The whole pipeline on the demo data set and on real photographs, small enough for every test run."""

import json

import numpy as np
import pytest
from PIL import Image as PILImage

from .test_cli import wsseg

QUICK = (
    "classifier.epochs=1",
    "segmenter.epochs=1",
    "seeds.scales=[1.0]",
    "classifier.size=128",
    "seeds.size=128",
    "segmenter.size=128",
)


def run(config, tmp_path, data, *overrides, recipe="cam_crf"):
    sets = [word for value in (*QUICK, *overrides) for word in ("--set", value)]
    done = wsseg("run", recipe, "-c", config, *sets, "--json", "--quiet", cwd=tmp_path, WSSEG_DATA=str(data))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["stages"]


@pytest.mark.slow
def test_demo(tmp_path):
    stages = run("demo", tmp_path, tmp_path)
    assert {stage["status"] for stage in stages.values()} == {"ran"}
    result = stages["evaluation"]["metrics"]
    assert result["images"] == 100 and result["classes_counted"] == 5 and 0 < result["miou"] < 1


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
