"""Exported masks are read back, with the libraries of the formats' authors if these are installed."""

import json
import unicodedata
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image as PILImage
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.errors import OutputError
from wsseg.export.masks import (
    class_regions,
    label_studio_rle,
    run_lengths,
    write_coco,
    write_cvat,
    write_huggingface,
    write_label_studio,
)
from wsseg.labels import ClassMap
from wsseg.outputs import Outputs
from wsseg.types import LabeledImage

NAMES = ("scratch", "<b>\"a|b&'")


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    items, masks = [], {}
    for number, (item_id, size) in enumerate((("a", (5, 7)), ("deep/b&<c>", (40, 30)), ("empty", (3, 3)))):
        path = tmp_path / "photos" / f"{item_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)
        mask = np.zeros(size, np.uint8)
        if item_id != "empty":
            mask = rng.choice([0, 0, 1, 2, 255], size).astype(np.uint8)
            mask[1, :] = 1
        masks[item_id] = mask
        items.append(LabeledImage(item_id, path, (1, 2) if number < 2 else (), size, inspect_file(path).sha256))
    return LabeledImages("train", ClassMap(NAMES), tuple(items), {}, "key"), masks


class FixedMasks:
    def __init__(self, masks):
        self.mask = masks.__getitem__


def painted(regions, size):
    """Return the mask of (class id, region) pairs, without 255."""
    mask = np.zeros(size, np.uint8)
    for class_id, inside in regions:
        mask[inside] = class_id
    return mask


def without_255(mask):
    return np.where(mask == 255, 0, mask)


def test_coco(images, tmp_path):
    listed, masks = images
    written = write_coco(listed, FixedMasks(masks), tmp_path / "out" / "x.json", Outputs())
    assert written.images == 3
    coco = COCO(str(written.path))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES)
    for image in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        mask = masks[str(Path(image["file_name"]).with_suffix(""))]
        regions = [(a["category_id"], coco.annToMask(a).astype(bool)) for a in annotations]
        assert (painted(regions, mask.shape) == without_255(mask)).all()
        for annotation in annotations:
            assert annotation["area"] == coco_mask.area(annotation["segmentation"])
            rows, columns = np.nonzero(coco.annToMask(annotation))
            left, top, width, height = annotation["bbox"]
            assert (left, top, width, height) == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)


def decoded_rle(code):
    """Decode Label Studio's run-length code bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in code)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < total:
        same = read(1)
        length = read(sizes[read(2)]) + 1
        out += [read(word)] * length if same else [read(word) for _ in range(length)]
    return np.array(out, np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (400, 300)])
def test_label_studio_code(size):
    rng = np.random.default_rng(0)
    for inside in (rng.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)):
        code = label_studio_rle(inside)
        assert (decoded_rle(code) == np.repeat(inside.ravel() * 255, 4)).all()


def test_label_studio_code_is_read_by_label_studio():
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush",
        reason="label-studio-sdk requires an older numpy: install it in a separate environment",
    )
    inside = np.random.default_rng(0).random((37, 53)) < 0.3
    decoded = brush.decode_rle(label_studio_rle(inside)).reshape(37, 53, 4)
    assert (decoded == inside[..., None] * 255).all()


def test_label_studio(images, tmp_path):
    listed, masks = images
    written = write_label_studio(listed, FixedMasks(masks), tmp_path / "x.json", Outputs())
    tasks = json.loads(written.path.read_text())
    for item, task in zip(listed.items, tasks, strict=True):
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/" and not address.fragment
        assert parse_qs(address.query) == {"d": [f"{item.id}.png"]}
        regions = []
        for result in task["predictions"][0]["result"]:
            rgba = decoded_rle(result["value"]["rle"]).reshape(*item.size, 4)
            regions.append((listed.classes.id_of(result["value"]["brushlabels"][0]), rgba[..., 3] > 0))
            assert (result["original_height"], result["original_width"]) == item.size
        assert (painted(regions, item.size) == without_255(masks[item.id])).all()
    ids = [result["id"] for task in tasks for result in task["predictions"][0]["result"]]
    assert len(ids) == len(set(ids)) > 2
    config = ElementTree.parse(tmp_path / "x.config.xml")
    assert [e.get("value") for e in config.iter("Label")] == list(NAMES)


def test_cvat(images, tmp_path):
    sdk = pytest.importorskip("cvat_sdk.masks", reason="pip install wsseg[dev]")
    listed, masks = images
    written = write_cvat(listed, FixedMasks(masks), tmp_path / "x.xml", Outputs())
    root = ElementTree.parse(written.path).getroot()
    assert [e.text for e in root.findall("meta/task/labels/label/name")] == list(NAMES)
    for item, element in zip(listed.items, root.findall("image"), strict=True):
        assert element.get("name") == f"{item.id}.png"
        regions = class_regions(masks[item.id])
        assert len(regions) == len(element.findall("mask"))
        for (class_id, inside), mask in zip(regions, element.findall("mask"), strict=True):
            *runs, left, top, right, bottom = sdk.encode_mask(inside)
            assert [int(r) for r in mask.get("rle").split(",")] == runs
            box = [int(mask.get(name)) for name in ("left", "top", "width", "height")]
            assert box == [left, top, right - left + 1, bottom - top + 1]
            assert mask.get("label") == NAMES[class_id - 1]


def test_runs_by_hand():
    assert run_lengths(np.array([[False, True], [True, False]])) == [1, 2, 1]
    assert run_lengths(np.array([[True, True], [False, False]])) == [0, 2, 2]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]


def test_huggingface(images, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="pip install wsseg[dev]")
    listed, masks = images
    folder = tmp_path / "folder"
    outputs = Outputs()
    write_huggingface(listed, FixedMasks(masks), folder, outputs)
    write_huggingface(listed, FixedMasks(masks), folder, outputs)  # a second export replaces the first
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 3
    for row in loaded:
        item = next(i for i in listed.items if i.id == row["id"])
        assert (np.asarray(row["image"]) == np.asarray(PILImage.open(item.path))).all()
        assert (np.asarray(row["mask"]) == masks[item.id]).all()
        assert row["classes"] == (list(NAMES) if item.class_ids else [])
    (folder / "train" / "something").write_text("else")
    with pytest.raises(OutputError, match="train contains other files, such as something"):
        write_huggingface(listed, FixedMasks(masks), folder, outputs)
    (folder / "train" / "something").unlink()
    (folder / "README.md").write_text("mine")
    with pytest.raises(OutputError, match=r"README\.md exists and was not written by wsseg"):
        write_huggingface(listed, FixedMasks(masks), folder, outputs)
    assert (folder / "README.md").read_text() == "mine"


TEXTS = (
    "0007",
    "001",
    "1e5",
    "NA",
    "null",
    "true",
    "nan",
    "a b",
    "c#1",
    "d%20e",
    "e+f",
    "f&g=h",
    "g?x",
    "äöü 猫",
    "i,j",
    "k'l\"m",
    "p<q>",
    "sub/n",
)


@pytest.fixture
def awkward(tmp_path):
    """Return photographs whose names look like numbers, URLs or markup; one name is stored in decomposed Unicode form."""
    items, masks = [], {}
    for item_id in TEXTS:
        path = tmp_path / "photos" / f"{unicodedata.normalize('NFD', item_id) if 'ä' in item_id else item_id}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (4, 3)).save(path, "JPEG")
        masks[item_id] = np.full((3, 4), 1, np.uint8)
        items.append(LabeledImage(item_id, path, (1,), (3, 4), sha256(path.read_bytes()).hexdigest()))
    return LabeledImages("train", ClassMap(("0007", "NA")), tuple(items), {}, "key"), FixedMasks(masks)


def test_awkward_names_refer_to_existing_files(awkward, tmp_path):
    listed, masks = awkward
    root = tmp_path / "photos"
    coco = json.loads(write_coco(listed, masks, tmp_path / "x.json", Outputs()).path.read_text())
    assert all((root / image["file_name"]).is_file() for image in coco["images"])
    tasks = json.loads(write_label_studio(listed, masks, tmp_path / "y.json", Outputs()).path.read_text())
    assert all((root / parse_qs(urlsplit(task["data"]["image"]).query)["d"][0]).is_file() for task in tasks)
    xml = ElementTree.parse(write_cvat(listed, masks, tmp_path / "z.xml", Outputs()).path).getroot()
    assert all((root / image.get("name")).is_file() for image in xml.findall("image"))


def test_ids_and_classes_stay_texts_in_the_metadata_of_hugging_face(awkward, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="pip install wsseg[dev]")
    listed, masks = awkward
    numbers = LabeledImages("train", listed.classes, listed.items[:3], {}, "key")  # all ids look like numbers
    for name, images in (("all", listed), ("numbers", numbers)):
        write_huggingface(images, masks, tmp_path / name, Outputs())
        loaded = datasets.load_dataset(
            "imagefolder", data_dir=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert sorted(loaded["id"]) == sorted(item.id for item in images.items)
        assert all(row["classes"] == ["0007"] and row["mask"].size == row["image"].size for row in loaded)
