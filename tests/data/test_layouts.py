"""Listings of the data layouts, from generated files as they occur in real data sets."""

import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from tests.data.generated import labels_of, load, picture
from wsseg.data.config import CocoData, CocoSplit, FolderData, FolderSplit, VocData, VocSplit
from wsseg.data.layouts import list_split
from wsseg.data.masks import encode_mask
from wsseg.errors import DatasetError
from wsseg.outputs import Outputs
from wsseg.store.objects import ArtifactStore


def test_csv(csv):
    images = load(csv)
    assert labels_of(images) == {"a": ("dog",), "b": (), "sub/c": ("cat", "dog")}
    assert images.items[0].size == (8, 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: found ''; expected the header 'image_id,classes'"),
        ("id;classes\na;dog", "line 1: found 'id;classes'"),
        ("image_id,classes\na,\nb,\n", "none of its 2 rows names a class"),
        ("image_id,classes\na,dog,cat", "line 2: found 3 fields"),
        ("image_id,classes\na,dog\na,cat", "line 3: the image id 'a' occurs twice"),
        ("image_id,classes\n../a,dog", "line 2: '../a' cannot be an image id"),
        ("image_id,classes\nnone,dog", "1 labels have no image: none"),
    ],
)
def test_csv_error_messages(csv, text, message):
    csv.train.labels.write_text(text)
    with pytest.raises(DatasetError) as excinfo:
        load(csv)
    assert message in str(excinfo.value)


def test_two_unicode_forms_of_one_name_are_one_id(csv, tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    picture(csv.train.images / f"{decomposed}.png")
    (tmp_path / "labels.csv").write_text(
        f"image_id,classes\n{composed},caf{composed}\na,caf{decomposed}\n", encoding="utf-8"
    )
    images = load(replace(csv, classes=(f"caf{decomposed}",)))
    assert labels_of(images) == {composed: (f"caf{composed}",), "a": (f"caf{composed}",)}
    picture(csv.train.images / f"{composed}.png")
    with pytest.raises(DatasetError, match=f"have the same id '{composed}'; rename one"):
        load(csv)


@pytest.mark.parametrize(
    "form", ["{}.png", "./{}.png", "images/{}", "images/{}.png", "./images/{}.png", "images\\{}.jpg"]
)
def test_a_table_may_contain_file_names(csv, form):
    (csv.train.labels).write_text(
        "image_id,classes\n" + "".join(f"{form.format(n)},dog\n" for n in ("a", "b", "sub/c"))
    )
    assert labels_of(load(csv)) == dict.fromkeys(("a", "b", "sub/c"), ("dog",))


def test_a_table_with_two_names_of_one_image_is_refused(csv):
    csv.train.labels.write_text("image_id,classes\na,dog\na.png,cat\n")
    with pytest.raises(DatasetError, match="'a' and 'a.png' are the same image; write all its classes in one row"):
        load(csv)


def test_leading_zeros_that_a_spreadsheet_removed_are_noted(csv):
    picture(csv.train.images / "007.png")
    csv.train.labels.write_text("image_id,classes\na,dog\n7,cat\n")
    listing = list_split(csv, "train")
    assert "removed the leading zeros of 7" in " ".join(listing.warnings())
    with pytest.raises(DatasetError, match="1 labels have no image: 7"):
        load(csv)


def test_masks_and_stores_below_the_images_are_not_images(csv, tmp_path):
    picture(csv.train.images / "masks" / "a.png")
    ArtifactStore(csv.train.images / "store")
    picture(csv.train.images / "store" / "objects" / "k" / "a.png")
    with_masks = replace(csv, train=replace(csv.train, masks=csv.train.images / "masks"))
    assert list_split(with_masks, "train").image_without_label == []
    folders = FolderData(
        kind="folder", train=FolderSplit(tmp_path / "photos"), val=FolderSplit(tmp_path / "photos" / "val")
    )
    for name in ("red/a", "val/red/b"):
        picture(tmp_path / "photos" / f"{name}.png")
    ArtifactStore(tmp_path / "photos" / "wsseg-store")
    picture(tmp_path / "photos" / "wsseg-store" / "objects" / "k" / "masks" / "a.png")
    assert labels_of(load(folders)) == {"red/a": ("red",)}
    assert labels_of(load(folders, "val")) == {"red/b": ("red",)}


def test_true_masks_below_the_images_are_not_unlabelled_images(csv):
    """As in MVTec AD, where the root contains the photographs and `ground_truth`."""
    for name in ("ground_truth/red/a_mask.png", "ground_truth/b.png"):
        (csv.train.images / name).parent.mkdir(parents=True, exist_ok=True)
        (csv.train.images / name).write_bytes(encode_mask(np.eye(8, dtype=np.uint8)))
    listing = list_split(csv, "train")
    assert listing.image_without_label == []
    assert "2 files or folders are skipped: a folder of masks (2: ground_truth, red)" in listing.warnings()


def test_folder_per_class(tmp_path):
    for name in ("cat/1", "dog/1", "dog/2", "good/9"):
        picture(tmp_path / f"{name}.jpg")
    data = FolderData(kind="folder", train=FolderSplit(tmp_path), background="good")
    assert labels_of(load(data)) == {"cat/1": ("cat",), "dog/1": ("dog",), "dog/2": ("dog",), "good/9": ()}


def test_predicted_masks_beside_the_class_folders_are_not_a_class(tmp_path):
    for name in ("cat/1", "dog/1"):
        picture(tmp_path / f"{name}.jpg")
        Outputs([tmp_path / "cat"]).write(tmp_path / "masks" / f"{name}.png", b"mask")
    listing = list_split(FolderData(kind="folder", train=FolderSplit(tmp_path)), "train")
    assert listing.names == ("cat", "dog") and set(listing.paths) == {"cat/1", "dog/1"}
    assert "written by wsseg (listed in .wsseg-outputs) (2: 1.png, 1.png)" in listing.warnings()[0]


def test_an_image_beside_the_class_folders_is_reported(tmp_path):
    picture(tmp_path / "cat" / "1.jpg")
    picture(tmp_path / "2.jpg")
    listing = list_split(FolderData(kind="folder", train=FolderSplit(tmp_path)), "train")
    assert "an image beside the class folders (1: 2.jpg)" in listing.warnings()[0]


@pytest.mark.parametrize("name", ["background", "Background"])
def test_a_folder_called_background_is_not_a_class(tmp_path, name):
    picture(tmp_path / "cat" / "1.jpg")
    picture(tmp_path / name / "2.jpg")
    data = FolderData(kind="folder", train=FolderSplit(tmp_path))
    with pytest.raises(DatasetError, match=f"set data.background = '{name}'"):
        load(data)
    assert labels_of(load(replace(data, background=name)))[f"{name}/2"] == ()


def test_a_missing_background_folder_is_noted(tmp_path):
    for name in ("cat", "good"):
        picture(tmp_path / name / "1.jpg")
    listing = list_split(FolderData(kind="folder", train=FolderSplit(tmp_path), background="god"), "train")
    assert "there is no folder 'god' (data.background); did you mean 'good'?" in listing.warnings()[0]


def test_two_unicode_forms_of_one_class_folder_are_one_class(tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    picture(tmp_path / composed / "1.jpg")
    picture(tmp_path / decomposed / "2.jpg")
    images = load(FolderData(kind="folder", train=FolderSplit(tmp_path)))
    assert images.classes.names == (composed,) and len(images) == 2


XML = "<annotation><object><name>{}</name><difficult>{}</difficult></object><object><name>car</name></object></annotation>"


@pytest.fixture
def voc(tmp_path):
    picture(tmp_path / "JPEGImages" / "2007_1.jpg")
    picture(tmp_path / "JPEGImages" / "2007_2.jpg")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_1\n2007_2\n")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "2007_1.xml").write_text(XML.format("person", 1))
    (tmp_path / "Annotations" / "2007_2.xml").write_text(XML.format("person", 0))
    return VocData(kind="voc", root=tmp_path, train=VocSplit("train"))


def test_voc_xml_and_difficult_objects(voc):
    images = load(voc)
    assert len(images.classes) == 20
    assert labels_of(images) == {"2007_1": ("car",), "2007_2": ("car", "person")}
    assert labels_of(load(replace(voc, difficult=True)))["2007_1"] == ("car", "person")


def test_voc_with_a_label_csv(voc, tmp_path):
    (tmp_path / "labels.csv").write_text("image_id,classes\n2007_1,cat\n2007_2,\nother,dog\n")
    assert labels_of(load(replace(voc, labels=tmp_path / "labels.csv"))) == {"2007_1": ("cat",), "2007_2": ()}
    (tmp_path / "labels.csv").write_text("image_id,classes\n2007_1.jpg,cat\nJPEGImages/2007_2.jpg,dog\n")
    assert labels_of(load(replace(voc, labels=tmp_path / "labels.csv"))) == {"2007_1": ("cat",), "2007_2": ("dog",)}
    (tmp_path / "labels.csv").write_text("image_id,classes\n2007_1,cat\n")
    with pytest.raises(DatasetError, match="1 images of train.txt have no label: 2007_2"):
        load(replace(voc, labels=tmp_path / "labels.csv"))


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", "not a VOC annotation"),
        ('<!DOCTYPE a [<!ENTITY e "x">]><annotation>&e;</annotation>', "not a VOC annotation"),
        (XML.format("", 0), "an object has no name"),
        (None, r"1 images of train.txt have no XML file: 2007_1; add them, or set data.labels to a CSV"),
    ],
)
def test_voc_error_messages(voc, tmp_path, xml, message):
    path = tmp_path / "Annotations" / "2007_1.xml"
    path.write_text(xml) if xml else path.unlink()
    with pytest.raises(DatasetError, match=message):
        load(voc)


def test_voc_with_other_classes(voc, tmp_path):
    (tmp_path / "Annotations" / "2007_1.xml").write_text(XML.format("unicorn", 0))
    images = load(voc)
    assert images.classes.names == ("car", "person", "unicorn")
    assert labels_of(images)["2007_1"] == ("car", "unicorn")
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nunicorn:9,9,9::\n")
    with pytest.raises(DatasetError, match=r"labelmap\.txt does not name: car, person; it names unicorn"):
        load(voc)
    with (tmp_path / "labelmap.txt").open("a") as file:
        file.write("person:1,2,3::\ncar:4,5,6:wheel:honk\n")
    assert load(voc).classes.names == ("unicorn", "person", "car")
    assert load(replace(voc, mask_classes=("car", "unicorn", "person"))).classes.names == ("car", "unicorn", "person")


@pytest.mark.parametrize("suffix", [".png", ".JPEG", ".tif"])
def test_voc_photographs_with_another_suffix_and_only_a_main_list(voc, tmp_path, suffix):
    (tmp_path / "JPEGImages" / "2007_1.jpg").unlink()
    picture(tmp_path / "JPEGImages" / f"2007_1{suffix}")
    (tmp_path / "ImageSets" / "Segmentation").rename(tmp_path / "ImageSets" / "Main")
    assert labels_of(load(voc))["2007_1"] == ("car",)
    with pytest.raises(DatasetError, match=r"no list trainval\.txt in Segmentation or Main; found: train"):
        load(replace(voc, train=VocSplit("trainval")))


def test_voc_with_decomposed_file_names(voc, tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    picture(tmp_path / "JPEGImages" / f"{decomposed}.jpg")
    (tmp_path / "Annotations" / f"{decomposed}.xml").write_text(XML.format(f"caf{decomposed}", 0))
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text(composed)
    assert labels_of(load(replace(voc, classes=(f"caf{decomposed}",)))) == {composed: (f"caf{composed}",)}


def test_voc_with_a_missing_image(voc, tmp_path):
    (tmp_path / "JPEGImages" / "2007_2.jpg").unlink()
    with pytest.raises(DatasetError, match="1 labels have no image: 2007_2"):
        load(voc)


COCO = {
    "images": [{"id": 1, "file_name": "x.jpg"}, {"id": 2, "file_name": "y.jpg"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 18, "segmentation": [], "iscrowd": 0}],
}


def coco(tmp_path, content):
    for name in ("x", "y"):
        picture(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoData(kind="coco", train=CocoSplit(tmp_path / "images", tmp_path / "a.json"))


def test_coco_labels_and_class_order_by_category_id(tmp_path):
    images = load(coco(tmp_path, COCO))
    assert images.classes.names == ("car", "dog")
    assert labels_of(images) == {"x": ("dog",), "y": ()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "the list 'images' is missing"),
        (
            {**COCO, "annotations": [{"image_id": 1}]},
            r"annotations\[0\]: expected an object with image_id, category_id",
        ),
        ({**COCO, "annotations": [{"image_id": 9, "category_id": 3}]}, "unknown image or category"),
        ({**COCO, "images": [{"id": 1, "file_name": "../x.jpg"}]}, "cannot be an image id"),
        ({**COCO, "images": [{"id": 1, "file_name": ""}]}, "cannot be an image id"),
        ({**COCO, "images": [{"id": 1, "file_name": 5}]}, r"images\[0\]: expected an object .* names are strings"),
        ({**COCO, "categories": [{"id": 1, "name": "a"}, {"id": [2], "name": "b"}]}, r"categories\[1\]: expected"),
        (
            {**COCO, "images": [*COCO["images"], {"id": 3, "file_name": "x.jpg"}]},
            "several images have the file name .* 'x'",
        ),
    ],
)
def test_coco_error_messages(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        load(coco(tmp_path, content))


def test_missing_folder_and_split(csv, tmp_path):
    with pytest.raises(DatasetError, match="cannot be listed: No such file"):
        load(replace(csv, train=replace(csv.train, images=tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="data.val is not configured"):
        list_split(csv, "val")
