"""`wsseg init`: the four layouts that the pipeline reads itself, the config it writes, and names of files and folders."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from wsseg.cli.main import cli
from wsseg.data.check import check_data
from wsseg.data.config import CsvData, CsvSplit
from wsseg.data.discovery import config_text, discover, network_size_for
from wsseg.data.file_memory import FileMemory
from wsseg.data.masks import encode_mask
from wsseg.data.photographs import photograph_files
from wsseg.errors import DatasetError
from wsseg.outputs import Outputs
from wsseg.running.plan import open_config


def picture(path, size=(200, 150)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PILImage.fromarray(noise).save(path)


def mask(path, size=(200, 150)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mask(np.ones((size[1], size[0]), np.uint8)))


def class_folders(root):
    for name in ("cat", "dog", "none"):
        for i in range(3):
            picture(root / name / f"{i}.jpg")


def csv_beside_images(root):
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            picture(root / split / "images" / f"{i}.png")
            mask(root / split / "masks" / f"{i}.png")
        rows = "\n".join(f"{i},cat|dog" for i in range(count))
        (root / split / "labels.csv").write_text(f"image_id,classes\n{rows}\n")


def coco(root):
    for split in ("train", "val"):
        names = [f"{split}_{i}.jpg" for i in range(3)]
        for name in names:
            picture(root / f"{split}2017" / name)
        content = {
            "images": [{"id": i, "file_name": name, "width": 200, "height": 150} for i, name in enumerate(names)],
            "annotations": [
                {
                    "id": i,
                    "image_id": i,
                    "category_id": 1,
                    "segmentation": [[0, 0, 50, 0, 50, 50]],
                    "iscrowd": 0,
                    "area": 1250,
                }
                for i in range(3)
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def voc(root):
    root = root / "VOCdevkit" / "VOC2012"
    for split in ("train", "val"):
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{split}_1\n{split}_2\n")
        for i in (1, 2):
            picture(root / "JPEGImages" / f"{split}_{i}.jpg")
            mask(root / "SegmentationClass" / f"{split}_{i}.png")
            (root / "Annotations").mkdir(exist_ok=True)
            xml = "<annotation><object><name>aeroplane</name></object></annotation>"
            (root / "Annotations" / f"{split}_{i}.xml").write_text(xml)


LAYOUTS = {
    "folder": (class_folders, "cat 3, dog 3, (none) 3"),
    "csv": (csv_beside_images, "cat 3, dog 3, (none) 0"),
    "coco": (coco, "cat 3, (none) 0"),
    "voc": (voc, "aeroplane 2, (none) 0"),
}


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["init", *words])


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_layout_is_recognised_and_checked(invoke, tmp_path, kind):
    make, classes = LAYOUTS[kind]
    make(tmp_path / "my photos")
    result = invoke("my photos")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("found in my photos:\n") and f"classes: {classes}" in result.output
    assert "no problem found" in result.output
    assert result.output.splitlines()[-1] == "next: wsseg run best -c 'my photos.toml'"
    config = open_config("my photos.toml")
    assert config.data.kind == kind
    assert (config.data.val is None) == (kind == "folder")
    assert config.tables["segmenter"].size == 192
    assert str(tmp_path) not in (tmp_path / "my photos.toml").read_text()  # the config may move with its folder


def test_masks_beside_a_csv_are_not_photographs(tmp_path):
    csv_beside_images(tmp_path)
    discovery = discover(tmp_path)
    for split in ("train", "val"):
        assert discovery.data[split]["images"] == tmp_path / split / "images"
        assert discovery.data[split]["masks"] == tmp_path / split / "masks"
    assert discovery.data["separator"] == "|"


def test_a_folder_named_good_is_background(tmp_path):
    for name in ("scratch", "good"):
        picture(tmp_path / "train" / name / "1.png")
        picture(tmp_path / "test" / name / "1.png")
    discovery = discover(tmp_path)
    assert discovery.data["background"] == "good"
    assert discovery.data["val"]["images"] == tmp_path / "test"


def test_an_existing_config_is_not_replaced(invoke, tmp_path):
    class_folders(tmp_path / "photos")
    (tmp_path / "photos.toml").write_text("mine")
    result = invoke("photos")
    assert result.exit_code == 1 and "exists and was not written by wsseg" in result.output
    assert (tmp_path / "photos.toml").read_text() == "mine"


@pytest.mark.parametrize(("name", "message"), [("nothing", "no such folder"), ("empty", "this folder is empty")])
def test_folders_without_photographs(invoke, tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    result = invoke(name)
    assert result.exit_code == 1 and message in result.output and result.output.count("\n") == 1


def test_the_check_names_unreadable_images(invoke, tmp_path):
    class_folders(tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "broken.jpg").write_bytes(b"no image")
    result = invoke("photos")
    assert result.exit_code == 1 and "broken.jpg" in result.output
    assert (tmp_path / "photos.toml").is_file()


@pytest.mark.parametrize(("side", "size"), [(90, 128), (200, 192), (230, 224), (4000, 320)])
def test_network_sizes_follow_the_photographs(tmp_path, side, size):
    picture(tmp_path / "a.png", (side, side // 2))
    assert network_size_for([tmp_path]) == size


def test_the_config_repeats_the_notes(tmp_path):
    class_folders(tmp_path / "photos")
    discovery = discover(tmp_path / "photos")
    text = config_text(discovery, tmp_path / "c.toml")
    assert all(f"# {line}" in text for line in discovery.notes)
    with pytest.raises(DatasetError):
        discover(tmp_path / "none")


def test_a_class_of_every_image_is_a_note(tmp_path):
    """A classifier learns a class by comparison with images without it."""
    (tmp_path / "labels.csv").write_text("image_id,classes\na,crack\nb,crack dent\n")
    for name in "ab":
        PILImage.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    data = CsvData(kind="csv", train=CsvSplit(images=tmp_path, labels=tmp_path / "labels.csv"))
    report = check_data(data, FileMemory())[0]
    assert [n for n in report.notes if n.startswith("every training image")] == [
        "every training image is labelled 'crack'; add images without it, or the class cannot be learned"
    ]
    assert not report.problems


def test_real_photographs(invoke, tmp_path, real_data):
    for split in ("train", "val"):
        source, target = real_data / "neu-seg" / split, tmp_path / "steel" / split
        lines = (source / "labels.csv").read_text().splitlines()[:13]
        (target / "masks").mkdir(parents=True)
        (target / "images").mkdir()
        (target / "labels.csv").write_text("\n".join(lines) + "\n")
        for line in lines[1:]:
            item_id = line.split(",")[0]
            for kind in ("images", "masks"):
                path = next((source / kind).glob(f"{item_id}.*"))
                shutil.copy(path, target / kind / path.name)
    result = invoke("steel")
    assert "train: 12 images" in result.output and "wrote steel.toml" in result.output
    data = open_config("steel.toml").data
    assert data.train.masks is not None and data.val.masks is not None


@pytest.mark.parametrize(
    "name",
    ["cash$flow", "$HOME", "${HOME}", "~x", "~", "a: b", "it's", 'a"b', "a#b", "a\\b", "[x]", "ünï", "a\nb", "\ttab"],
)
def test_folder_names_cannot_change_the_config(invoke, tmp_path, name):
    """The config contains the names of the folder and of the classes."""
    for kind in ("red", "blue"):
        picture(tmp_path / name / kind / "1.jpg")
        picture(tmp_path / name / kind / f"{kind}.jpg")
    result = invoke(f"./{name}", "-o", "c.toml")
    assert result.exit_code == 0, result.output
    config = open_config("c.toml")
    assert config.data.train.images == tmp_path / name
    assert config.stated <= {"rng_seed", "data.kind", "data.train.images"} | {
        f"{table}.size" for table in ("classifier", "seeds", "segmenter")
    }


@pytest.mark.parametrize("where", ["folder", "file", "class", "category"])
def test_a_line_break_in_a_name_cannot_add_a_setting(invoke, tmp_path, where):
    evil = 'x\n[predictions]\ncrf = "off"\n#'
    root = tmp_path / "set"
    if where == "category":
        coco(root)
        for path in (root / "annotations").iterdir():
            content = json.loads(path.read_text())
            content["categories"].append({"id": 2, "name": evil})
            path.write_text(json.dumps(content))
    elif where == "file":
        for i in range(2):
            picture(root / f"{i}.jpg")
        (root / f"{evil}.csv").write_text("image_id,classes\n0,red\n1,blue\n")
    elif where == "folder":
        for name in ("red", "blue"):
            picture(root / evil / name / "1.jpg")
    else:
        for name in ("red", evil):
            picture(root / name / "1.jpg")
    result = invoke("set")
    if where == "class":  # no class can have that name
        assert result.exit_code == 1
    else:
        assert result.exit_code == 0, result.output
    text = (tmp_path / "set.toml").read_text()
    assert not any(line.startswith(("[predictions]", "crf")) for line in text.splitlines())
    assert "predictions.crf" not in open_config("set.toml").stated


def test_a_name_that_is_not_utf_8_is_a_one_line_error(invoke, tmp_path):
    name = b"caf\xe9"
    os.mkdir(os.path.join(os.fsencode(tmp_path), name))  # noqa: PTH102, PTH118
    for kind in ("red", "blue"):
        picture(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))) / kind / "1.jpg")  # noqa: PTH118
    result = invoke(os.fsdecode(name), "-o", "c.toml")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "is not UTF-8; rename it" in result.output
    assert not (tmp_path / "c.toml").exists()


def test_the_separator_fits_the_tables_of_both_splits(tmp_path):
    for split, cells in (("train", "cat|dog"), ("val", "cat")):
        picture(tmp_path / split / "a.png")
        picture(tmp_path / split / "b.png")
        (tmp_path / f"{split}.csv").write_text(f"image_id,classes\na,{cells}\nb,dog\n")
    assert discover(tmp_path).data["separator"] == "|"


def test_words_that_only_occur_together_are_one_class(invoke, tmp_path):
    for name in "abc":
        picture(tmp_path / "set" / f"{name}.png")
    (tmp_path / "set" / "labels.csv").write_text("image_id,classes\na,traffic light\nb,car\nc,traffic light\n")
    result = invoke("set")
    assert "classes: car 1, traffic light 2, (none) 0" in result.output
    assert "'traffic light' read as one class; use --separator ' ' if blanks separate classes" in result.output


def test_system_folders_and_stores_are_not_classes(invoke, tmp_path):
    class_folders(tmp_path / "photos")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "masks", "labels"):
        picture(tmp_path / "photos" / name / "1.jpg")
    for name in ("objects", "work", "locks", "runs"):
        (tmp_path / "photos" / "store" / name).mkdir(parents=True)
    picture(tmp_path / "photos" / "store" / "objects" / "1.jpg")
    result = invoke("photos")
    assert "classes: cat 3, dog 3, (none) 3" in result.output


def test_init_in_the_folder_itself_can_be_repeated(invoke, tmp_path):
    class_folders(tmp_path)
    assert invoke(".", "-o", "one.toml").exit_code == 0
    result = invoke(".", "-o", "two.toml")
    assert result.exit_code == 0 and "classes: cat 3, dog 3, (none) 3" in result.output


def test_decomposed_class_names_need_no_copy(invoke, tmp_path):
    for name in ("cafe\u0301", "blue"):
        picture(tmp_path / "set" / name / "1.jpg")
        picture(tmp_path / "set" / name / f"{name}.jpg")
    result = invoke("set")
    assert "classes: blue 2, caf\u00e9 2, (none) 0" in result.output
    assert open_config("set.toml").data.kind == "folder"


def test_files_of_init_are_not_data(invoke, tmp_path):
    """In the photographs' own folder, neither a second `init` nor `predict` uses the files of the first."""
    for folder in ("train/good", "test/good", "test/red"):
        picture(tmp_path / folder / f"{folder[-3:]}.png")
    mask(tmp_path / "ground_truth" / "red" / "red_mask.png")
    photographs = set(photograph_files(tmp_path))
    first = invoke(".", "-o", "mine.toml")
    assert "wrote mine-train.csv\nwrote mine-masks\nwrote mine.toml\n" in first.output
    contents = {path: path.read_bytes() for path in (tmp_path / "mine.toml", tmp_path / "mine-train.csv")}
    assert set(photograph_files(tmp_path)) == photographs
    assert discover(tmp_path).notes[0].startswith("MVTec AD")
    assert invoke(".", "-o", "mine.toml").output == first.output
    assert {path: path.read_bytes() for path in contents} == contents
    mask(tmp_path / "mine-masks" / "test" / "red" / "red.png", (100, 150))
    assert discover(tmp_path).notes == discover(tmp_path, "mvtec").notes
    assert set(photograph_files(tmp_path)) == photographs  # a corrected mask is no photograph
    (tmp_path / "mine-train.csv").write_text("image_id,classes\ntest/red/red,blue\n")  # then it is the user's
    with pytest.raises(DatasetError, match="ambiguous: 2 sets of labels; choose --kind csv"):
        discover(tmp_path)


def test_files_of_predict_and_export_are_not_labels(invoke, tmp_path):
    """A second `init` takes neither predicted masks for true masks nor exported annotations for labels."""
    for number in range(3):
        picture(tmp_path / "images" / f"{number}.png")
    (tmp_path / "labels.csv").write_text("image_id,classes\n0,cat\n1,dog\n2,cat|dog\n")
    first = discover(tmp_path)
    annotations = {
        "images": [{"id": 0, "file_name": "0.png", "width": 200, "height": 150}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    outputs = Outputs([tmp_path / "images"])
    outputs.write(tmp_path / "masks.json", json.dumps(annotations).encode())
    for number in range(3):
        outputs.write(tmp_path / "masks" / f"{number}.png", encode_mask(np.ones((150, 200), np.uint8)))
        outputs.write(
            tmp_path / "out" / "train" / "images" / f"{number}.png", (tmp_path / "images" / "0.png").read_bytes()
        )
    assert discover(tmp_path) == first
    assert discover(tmp_path, labels=(tmp_path / "masks.json",)).data["kind"] == "coco"  # the user chose it
    with pytest.raises(
        DatasetError, match=r"found no photograph, but 3 files written by wsseg .* delete that list to use"
    ):
        discover(tmp_path / "out")
    mask(tmp_path / "masks" / "0.png", (100, 150))  # one of three is corrected: no set of true masks yet
    assert discover(tmp_path) == first
    for number in range(3):
        mask(tmp_path / "masks" / f"{number}.png", (100, 150))
    assert discover(tmp_path).data["train"]["masks"] == tmp_path / "masks"
