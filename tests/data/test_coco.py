"""COCO files as exporters write them are read, or refused in one line."""

import copy
import json

import pytest
from PIL import Image as PILImage

from wsseg.data.coco import read_coco
from wsseg.data.config import CocoData, CocoSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.errors import DatasetError

SQUARE = [[2, 2, 8, 2, 8, 6, 2, 6]]
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [{"id": 7, "image_id": 1, "category_id": 18, "segmentation": SQUARE, "bbox": [2, 2, 6, 4]}],
}


def changed(change):
    content = copy.deepcopy(COCO)
    change(content)
    return content


def written(tmp_path, content):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def read(tmp_path, content):
    return read_coco(written(tmp_path, content))


def test_the_records_of_a_file(tmp_path):
    coco = read(tmp_path, COCO)
    assert coco.names == ("cat", "dog")  # by id
    assert [(i.item_id, i.file_name, i.size) for i in coco.images] == [("a", "a.png", (8, 10)), ("b", "b.png", None)]
    (record,) = coco.objects["a"]
    assert (record.where, record.name, record.crowd, record.fault) == ("annotation 7", "dog", False, "")
    assert coco.objects["b"] == [] and coco.has_outlines


def test_a_changed_file_is_read_again(tmp_path):
    first = read(tmp_path, COCO)
    assert read_coco(tmp_path / "instances.json") is first
    second = read(tmp_path, changed(lambda c: c["categories"][0].update(name="wolf")))
    assert second.names == ("cat", "wolf") and second.sha256 != first.sha256


@pytest.mark.parametrize(("crowd", "expected"), [(0, False), (1, True), ("0", False), ("1", True), (0.0, False), (1.0, True),
                                                 (None, False), (False, False), (True, True)])  # fmt: skip
def test_crowds_as_exporters_write_them(tmp_path, crowd, expected):
    coco = read(tmp_path, changed(lambda c: c["annotations"][0].update(iscrowd=crowd)))
    assert coco.objects["a"][0].crowd is expected


@pytest.mark.parametrize("ids", [str, float, lambda n: f"{n:012d}"])
def test_ids_may_be_strings(tmp_path, ids):
    def change(content):
        for image in content["images"]:
            image["id"] = ids(image["id"])
        content["annotations"][0]["image_id"] = ids(1)

    assert len(read(tmp_path, changed(change)).objects["a"]) == 1


def test_the_category_background_is_not_a_class(tmp_path):
    def change(content):
        content["categories"].append({"id": 0, "name": "_background_"})
        content["annotations"].append({"image_id": 2, "category_id": 0, "segmentation": SQUARE})

    coco = read(tmp_path, changed(change))
    assert coco.names == ("cat", "dog") and coco.objects["b"][0].name is None


def test_an_unused_category_with_the_name_of_another_is_dropped(tmp_path):
    coco = read(tmp_path, changed(lambda c: c["categories"].append({"id": 0, "name": "dog"})))
    assert coco.names == ("cat", "dog") and coco.objects["a"][0].name == "dog"


@pytest.mark.parametrize("name", ["./a.png", "images/a.png", "/data/export/a.png", "C:\\export\\a.png",
                                  "http://host/x/a.png", ".\\a.png", "a.PNG", "%61.png"])  # fmt: skip
def test_file_names_from_other_machines(tmp_path, name):
    (tmp_path / "images").mkdir()
    for file in ("a.png", "b.png"):
        PILImage.new("RGB", (10, 8)).save(tmp_path / "images" / file)
    path = written(tmp_path, changed(lambda c: c["images"][0].update(file_name=name)))
    data = CocoData(kind="coco", train=CocoSplit(tmp_path / "images", path))
    images = load_images(data, "train", FileMemory())
    assert [i.path.name for i in images.items if i.class_ids] == ["a.png"] and len(images) == 2


REFUSED = {
    "a doubled image id": (lambda c: c["images"][1].update(id=1), r"several images have the id '1' \(2\)"),
    "a doubled image": (lambda c: c["images"][1].update(file_name="a.jpg"), "several images have the file name .*'a'"),
    "a doubled category id": (lambda c: c["categories"][1].update(id=18), "several categories have the id '18'"),
    "two used categories of a name": (
        lambda c: (c["categories"][1].update(name="dog"), c["annotations"].append({"image_id": 1, "category_id": 3})),
        "several categories have the name 'dog'",
    ),
    "an unknown image": (lambda c: c["annotations"][0].update(image_id=9), "annotation 7: unknown image"),
    "an unknown category": (lambda c: c["annotations"][0].update(category_id=9), "annotation 7: unknown image or category"),
    "an id that is none": (lambda c: c["annotations"][0].update(image_id=[1]), r"annotations\[0\]: expected an object"),
    "true as id": (lambda c: c["images"][0].update(id=True), r"images\[0\]: expected"),
    "nan as id": (lambda c: c["images"][0].update(id=float("nan")), r"images\[0\]: expected"),
    "a name that is none": (lambda c: c["categories"][0].update(name=7), r"categories\[0\]: expected"),
    "another crowd": (lambda c: c["annotations"][0].update(iscrowd="maybe"), "its iscrowd is 'maybe'; expected 0 or 1"),
    "a list as crowd": (lambda c: c["annotations"][0].update(iscrowd=[1]), r"its iscrowd is \[1\]"),
    "a size of words": (lambda c: c["images"][0].update(height="8 px"), "its height and width are '8 px' and 10"),
    "an id over two lines": (lambda c: c["annotations"][0].update(id="a\nb", category_id=9), r"annotation 'a\\nb': unknown image"),
    "a negative size": (lambda c: c["images"][0].update(height=-8), "its height and width are"),
    "one side only": (lambda c: c["images"][0].pop("height"), "its height and width are"),
    "no annotations": (lambda c: c.pop("annotations"), "the list 'annotations' is missing"),
    "a place outside": (lambda c: c["images"][0].update(file_name="../a.png"), "no valid image id|not an image id|image id"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_malformed_records_are_refused(tmp_path, change, message):
    with pytest.raises(DatasetError, match=message) as refused:
        read(tmp_path, changed(change))
    assert "\n" not in str(refused.value)


def test_an_encoded_name_cannot_leave_the_folder_of_images(tmp_path):
    (tmp_path / "images").mkdir()
    for file in ("a.png", "images/b.png"):
        PILImage.new("RGB", (10, 8)).save(tmp_path / file)
    path = written(tmp_path, changed(lambda c: c["images"][0].update(file_name="%2e%2e/a.png")))
    with pytest.raises(DatasetError, match="1 labels have no image"):
        load_images(CocoData(kind="coco", train=CocoSplit(tmp_path / "images", path)), "train", FileMemory())


def test_sizes_may_be_strings(tmp_path):
    coco = read(tmp_path, changed(lambda c: c["images"][0].update(height="8", width=10.0)))
    assert coco.images[0].size == (8, 10)


@pytest.mark.parametrize("odd", ["9" * 5000, "--5", "x", "٣"])
def test_ids_that_are_not_numbers_come_after_numbers(tmp_path, odd):
    coco = read(tmp_path, changed(lambda c: c["categories"].insert(0, {"id": odd, "name": "owl"})))
    assert coco.names == ("cat", "dog", "owl")
