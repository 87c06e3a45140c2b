import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from wsseg.data.config import CocoData, CocoSplit, CsvData, CsvSplit, VocData, VocSplit
from wsseg.data.images import load_images
from wsseg.data.reading import FileMemory
from wsseg.data.truth import has_truth, load_truth
from wsseg.errors import DatasetError

VALUES = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)


def truth_of(data):
    memory = FileMemory()
    return load_truth(data, load_images(data, "train", memory), memory)


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    PILImage.new("RGB", (3, 2)).save(tmp_path / "images" / "a.png")
    PILImage.fromarray(VALUES).save(tmp_path / "masks" / "a.png")
    (tmp_path / "labels.csv").write_text("image_id,classes\na,cat dog fox\n")
    split = CsvSplit(tmp_path / "images", tmp_path / "labels.csv", tmp_path / "masks")
    return CsvData(kind="csv", train=split, mask_classes=("cat", "dog", "fox"))


def test_values_are_class_ids(csv):
    assert np.array_equal(truth_of(csv).mask("a"), VALUES)


def test_classes_that_are_not_chosen_become_255_or_background(csv):
    chosen = replace(csv, classes=("fox", "cat"))  # an order of its own: fox is class id 1
    assert truth_of(chosen).mask("a").tolist() == [[0, 2, 255], [1, 255, 0]]
    assert truth_of(replace(chosen, other_classes="background")).mask("a").tolist() == [[0, 2, 0], [1, 255, 0]]
    assert truth_of(chosen).key != truth_of(replace(chosen, other_classes="background")).key


def test_messages(csv):
    PILImage.fromarray(VALUES + 3).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match=r"values \[4, 5, 6\] name no class"):
        truth_of(csv).mask("a")
    PILImage.fromarray(VALUES.T.copy()).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match=r"the mask is \(3, 2\) \(H, W\), its image \(2, 3\)"):
        truth_of(csv).mask("a")
    (csv.train.masks / "a.png").unlink()
    with pytest.raises(DatasetError, match="1 images have no mask: a"):
        truth_of(csv)
    without = replace(csv, train=replace(csv.train, masks=None))
    assert not has_truth(without, "train")
    with pytest.raises(DatasetError, match="the config names no masks"):
        truth_of(without)


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_photograph_turns_its_mask_unless_it_was_drawn_upright(csv, upright):
    exif = PILImage.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    PILImage.new("RGB", (3, 2)).save(csv.train.images / "a.png", exif=exif)
    shown = np.rot90(VALUES, -1)
    PILImage.fromarray(shown if upright else VALUES).save(csv.train.masks / "a.png")
    assert np.array_equal(truth_of(csv).mask("a"), shown)


def test_voc_palette_masks_and_ids(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    PILImage.new("RGB", (3, 1)).save(tmp_path / "JPEGImages" / "a.jpg")
    mask = PILImage.fromarray(np.array([[15, 7, 255]], dtype=np.uint8))  # person, car, void
    mask.putpalette([1, 2, 3] * 256)
    mask.save(tmp_path / "SegmentationClass" / "a.png")
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    (tmp_path / "labels.csv").write_text("image_id,classes\na,person car\n")
    data = VocData(
        kind="voc", root=tmp_path, train=VocSplit("train"), labels=tmp_path / "labels.csv", classes=("car", "person")
    )
    assert truth_of(data).mask("a").tolist() == [[2, 1, 255]]


def test_coco_polygons_rle_crowds_and_overlap(tmp_path):
    (tmp_path / "images").mkdir()
    PILImage.new("RGB", (10, 8)).save(tmp_path / "images" / "a.png")
    square = [2.0, 2.0, 8.0, 2.0, 8.0, 6.0, 2.0, 6.0]  # x, y: columns 2..7, rows 2..5
    dot = np.zeros((8, 10), dtype=np.uint8)
    dot[3, 4] = 1
    rle = coco_mask.encode(np.asfortranarray(dot))
    crowd = np.zeros((8, 10), dtype=np.uint8)
    crowd[7] = 1
    counts = [7, 1] + [7, 1] * 9  # column by column: seven off, one on
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 2, "segmentation": {"size": [8, 10], "counts": rle["counts"].decode()}},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [square]},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"size": [8, 10], "counts": counts}, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = CocoData(kind="coco", train=CocoSplit(tmp_path / "images", tmp_path / "a.json"))
    expected = np.zeros((8, 10), dtype=np.uint8)
    expected[2:6, 2:8] = 1
    expected[3, 4] = 2  # the smaller object lies on top, although it comes first
    expected[7] = 255
    assert np.array_equal(truth_of(data).mask("a"), expected)
    annotations[1]["segmentation"] = "nonsense"
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="annotation 2: its segmentation is neither"):
        truth_of(data).mask("a")
