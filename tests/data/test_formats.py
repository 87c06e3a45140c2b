"""`wsseg init` on datasets as tools export them and people arrange them: recognised, or refused in one helpful line."""

import json
import re
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from wsseg.cli.main import cli
from wsseg.data.reading import read_mask_file
from wsseg.running.plan import open_config

BOX = {"xmin": 2, "ymin": 2, "xmax": 9, "ymax": 9}


def picture(path):
    """Write a photograph that differs from all others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(str(path).encode()))
    PILImage.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)


def pictures(folder, *names):
    for name in names:
        picture(folder / name)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def mask(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((12, 16), np.uint8)
    values[2:9, 2:9] = value
    PILImage.fromarray(values).save(path)


def coco_json(path, names, categories=("red", "blue"), first=1):
    content = {
        "images": [{"id": i, "file_name": name, "width": 16, "height": 12} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": first + i % 2, "segmentation": [[2, 2, 9, 2, 9, 9]], "bbox": [2, 2, 7, 7],
             "area": 24, "iscrowd": 0}
            for i in range(len(names))
        ],
        "categories": [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(categories, start=first)],
    }  # fmt: skip
    text(path, json.dumps(content))


def voc_xml(path, *names):
    objects = "".join(f"<object><name>{name}</name><bndbox/></object>" for name in names)
    text(path, f"<annotation><folder>x</folder><filename>{path.stem}.jpg</filename>{objects}</annotation>")


# --- recognised formats ---------------------------------------------------------------------------------


def roboflow_coco(root):
    for split in ("train", "valid", "test"):
        names = [f"{split}_{i}_jpg.rf.{i}aa.jpg" for i in range(2)]
        pictures(root / split, *names)
        coco_json(root / split / "_annotations.coco.json", names, ("things", "red", "blue"), first=0)
        content = json.loads((root / split / "_annotations.coco.json").read_text())
        for annotation in content["annotations"]:
            annotation["category_id"] += 1
        text(root / split / "_annotations.coco.json", json.dumps(content))


def cvat_coco(root):
    pictures(root / "images", "a.jpg", "b.jpg")
    coco_json(root / "annotations" / "instances_default.json", ["a.jpg", "b.jpg"])


def coco_same_names(root):
    for split in ("train", "val"):
        pictures(root / "images" / split, "000.jpg", "001.jpg")
        coco_json(root / "annotations" / f"instances_{split}.json", ["000.jpg", "001.jpg"])


def roboflow_classes(root):
    """Multi-class: one column per class."""
    for split in ("train", "valid"):
        pictures(root / split, f"{split}1.jpg", f"{split}2.jpg")
        text(root / split / "_classes.csv", f"filename, red, blue\n{split}1.jpg, 1, 0\n{split}2.jpg, 0, 1\n")


def roboflow_boxes(root):
    """Tensorflow object detection: one row per box."""
    pictures(root / "train", "a.jpg", "b.jpg")
    rows = "a.jpg,16,12,red,2,2,9,9\nb.jpg,16,12,blue,2,2,9,9\nb.jpg,16,12,blue,1,1,4,4\n"
    text(root / "train" / "_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n" + rows)


def roboflow_voc(root):
    for split in ("train", "valid"):
        for name, label in (("a", "red"), ("b", "blue")):
            picture(root / split / f"{split}_{name}.jpg")
            voc_xml(root / split / f"{split}_{name}.xml", label)


def labelimg(root):
    for name, label in (("a", "red"), ("b", "blue")):
        picture(root / "images" / f"{name}.jpg")
        voc_xml(root / "Annotations" / f"{name}.xml", label)


def voc_main_alone(root):
    for name, label in (("a", "red"), ("b", "blue"), ("c", "red")):
        picture(root / "JPEGImages" / f"{name}.jpg")
        voc_xml(root / "Annotations" / f"{name}.xml", label)
    text(root / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    text(root / "ImageSets" / "Main" / "val.txt", "c\n")


def yolo(root):
    """Ultralytics' layout; names as a mapping; an image without a text file has no class."""
    for split in ("train", "val"):
        pictures(root / "images" / split, f"{split}1.jpg", f"{split}2.jpg", f"{split}3.jpg")
        text(root / "labels" / split / f"{split}1.txt", "0 0.5 0.5 0.2 0.2\n")
        text(root / "labels" / split / f"{split}2.txt", "1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    text(
        root / "data.yaml",
        "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: 'blue'  # sky\nnc: 2\n",
    )


def roboflow_yolo(root):
    for split in ("train", "valid"):
        pictures(root / split / "images", f"{split}1.jpg", f"{split}2.jpg")
        text(root / split / "labels" / f"{split}1.txt", "0 0.5 0.5 0.2 0.2")
        text(root / split / "labels" / f"{split}2.txt", "1 0.5 0.5 0.2 0.2\n")
    text(root / "data.yaml", "train: ../train/images\nnc: 2\nnames: ['red', 'blue']\n\nroboflow:\n  workspace: x\n")


def labelimg_yolo(root):
    pictures(root, "a.jpg", "b.jpg")
    text(root / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    text(root / "b.txt", "1 0.5 0.5 0.2 0.2\n")
    text(root / "classes.txt", "red\nblue\n")


def cvat_images(root):
    pictures(root / "images", "a.jpg", "b.jpg")
    images = (
        '<image id="0" name="a.jpg"><box label="red"/></image><image id="1" name="b.jpg"><tag label="blue"/></image>'
    )
    text(root / "annotations.xml", f"<annotations><version>1.1</version><meta/>{images}</annotations>")


def label_studio_json(root):
    pictures(root / "photos", "a.jpg", "b.jpg")
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
         "annotations": [{"result": [{"type": "choices", "value": {"choices": ["red"]}}]}]},
        {"id": 2, "data": {"image": "/data/local-files/?d=photos/b.jpg"},
         "annotations": [{"result": [{"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["blue"]}}]}]},
    ]  # fmt: skip
    text(root / "project-1.json", json.dumps(tasks))


def label_studio_csv(root):
    pictures(root / "photos", "a.jpg", "b.jpg")
    rows = '1,"red",2024-01-01,1,/data/upload/1/0a1b2c3d-a.jpg,3.2\n1,"{""choices"": [""blue""]}",2024-01-01,2,/data/upload/1/0a1b2c3e-b.jpg,3\n'
    text(root / "project-1.csv", "annotator,choice,created_at,id,image,lead_time\n" + rows)


def labelme(root):
    for name, label in (("a", "red"), ("b", "blue")):
        picture(root / f"{name}.jpg")
        text(
            root / f"{name}.json",
            json.dumps({"version": "5", "imagePath": f"{name}.jpg", "shapes": [{"label": label}]}),
        )


def automl(root):
    pictures(root / "photos", "a.jpg", "b.jpg", "c.jpg")
    text(
        root / "import.csv",
        "TRAIN,gs://bucket/photos/a.jpg,red\nTRAIN,gs://bucket/photos/b.jpg,blue\nTEST,gs://bucket/photos/c.jpg,blue\n",
    )


def kaggle(root):
    pictures(root / "train", "a1.jpg", "b1.jpg")
    pictures(root / "test", "x.jpg")
    text(root / "train.csv", "id,label\na1,red\nb1,blue\n")
    text(root / "sample_submission.csv", "id,label\nx,red\n")


def kaggle_in_folders(root):
    """File names without folders, images in folders."""
    pictures(root / "images" / "one", "a1.jpg")
    pictures(root / "images" / "two", "b1.jpg")
    text(root / "labels.csv", "file_name,labels\na1.jpg,red\nb1.jpg,blue\n")


def lists_of_pandas(root):
    pictures(root, "a.jpg", "b.jpg", "c.jpg")
    text(root / "labels.csv", "image,labels\na.jpg,['red']\nb.jpg,\"['blue']\"\nc.jpg,[]\n")


def image_net(root):
    for split in ("train", "val"):
        for name in ("red", "blue"):
            picture(root / split / name / f"{split}_{name}.jpg")


def images_train_val(root):
    image_net(root / "dataset" / "images")


def train_images(root):
    for split in ("train", "val"):
        for name in ("red", "blue"):
            picture(root / split / "images" / name / f"{split}_{name}.jpg")


def hugging_face(root):
    for split in ("train", "test"):
        pictures(root / split, f"{split}_a.jpg", f"{split}_b.jpg")
        rows = [{"file_name": f"{split}_a.jpg", "label": "red"}, {"file_name": f"{split}_b.jpg", "label": "blue"}]
        text(root / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def open_images(root):
    pictures(root / "train", "a1.jpg", "b1.jpg")
    text(root / "train-labels.csv", "ImageID,Source,LabelName,Confidence\na1,human,red,1\nb1,human,blue,1\n")


def cvat_yolo(root):
    pictures(root / "obj_train_data", "a.jpg", "b.jpg")
    text(root / "obj_train_data" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    text(root / "obj_train_data" / "b.txt", "1 0.5 0.5 0.2 0.2\n")
    text(root / "obj.names", "red\nblue\n")
    text(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    text(root / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")


def mvtec(root):
    pictures(root / "train" / "good", "000.png", "001.png")
    for name in ("good", "red", "blue"):
        picture(root / "test" / name / "000.png")
    for name in ("red", "blue"):
        mask(root / "ground_truth" / name / "000_mask.png", 255)


def two_backgrounds(root):
    for name in ("red", "blue", "good", "normal"):
        picture(root / name / f"{name}.jpg")


def masks_beside_classes(root):
    for name in ("red", "blue"):
        picture(root / name / f"{name}1.png")
        picture(root / name / f"{name}2.png")
        mask(root / "masks" / name / f"{name}1.png", 1)


LAYOUTS = {  # kind, classes in train, classes in val
    roboflow_coco: ("coco", "red 1, blue 1, (none) 0", "red 1, blue 1, (none) 0"),
    cvat_coco: ("coco", "red 1, blue 1, (none) 0", None),
    coco_same_names: ("coco", "red 1, blue 1, (none) 0", "red 1, blue 1, (none) 0"),
    roboflow_classes: ("csv", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    roboflow_boxes: ("csv", "blue 1, red 1, (none) 0", None),
    roboflow_voc: ("csv", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    labelimg: ("csv", "blue 1, red 1, (none) 0", None),
    voc_main_alone: (None, "blue 1, red 1, (none) 0", "blue 0, red 1, (none) 0"),
    yolo: ("csv", "blue 1, red 1, (none) 1", "blue 1, red 1, (none) 1"),
    roboflow_yolo: ("csv", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    labelimg_yolo: ("csv", "blue 1, red 1, (none) 0", None),
    cvat_images: ("csv", "blue 1, red 1, (none) 0", None),
    label_studio_json: ("csv", "blue 1, red 1, (none) 0", None),
    label_studio_csv: ("csv", "blue 1, red 1, (none) 0", None),
    labelme: ("csv", "blue 1, red 1, (none) 0", None),
    automl: ("csv", "blue 1, red 1, (none) 0", "blue 1, red 0, (none) 0"),
    kaggle: ("csv", "blue 1, red 1, (none) 0", None),
    lists_of_pandas: ("csv", "blue 1, red 1, (none) 1", None),
    image_net: ("folder", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    images_train_val: ("folder", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    train_images: ("folder", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    hugging_face: ("csv", "blue 1, red 1, (none) 0", "blue 1, red 1, (none) 0"),
    open_images: ("csv", "blue 1, red 1, (none) 0", None),
    cvat_yolo: ("csv", "blue 1, red 1, (none) 0", None),
    mvtec: ("csv", "blue 1, red 1, (none) 3", None),
    two_backgrounds: ("csv", "blue 1, red 1, (none) 2", None),
    masks_beside_classes: ("csv", "blue 2, red 2, (none) 0", None),
}


@pytest.fixture
def init(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["init", *words])


def classes_of(output, split):
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if re.fullmatch(rf"{split}: \d+ images?", line))
    return lines[start + 1].removeprefix("  classes: ")


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_exports_are_read_as_intended(init, tmp_path, make):
    kind, train, val = LAYOUTS[make]
    make(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    result = init("set", "-o", "mine.toml")
    assert result.exit_code == 0, result.output
    assert classes_of(result.output, "train") == train
    data = open_config("mine.toml").data
    assert kind in (data.kind, None)
    assert (data.val is None) == (val is None)
    if val is not None:
        assert classes_of(result.output, "val") == val
    assert "identical to training images" not in result.output
    written = sorted(path.name for path in set(tmp_path.iterdir()) - set(before))
    assert {name.split("-")[0] for name in written} <= {"mine.toml", "mine", "wsseg", ".wsseg"}


def test_mvtec_masks_are_copied_with_class_ids(init, tmp_path):
    mvtec(tmp_path / "bottle")
    assert init("bottle").exit_code == 0
    data = open_config("bottle.toml").data
    assert data.mask_classes == ("blue", "red")
    for name, class_id in (("blue", 1), ("red", 2), ("good", 0)):
        values, _ = read_mask_file(tmp_path / "bottle-masks" / "test" / name / "000.png")
        assert values.shape == (12, 16) and set(np.unique(values)) == {0, class_id}


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (roboflow_coco, "not used: test/_annotations.coco.json (2 images of split test)"),
        (roboflow_coco, "not used: categories without any image: things"),
        (yolo, "2 images without text file: no class, as in YOLO"),
        (roboflow_boxes, "_annotations.csv: image names in column 'filename', classes in 'class'"),
        (mvtec, "2 masks of ground_truth copied beside the config"),
        (two_backgrounds, "images without any class in: good and normal"),
        (kaggle, "not used: sample_submission.csv: a submission template"),
        (kaggle, "not used: 1 image without label in test"),
    ],
)
def test_assumptions_and_unused_files_are_printed(init, tmp_path, make, note):
    make(tmp_path / "set")
    result = init("set")
    assert any(line.startswith(f"  {note}") for line in result.output.splitlines()), result.output
    assert f"# {note}" in (tmp_path / "set.toml").read_text()


# --- ambiguous labels ----------------------------------------------------------------------------------------------------


def classes_and_table(root):
    for name in ("red", "blue"):
        picture(root / name / f"{name}.jpg")
    text(root / "labels.csv", "image_id,classes\nred/red,one\nblue/blue,two\n")


def two_tables(root):
    pictures(root, "a.jpg", "b.jpg")
    text(root / "labels.csv", "image_id,classes\na,red\nb,blue\n")
    text(root / "other.csv", "image_id,classes\na,red\nb,red\n")


def two_jsons(root):
    pictures(root, "a.jpg", "b.jpg")
    coco_json(root / "one.json", ["a.jpg", "b.jpg"])
    coco_json(root / "two.json", ["b.jpg", "a.jpg"])


def years(root):
    for year in ("2021", "2022"):
        for name in ("red", "blue"):
            picture(root / year / name / f"{year}{name}.jpg")


def blanks(root):
    pictures(root, "a.jpg", "b.jpg", "c.jpg")
    text(root / "labels.csv", "file,label\na,red car\nb,blue car\nc,car\n")


def same_names_in_two_folders(root):
    for part in ("left", "right"):
        pictures(root / part, "a.jpg", "b.jpg")
    text(root / "labels.csv", "image_id,classes\na,red\nb,blue\n")


def many_of_mvtec(root):
    for name in ("bottle", "cable"):
        mvtec(root / name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (classes_and_table, "ambiguous: 2 sets of labels; choose --kind csv (labels.csv: one, two) or --kind folder ("),
        (two_tables, "labels.csv and other.csv have different labels for train; choose one with --labels FILE"),
        (two_jsons, "one.json and two.json have different labels for train; choose one with --labels FILE"),
        (years, "the classes may be 2021, 2022 or blue, red; pass 2021 as FOLDER"),
        (blanks, "'blue car' may be one class or 2; use --separator '|' for one class, or --separator ' '"),
        (same_names_in_two_folders, "left and right have photographs of the same names"),
        (many_of_mvtec, "found 2 MVTec AD datasets: bottle, cable; pass one of them as FOLDER"),
    ],
)
def test_ambiguous_labels_are_a_one_line_error(init, tmp_path, make, words):
    make(tmp_path / "set")
    result = init("set")
    assert result.exit_code == 1
    assert words in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "set.toml").exists()


@pytest.mark.parametrize(
    ("make", "options", "classes"),
    [
        (classes_and_table, ("--kind", "folder"), "blue 1, red 1, (none) 0"),
        (classes_and_table, ("--kind", "csv"), "one 1, two 1, (none) 0"),
        (classes_and_table, ("--labels", "set/labels.csv"), "one 1, two 1, (none) 0"),
        (two_tables, ("--labels", "set/other.csv"), "red 2, (none) 0"),
        (two_jsons, ("--labels", "set/two.json"), "red 1, blue 1, (none) 0"),
        (kaggle_in_folders, ("--kind", "csv"), "blue 1, red 1, (none) 0"),
        (blanks, ("--separator", "|"), "blue car 1, car 1, red car 1, (none) 0"),
        (blanks, ("--separator", " "), "blue 1, car 3, red 1, (none) 0"),
    ],
)
def test_options_resolve_ambiguous_labels(init, tmp_path, make, options, classes):
    make(tmp_path / "set")
    result = init("set", *options)
    assert result.exit_code == 0, result.output
    assert classes_of(result.output, "train") == classes


def test_formats_with_the_same_labels_are_not_ambiguous(init, tmp_path):
    for name in ("red", "blue"):
        picture(tmp_path / "set" / name / f"{name}.jpg")
    text(tmp_path / "set" / "labels.csv", "image_id,classes\nred/red,red\nblue/blue,blue\n")
    result = init("set")
    assert result.exit_code == 0 and "not used: the folder labels, which are the same" in result.output


def test_a_file_with_some_of_the_same_labels_is_not_used(init, tmp_path):
    pictures(tmp_path / "set" / "train", "a.jpg", "b.jpg", "c.jpg")
    coco_json(tmp_path / "set" / "a_small_train.json", ["a.jpg", "b.jpg"])
    coco_json(tmp_path / "set" / "my_train.json", ["a.jpg", "b.jpg", "c.jpg"])
    result = init("set")
    assert "train: 3 images" in result.output
    assert "not used: a_small_train.json, whose labels are all in my_train.json" in result.output


@pytest.mark.parametrize(("option", "value"), [("--kind", "yolov9"), ("--separator", "")])
def test_invalid_options_are_usage_errors(init, tmp_path, option, value):
    two_tables(tmp_path / "set")
    assert init("set", option, value).exit_code == 2


# --- nothing to recognise -------------------------------------------------------------------------------------------------


def empty(root):
    root.mkdir()


def flat(root):
    pictures(root, "a.jpg", "b.jpg")


def images_and_masks(root):
    picture(root / "images" / "a.jpg")
    mask(root / "masks" / "a.png", 1)


def phone(root):
    root.mkdir()
    (root / "IMG_1.HEIC").write_bytes(b"ftypheic")


def one_class(root):
    pictures(root / "red", "a.jpg", "b.jpg")


def spreadsheet(root):
    flat(root)
    (root / "labels.xlsx").write_bytes(b"PK")


def json_of_ones_own(root):
    flat(root)
    text(root / "labels.json", json.dumps({"a.jpg": ["red"], "b.jpg": ["blue"]}))


def archive(root):
    root.mkdir()
    (root / "photos.zip").write_bytes(b"PK")


def a_file(root):
    root.with_suffix(".zip").write_bytes(b"PK")


def yolo_without_names(root):
    labelimg_yolo(root)
    (root / "classes.txt").unlink()


def yolo_unknown_id(root):
    labelimg_yolo(root)
    text(root / "b.txt", "7 0.5 0.5 0.2 0.2\n")


def no_classes(root):
    pictures(root, "a.jpg", "b.jpg")
    text(root / "labels.csv", "image_id,classes\na,\nb,none\n")


def other_images(root):
    pictures(root, "a.jpg", "b.jpg")
    text(root / "labels.csv", "image_id,classes\nx,red\ny,blue\n")


def header_alone(root):
    pictures(root, "a.jpg", "b.jpg")
    text(root / "labels.csv", "image_id,classes\n")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (empty, "this folder is empty; pass the folder that holds your photographs"),
        (
            flat,
            "found 2 photographs, but no labels; expected two or more sub-folders of images",
        ),
        (images_and_masks, "found 1 photograph and 1 folder of masks, but no labels"),
        (phone, "found no photograph that wsseg can read, but IMG_1.HEIC; convert them to JPEG or PNG"),
        (one_class, "expected two or more sub-folders of images (one per class; 'none' for images without any)"),
        (spreadsheet, "unknown format: labels.xlsx; expected two or more sub-folders"),
        (json_of_ones_own, "unknown format: labels.json; expected two or more sub-folders"),
        (archive, "found no photograph, but photos.zip; unpack it first"),
        (yolo_without_names, "YOLO labels: no class names; add data.yaml, classes.txt or obj.names"),
        (yolo_unknown_id, "YOLO labels: no name for the class ids 7"),
        (no_classes, "labels.csv: no image has a class"),
        (other_images, "labels.csv: its rows name no photograph of this folder, such as 'x'"),
        (header_alone, "labels.csv: no rows"),
    ],
)
def test_folders_without_usable_labels_are_a_one_line_error(init, tmp_path, make, words):
    make(tmp_path / "set")
    result = init("set")
    assert result.exit_code == 1 and words in result.output and result.output.count("\n") == 1
    assert not list(tmp_path.glob("*.toml"))


def test_an_archive_is_refused(init, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    result = init("set.zip")
    assert result.exit_code == 1 and "this is an archive; unpack it and pass the folder" in result.output


def test_two_tables_may_share_one_folder_of_images(init, tmp_path):
    """The images of the other split are not reported as images without label."""
    pictures(tmp_path / "set" / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    text(tmp_path / "set" / "train.csv", "image_id,classes\na,red\nb,blue\n")
    text(tmp_path / "set" / "val.csv", "image_id,classes\nc,red\nd,blue\n")
    result = init("set")
    assert result.exit_code == 0 and result.output.count("1 images have no label and are not used: e") == 2


# --- written files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", ["mine-train.csv", "mine-masks/train/good/000.png"])
def test_existing_files_beside_the_config_are_not_replaced(init, tmp_path, existing):
    mvtec(tmp_path / "set")
    text(tmp_path / existing, "mine")
    result = init("set", "-o", "mine.toml")
    assert result.exit_code == 1 and f"{existing} exists and was not written by wsseg" in result.output
    assert (tmp_path / existing).read_text() == "mine" and not (tmp_path / "mine.toml").exists()


def test_class_names_may_contain_separators(init, tmp_path):
    for i, name in enumerate(("red|blue", "a;b", "c d")):
        picture(tmp_path / "set" / f"{i}.jpg")
        text(tmp_path / "set" / f"{i}.json", json.dumps({"imagePath": f"{i}.jpg", "shapes": [{"label": name}]}))
    result = init("set")
    assert classes_of(result.output, "train") == "a;b 1, c d 1, red|blue 1, (none) 0"
