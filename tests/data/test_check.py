"""`check_data`: which findings are problems and which are notes."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from wsseg.cli.main import cli
from wsseg.data import file_memory, reading
from wsseg.data.check import check_data
from wsseg.data.config import CocoData, CocoSplit, CsvData, CsvSplit, FolderData, FolderSplit
from wsseg.data.file_memory import FileMemory
from wsseg.errors import DatasetError


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)


def csv_split(folder, name, rows, seed=0):
    for i, row in enumerate(rows):
        picture(folder / name / f"{row.split(',')[0]}.png", seed + i)
    (folder / f"{name}.csv").write_text("image_id,classes\n" + "\n".join(rows) + "\n")
    return CsvSplit(images=folder / name, labels=folder / f"{name}.csv")


def check(data):
    return check_data(data, FileMemory())


def test_valid_data_has_no_problem(tmp_path):
    train = csv_split(tmp_path, "train", ["a,red", "b,blue", "c,"])
    val = csv_split(tmp_path, "val", ["d,red", "e,blue"], seed=10)
    reports = check(CsvData(kind="csv", train=train, val=val))
    assert [r.problems for r in reports] == [[], []]
    assert [r.notes for r in reports] == [[], ["no masks: the quality of the results is not measured"]]


@pytest.mark.parametrize("name", ["a", "d"])
def test_a_copy_of_a_train_image_in_val_is_the_first_note(tmp_path, name):
    train = csv_split(tmp_path, "train", ["a,red", "b,blue"])
    val = csv_split(tmp_path, "val", [f"{name},red", "c,blue"], seed=10)
    shutil.copy(tmp_path / "train" / "a.png", tmp_path / "val" / f"{name}.png")
    report = check(CsvData(kind="csv", train=train, val=val))[1]
    assert report.notes[0] == (
        f"1 of 2 validation images identical to training images: {name} (train: a); the results look better than they are"
    )
    assert not report.problems


def test_the_same_files_in_train_and_val_are_a_problem(tmp_path):
    split = csv_split(tmp_path, "train", ["a,red", "b,blue"])
    train, val = check(CsvData(kind="csv", train=split, val=split))
    assert not train.problems
    assert val.problems[0].startswith("2 of 2 validation images also in train: a, b; remove them from one split")


def test_a_class_that_is_absent_in_val_is_a_note(tmp_path):
    train = csv_split(tmp_path, "train", ["a,red", "b,blue"])
    val = csv_split(tmp_path, "val", ["c,red"], seed=10)
    report = check(CsvData(kind="csv", train=train, val=val))[1]
    assert not report.problems
    assert "classes without validation images: blue; their quality is not measured" in report.notes


def coco(folder, categories, labels):
    for i in range(len(labels)):
        picture(folder / f"{i}.png", i)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 10, "height": 12} for i in range(len(labels))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": k, "segmentation": [[0, 0, 5, 0, 5, 5]], "iscrowd": 0, "area": 12}
            for i, k in enumerate(labels)
            if k is not None
        ],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return CocoSplit(images=folder, annotations=folder / "instances.json")


def test_a_category_without_images_is_a_note_unless_the_config_lists_it(tmp_path):
    split = coco(tmp_path, ["things", "red", "blue"], [1, 2, None])
    report = check(CocoData(kind="coco", train=split))[0]
    assert not report.problems
    assert any(
        note.startswith("classes without training images cannot be learned: things; list the others")
        for note in report.notes
    )
    report = check(CocoData(kind="coco", train=split, classes=("things", "red")))[0]
    assert report.problems == ["no training image is labelled 'things'; add some, or remove it from data.classes"]


def test_labels_without_any_class_are_a_problem(tmp_path):
    split = coco(tmp_path, ["red", "blue"], [None, None])
    assert (
        "no training image has a class; nothing can be learned" in check(CocoData(kind="coco", train=split))[0].problems
    )


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["['red', 'blue']", "red"], "class names that look like lists: \"['red', 'blue']\""),
        (["red,blue", "red"], "class names that look like lists: 'red,blue'"),
        (["red|blue", "red"], "class names that look like lists: 'red|blue'"),
        (["red", "nan"], "class names that look like 'no class': 'nan'"),
        (["red", "None"], "class names that look like 'no class': 'None'"),
        (["red", "Red", "blue"], "class names with similar spelling: 'Red', 'red'"),
    ],
)
def test_suspicious_class_names_are_notes(tmp_path, names, note):
    """Class folders have such names; the reader of tables refuses them or interprets them."""
    for seed, name in enumerate(names):
        picture(tmp_path / name / "a.png", seed)
    report = check(FolderData(kind="folder", train=FolderSplit(images=tmp_path)))[0]
    assert any(line.startswith(note) for line in report.notes), report.notes


def test_an_apostrophe_in_a_name_is_not_suspicious(tmp_path):
    report = check(CsvData(kind="csv", train=csv_split(tmp_path, "train", ["a,driver's", "b,ok"])))[0]
    assert not [line for line in report.notes if "look like" in line]


def test_one_image_in_two_classes_is_a_note(tmp_path):
    picture(tmp_path / "red" / "a.png", 0)
    picture(tmp_path / "blue" / "b.png", 1)
    shutil.copy(tmp_path / "red" / "a.png", tmp_path / "blue")
    report = check(FolderData(kind="folder", train=FolderSplit(images=tmp_path)))[0]
    assert "identical images with different labels: blue/a and red/a" in report.notes


def test_a_split_of_unreadable_images_is_an_error(tmp_path):
    split = csv_split(tmp_path, "train", ["a,red", "b,blue"])
    for name in "ab":
        (tmp_path / "train" / f"{name}.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"train: none of 2 images can be read: .*a\.png .*b\.png") as excinfo:
        check(CsvData(kind="csv", train=split))
    assert "data check" not in str(excinfo.value)


def test_unusual_files_are_notes(tmp_path):
    split = csv_split(tmp_path, "train", ["a,red", "b,blue", "c,"])
    PILImage.fromarray(np.full((9, 9), 4095, np.uint16)).save(tmp_path / "train" / "a.png")
    page = PILImage.new("RGB", (9, 9), "red")
    page.save(tmp_path / "train" / "b.tif", save_all=True, append_images=[page.rotate(90)])
    (tmp_path / "train" / "b.png").unlink()
    notes = check(CsvData(kind="csv", train=split))[0].notes
    assert any(re.fullmatch("1 image: its 16-bit values use less than a quarter .*: a", note) for note in notes)
    assert "1 image: it has several pages; only the first is read: b" in notes


def test_a_full_check_reads_every_file_again(tmp_path, monkeypatch):
    csv_split(tmp_path, "train", ["a,red", "b,blue", "c,"])
    config = tmp_path / "c.toml"
    config.write_text('[data]\nkind = "csv"\ntrain = { images = "train", labels = "train.csv" }\n')
    read = []
    monkeypatch.setattr(
        file_memory, "inspect_file", lambda path, real=reading.inspect_file: read.append(path) or real(path)
    )
    command = ["data", "check", "-c", str(config), "--store", str(tmp_path / "store")]
    for options, expected in (([], 3), ([], 0), (["--full"], 3)):
        read.clear()
        result = CliRunner().invoke(cli, [*command, *options])
        assert (result.exit_code, len(read)) == (0, expected), result.output
