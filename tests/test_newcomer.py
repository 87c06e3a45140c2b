"""Three commands turn a folder of real photographs into masks, in each layout that the pipeline reads."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests import commands
from tests.conftest import REPOSITORY, blob_image, shrink_config

CLASSES = ("aeroplane", "boat", "car")
COUNT = 12


@pytest.fixture(scope="module")
def photographs(real_data):
    """Return (photograph, class name, mask) of real photographs with one of three classes each; both files as paths."""
    root = real_data / "voc-vehicles" / "VOC2012"
    with (root / "labels.csv").open() as file:
        rows = [(row["image_id"], row["classes"]) for row in csv.DictReader(file)]
    train = set((root / "ImageSets" / "Segmentation" / "train.txt").read_text().split())
    chosen = [[i for i, names in rows if names == name and i in train][: COUNT // 3] for name in CLASSES]
    return [
        (root / "JPEGImages" / f"{i}.jpg", name, root / "SegmentationClassAug" / f"{i}.png")
        for name, ids in zip(CLASSES, chosen, strict=True)
        for i in ids
    ]


def lay_out_csv(folder, photographs):
    folder.mkdir()
    lines = ["image_id,classes"]
    for path, name, _ in photographs:
        shutil.copy(path, folder)
        lines.append(f"{path.stem},{name}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def lay_out_folders(folder, photographs):
    for path, name, _ in photographs:
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)


def lay_out_voc(folder, photographs):
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for path, name, mask in photographs:
        shutil.copy(path, folder / "JPEGImages")
        shutil.copy(mask, folder / "SegmentationClass")
        text = f"<annotation><filename>{path.name}</filename><object><name>{name}</name></object></annotation>"
        (folder / "Annotations" / f"{path.stem}.xml").write_text(text)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("".join(f"{p.stem}\n" for p, _, _ in photographs))


def lay_out_coco(folder, photographs):
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, (path, name, mask) in enumerate(photographs, start=1):
        shutil.copy(path, folder / "images")
        values = np.asarray(PILImage.open(mask))
        images.append({"id": number, "file_name": path.name, "height": values.shape[0], "width": values.shape[1]})
        rows, columns = np.nonzero((values > 0) & (values < 255))
        left, top, right, bottom = (int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max()))
        annotations.append({
            "id": number, "image_id": number, "category_id": CLASSES.index(name) + 1, "iscrowd": 0, "area": len(rows),
            "bbox": [left, top, right - left, bottom - top],
            "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "instances_train.json").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("lay_out", [lay_out_csv, lay_out_folders, lay_out_voc, lay_out_coco])
def test_three_commands_lead_from_photographs_to_masks(photographs, tmp_path, lay_out):
    lay_out(tmp_path / "photos", photographs)
    environment = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"} | {"PYTHONPATH": str(REPOSITORY)}

    def wsseg(*words):
        done = commands.run(*words, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    output = wsseg("init", "photos", "-o", "mine.toml")
    assert f"{COUNT} images" in output
    next_command = re.search(r"next: wsseg (.*)", output)[1].split()
    assert next_command == ["run", "best", "-c", "mine.toml"]
    shrink_config(tmp_path / "mine.toml")
    assert (tmp_path / re.search(r"report: (.*)", wsseg(*next_command))[1]).is_file()
    sources = sorted(p for p in (tmp_path / "photos").rglob("*.jpg"))
    wsseg("predict", "segmenter", str(sources[0].parent), "-o", "masks")
    masks = sorted((tmp_path / "masks").rglob("*.png"))
    assert len(masks) == len(list(sources[0].parent.glob("*.jpg")))
    with PILImage.open(sources[0]) as photograph, PILImage.open(masks[0]) as mask:
        assert photograph.size == mask.size and np.asarray(mask).max() <= len(CLASSES)


@pytest.mark.slow
def test_three_commands_in_the_folder_of_the_photographs(tmp_path):
    """Nothing that wsseg writes among the photographs is read as a photograph or as a label afterwards."""
    rng = np.random.default_rng(0)
    bottle = tmp_path / "bottle"
    for folder, kind in (("train/good", 0), ("test/red", 1), ("test/blue", 2)):
        name = Path(folder).name
        (bottle / folder).mkdir(parents=True)
        (bottle / "ground_truth" / name).mkdir(parents=True)
        for number in range(4):
            image, mask = blob_image(rng, kind, (48, 64))
            PILImage.fromarray(image).save(bottle / folder / f"{number}.png")
            if kind:
                true_mask = bottle / "ground_truth" / name / f"{number}_mask.png"
                PILImage.fromarray((mask > 0).astype(np.uint8) * 255).save(true_mask)
    photographs = {path.relative_to(bottle) for part in ("train", "test") for path in (bottle / part).rglob("*.png")}
    environment = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"} | {"PYTHONPATH": str(REPOSITORY)}

    def wsseg(*words, code=0):
        done = commands.run(*words, cwd=bottle, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    first = wsseg("init", ".")
    assert "MVTec AD in bottle: all 12 images" in first and "wrote bottle-masks" in first
    shrink_config(bottle / "bottle.toml")
    wsseg("run", "cam_crf", "-c", "bottle.toml")
    assert "choose another -o" in wsseg("predict", "segmenter", ".", "-o", "masks", code=1)
    wsseg("predict", "segmenter", "test/red", "-o", "predicted")
    wsseg("export", "pseudo_masks", "--format", "coco")
    wsseg("report", "-o", "report.html")
    wsseg("predict", "segmenter", ".", "-o", "../masks")
    assert {path.relative_to(tmp_path / "masks") for path in (tmp_path / "masks").rglob("*.png")} == photographs
    again = wsseg("init", ".", "-o", "again.toml")
    assert "MVTec AD in bottle: all 12 images" in again and "without label" not in again
    assert "cached" in wsseg("run", "cam_crf", "-c", "bottle.toml")
