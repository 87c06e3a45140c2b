"""The script that reproduces VOC 2012, on a miniature of the devkit and of the checkpoints."""

import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from tests.conftest import REPOSITORY, blob_image
from wsseg.data.masks import encode_mask

sys.path.insert(0, str(REPOSITORY / "scripts"))
import reproduce_voc12

SMALL = (
    "classifier.backbone=test_resnet", "classifier.weights=none", "classifier.frozen_levels=0", "classifier.size=64",
    "classifier.batch_size=4", "classifier.epochs=1", "seeds.size=64", "seeds.scales=[1.0]", "affinity.size=64",
    "affinity.batch_size=4", "walk.size=64", "walk.steps=4", "pseudo_masks.crf=off", "walked_masks.crf=off",
    "segmenter.encoder=tu-test_resnet", "segmenter.size=64", "segmenter.batch_size=4", "segmenter.epochs=1",
    "predictions.crf=off", "pseudo_masks.workers=1", "affinity_labels.workers=1", "walk.workers=1", "walked_masks.workers=1",
    "relabeling.workers=1", "sam_snapping.workers=1", "sam_segments.points_per_side=2", "sam_segments.min_iou=0", "sam_segments.min_stability=0",
)  # fmt: skip


@pytest.fixture
def devkit(tmp_path):
    """Return a folder with 12 images in the layout of scripts/prepare_data.py: birds are red, boats blue."""
    root = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        kind = i % 2 + 1
        image, mask = blob_image(rng, kind, (48, 64))
        PILImage.fromarray(image).save(root / "JPEGImages" / f"{i:03d}.jpg")
        (root / "SegmentationClassAug" / f"{i:03d}.png").write_bytes(encode_mask(np.array([0, 3, 4], np.uint8)[mask]))
        name = ("bird", "boat")[kind - 1]
        text = f"<annotation><object><name>{name}</name><difficult>0</difficult></object></annotation>"
        (root / "Annotations" / f"{i:03d}.xml").write_text(text)
    for name, ids in (("train_aug", range(8)), ("val", range(8, 12))):
        text = "".join(f"{i:03d}\n" for i in ids)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    return tmp_path / "data"


def invoke(devkit, *words):
    store = ("--store", str(devkit.parent / "store"))
    sets = [word for value in SMALL for word in ("--set", value)]
    return CliRunner().invoke(reproduce_voc12.main, [str(devkit), str(devkit.parent / "models"), *words, *store, *sets])


def test_a_dry_run_without_data_or_checkpoints_says_what_is_missing(devkit, tmp_path):
    pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")
    done = CliRunner().invoke(reproduce_voc12.main, [str(tmp_path / "nothing"), str(tmp_path), "--dry-run"])
    assert done.exit_code == 1 and "run first: python scripts/prepare_data.py voc12" in done.output
    done = invoke(devkit, "--dry-run")
    assert done.exit_code == 1 and done.output.count("cannot be read") == 1 and "Traceback" not in done.output


@pytest.mark.slow
def test_a_dry_run_estimates_time_and_disk_and_a_run_gives_the_table(devkit):
    pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")
    from tests.models.foundation.tiny import save_clip, save_sam2

    save_clip(devkit.parent / "models" / "clip-vit-base-patch16")
    save_sam2(devkit.parent / "models" / "sam2.1-hiera-large")
    done = invoke(devkit, "--dry-run")
    assert done.exit_code == 0, done.output
    rows = re.findall(r"^\| (best|clip_sam) \| [\d.]+ h \| [\d.]+ GiB \|$", done.output, re.MULTILINE)
    assert rows == ["best", "clip_sam"]
    assert not list((devkit.parent / "store").glob("objects/*"))
    done = invoke(devkit)
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| wsseg, (\w+) \| [\d.]+ \|", done.output, re.MULTILINE) == ["best", "clip_sam"]
    assert "| IRNet (Ahn et al. 2019), ResNet-50 | 63.5 | (published) |" in done.output
