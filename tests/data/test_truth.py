import json
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from wsseg.data import mask_facts
from wsseg.data.config import CocoData, CocoSplit, CsvData, CsvSplit, VocData, VocSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.mask_facts import MaskMemory
from wsseg.data.orientation import turn
from wsseg.data.reading import inspect_file
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
    (csv.train.masks / "a.png").rename(csv.train.masks / "a_mask.png")
    with pytest.raises(
        DatasetError, match=r"masks: none of the 1 .* expected: a.png \(or .tif, .bmp\); found: a_mask.png"
    ):
        truth_of(csv)
    with pytest.raises(DatasetError, match="nowhere: no such folder; data.train looks for masks there"):
        truth_of(replace(csv, train=replace(csv.train, masks=csv.train.masks / "nowhere")))
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


# --- a part of the images --------------------------------------------------------------------------------------------


@pytest.fixture
def several(csv):
    """Six images, three of them with a cat; the first four have a mask."""
    rows = ["image_id,classes"]
    for n in range(6):
        PILImage.new("RGB", (3, 2), (n, n, n)).save(csv.train.images / f"{n}.png")
        rows.append(f"{n},{'cat' if n % 2 else ''}")
        if n < 4:
            PILImage.fromarray(np.array([[0, n % 2, 0], [0, 0, 0]], np.uint8)).save(csv.train.masks / f"{n}.png")
    csv.train.labels.write_text("\n".join(rows))
    return csv


def test_images_without_a_mask_are_not_judged_and_that_is_said(several):
    truth = truth_of(several)
    assert truth.ids == ["0", "1", "2", "3"]
    assert truth.notes == ["2 of 6 images have no mask and are not judged: 4, 5"]
    with pytest.raises(DatasetError, match="5: it has no true mask, and is not judged"):
        truth.mask("5")


def test_the_key_changes_with_what_is_judged(several):
    before = truth_of(several).key
    assert truth_of(several).key == before
    (several.train.masks / "2.png").unlink()
    fewer = truth_of(several).key
    PILImage.fromarray(np.zeros((2, 3), np.uint8)).save(several.train.masks / "4.png")
    assert len({before, fewer, truth_of(several).key}) == 3


def test_masks_that_cannot_be_used_stop_or_are_left_out(several):
    (several.train.masks / "0.png").write_bytes(b"no image")
    PILImage.new("L", (9, 9)).save(several.train.masks / "1.png")
    with pytest.raises(DatasetError) as refused:
        truth_of(several)
    said = str(refused.value)
    assert "the masks of 2 of 6 images cannot be used: 0 (no image" in said and "1 (the mask is (9, 9)" in said
    left = truth_of(replace(several, on_bad_image="skip"))
    assert left.ids == ["2", "3"] and "2 of 6 images have a mask that cannot be used (0 (no image" in left.notes[1]


def test_masks_with_other_suffixes(several):
    for n, suffix in enumerate((".tif", ".PNG", ".bmp")):
        PILImage.open(several.train.masks / f"{n}.png").save(several.train.masks / f"{n}{suffix}")
        (several.train.masks / f"{n}.png").unlink()
    assert truth_of(several).ids == ["0", "1", "2", "3"]


def test_masks_are_compared_with_the_labels(several):
    for n in range(4):
        PILImage.fromarray(np.array([[0, 255 * (n % 2), 0], [0, 0, 0]], np.uint8)).save(
            several.train.masks / f"{n}.png"
        )
    with pytest.raises(DatasetError, match="masks: 2 of 2 labelled images have a mask of 0 and 255 only"):
        truth_of(several)
    for n in range(4):
        PILImage.fromarray(np.full((2, 3), 2, np.uint8)).save(several.train.masks / f"{n}.png")
    with pytest.raises(
        DatasetError, match=r"contradict the labels: 0 \(no label, a mask with classes\), 1 \(other classes"
    ):
        truth_of(several)


def test_values_that_are_shifted_by_one(several):
    for n in range(4):
        PILImage.fromarray(np.array([[1, 1 + 4 * (n % 2), 4], [1, 1, 1]], np.uint8)).save(
            several.train.masks / f"{n}.png"
        )
    with pytest.raises(DatasetError, match="no mask holds 0, the background, so the values look shifted by one"):
        truth_of(several)


def test_each_mask_is_counted_once(several, tmp_path, monkeypatch):
    counted = []
    facts = mask_facts.facts_of
    monkeypatch.setattr(mask_facts, "facts_of", lambda path, sha: counted.append(path.name) or facts(path, sha))

    def load():
        counted.clear()
        memory = FileMemory(tmp_path / "files.sqlite")
        truth = load_truth(several, load_images(several, "train", memory), memory)
        return truth.key, sorted(counted)

    key, read = load()
    assert read == ["0.png", "1.png", "2.png", "3.png"]
    assert load() == (key, [])
    PILImage.fromarray(np.array([[0, 1, 1], [0, 0, 0]], np.uint8)).save(several.train.masks / "1.png")
    assert load()[1] == ["1.png"]


# --- COCO ------------------------------------------------------------------------------------------------------------

BOX = {"bbox": [4, 1, 3, 2]}
OUTLINE = {"segmentation": [[4, 1, 7, 1, 7, 3, 4, 3]]}  # columns 4..6, rows 1..2


def coco(tmp_path, *images, stored=(8, 10), declared=None, orientation=1):
    """A data set of images a, b, ..., each given by its annotations: cats if they name no category."""
    (tmp_path / "images").mkdir(exist_ok=True)
    content = {"images": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "annotations": []}
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    for number, objects in enumerate(images):
        name = f"{chr(ord('a') + number)}.png"
        PILImage.new("RGB", stored[::-1], (number, 0, 0)).save(tmp_path / "images" / name, exif=exif)
        size = {"height": declared[0], "width": declared[1]} if declared else {}
        content["images"].append({"id": number, "file_name": name, **size})
        content["annotations"] += [{"image_id": number, "category_id": 1, **o} for o in objects]
    (tmp_path / "a.json").write_text(json.dumps(content))
    return CocoData(kind="coco", train=CocoSplit(tmp_path / "images", tmp_path / "a.json"))


def drawn(size=(8, 10), value=1, box=(1, 4, 3, 7)):
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = value
    return mask


@pytest.mark.parametrize("segmentation", [{"segmentation": []}, {"segmentation": None}, {}])
def test_boxes_alone_are_labels_without_truth(tmp_path, segmentation):
    data = coco(tmp_path, [{**BOX, **segmentation}], [])
    assert not has_truth(data, "train")
    assert [len(i.class_ids) for i in load_images(data, "train", FileMemory()).items] == [1, 0]


def test_images_with_boxes_alone_are_not_judged(tmp_path):
    truth = truth_of(coco(tmp_path, [OUTLINE], [BOX], [], [{}, OUTLINE]))
    assert truth.ids == ["a", "c"]
    assert truth.notes == [
        "1 of 4 images have objects without outlines (segmentation) and are not judged: b",
        "1 of 4 images have objects with neither outline nor box and are not judged: d",
    ]
    assert np.array_equal(truth.mask("a"), drawn()) and not truth.mask("c").any()


def test_what_is_inside_the_box_of_an_object_without_outline_is_not_judged(tmp_path):
    truth = truth_of(coco(tmp_path, [OUTLINE, {"bbox": [-2, 2.5, 7, 90]}]))
    expected = drawn()
    expected[2:, :5] = 255
    assert np.array_equal(truth.mask("a"), expected)
    assert truth.notes == ["1 objects have a box and no outline: what is inside their boxes is not judged"]


def test_points_and_lines_are_left_out_and_that_is_said(tmp_path):
    truth = truth_of(coco(tmp_path, [{"segmentation": [*OUTLINE["segmentation"], [1, 1], [1, 1, 9, 7], []]}]))
    assert np.array_equal(truth.mask("a"), drawn()) and "3 polygons are points or lines" in truth.notes[0]


def test_outlines_that_cannot_be_used_stop_before_anything_is_drawn(tmp_path):
    data = coco(tmp_path, [{"segmentation": [[1, 2, float("nan"), 4, 5, 6]], "id": 5}], [OUTLINE])
    with pytest.raises(DatasetError, match=r"1 of 2 images cannot be used: a \(annotation 5: its polygon holds nan"):
        truth_of(data)
    assert truth_of(replace(data, on_bad_image="skip")).ids == ["b"]


@pytest.mark.parametrize(
    ("declared", "outline"),
    [
        ((4, 5), {"segmentation": [[2, 0.5, 3.5, 0.5, 3.5, 1.5, 2, 1.5]]}),
        ((16, 20), {"segmentation": [[8, 2, 14, 2, 14, 6, 8, 6]]}),
        ((16, 20), {"segmentation": {"size": [16, 20], "counts": [8 * 16 + 2, *[4, 12] * 5, 4, 10 + 6 * 16]}}),
        (None, {"segmentation": {"size": [8, 10], "counts": [33, 2, 6, 2, 6, 2, 29]}}),
    ],
)
def test_coordinates_of_another_scale_are_scaled(tmp_path, declared, outline):
    assert np.array_equal(truth_of(coco(tmp_path, [outline], declared=declared)).mask("a"), drawn())


@pytest.mark.parametrize("declared", [(10, 8), (8, 12), (2**30, 2**30)])
def test_sizes_of_another_shape_are_refused(tmp_path, declared):
    with pytest.raises(DatasetError, match=r"it is declared as \d+ x \d+ px \(width x height\), its image is 10 x 8"):
        truth_of(coco(tmp_path, [OUTLINE], declared=declared))


def test_fractions_of_the_image_are_no_coordinates(tmp_path):
    with pytest.raises(DatasetError, match="no polygon reaches beyond 1; expected: coordinates in px"):
        truth_of(coco(tmp_path, [{"segmentation": [[0.4, 0.1, 0.7, 0.1, 0.7, 0.4]]}], []))


def test_boxes_elsewhere_than_their_polygons_are_told(tmp_path):
    exchanged = {"segmentation": [[1, 4, 3, 4, 3, 7, 1, 7]], **BOX}
    assert "2 of 2 objects have a box" in truth_of(coco(tmp_path, [exchanged], [exchanged])).notes[0]
    assert truth_of(coco(tmp_path, [exchanged], [{**OUTLINE, **BOX}])).notes == []


@pytest.mark.parametrize("form", ["polygon", "runs", "box"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [(8, 10), (10, 10)])
@pytest.mark.parametrize("declares", [True, False])
def test_outlines_are_turned_with_their_photograph(tmp_path, form, orientation, stored, declares):
    on = drawn(stored)
    counts = coco_mask.encode(np.asfortranarray(on))["counts"].decode()
    objects = {
        "polygon": [OUTLINE],
        "runs": [{"segmentation": {"size": stored, "counts": counts}}],
        "box": [BOX, {"segmentation": [[0, 6, 2, 6, 2, 8, 0, 8]]}],
    }[form]
    data = coco(tmp_path, objects, stored=stored, declared=stored if declares else None, orientation=orientation)
    expected = turn(on, orientation).copy()
    if form == "box":
        expected[expected == 1] = 255
        expected |= turn(drawn(stored, box=(6, 0, 8, 2)), orientation)
    assert np.array_equal(truth_of(data).mask("a"), expected)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_outlines_drawn_on_the_upright_photograph_stay(tmp_path, orientation):
    data = coco(tmp_path, [OUTLINE], stored=(8, 10), declared=(10, 8), orientation=orientation)
    assert np.array_equal(truth_of(data).mask("a"), drawn((10, 8)))


def test_a_mask_that_changed_since_the_truth_was_loaded_is_refused(csv):
    truth = truth_of(csv)
    PILImage.fromarray(VALUES[::-1].copy()).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match="a.png: it has changed since this run began"):
        truth.mask("a")


def test_damaged_facts_of_masks_are_counted_again(tmp_path):
    PILImage.fromarray(VALUES).save(tmp_path / "a.png")
    file, sha256 = tmp_path / "files.sqlite", inspect_file(tmp_path / "a.png").sha256
    digests, facts = {tmp_path / "a.png": sha256}, mask_facts.facts_of(tmp_path / "a.png", sha256)
    assert MaskMemory(file).facts(digests, "counting") == {tmp_path / "a.png": facts}
    with sqlite3.connect(file) as database:
        assert database.execute("UPDATE mask SET facts = replace(facts, '[255, 1]', '[255, 6]')").rowcount == 1
    assert MaskMemory(file).facts(digests, "counting") == {tmp_path / "a.png": facts}
