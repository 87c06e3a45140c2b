"""True masks from the outlines of a COCO file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from tests.data.truth.loaded import truth_of
from wsseg.data.config import CocoData, CocoSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.orientation import turn
from wsseg.data.truth.loading import has_truth
from wsseg.errors import DatasetError

BOX = {"bbox": [4, 1, 3, 2]}
OUTLINE = {"segmentation": [[4, 1, 7, 1, 7, 3, 4, 3]]}  # columns 4..6, rows 1..2


def coco(tmp_path, *images, stored=(8, 10), declared=None, orientation=1):
    """Return a data set of images a, b, ... from their annotations, which are cats if they state no category."""
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
def test_an_object_with_only_a_box_is_a_label_without_truth(tmp_path, segmentation):
    data = coco(tmp_path, [{**BOX, **segmentation}], [])
    assert not has_truth(data, "train")
    assert [len(i.class_ids) for i in load_images(data, "train", FileMemory()).items] == [1, 0]


def test_images_whose_objects_have_no_outline_are_not_judged(tmp_path):
    truth = truth_of(coco(tmp_path, [OUTLINE], [BOX], [], [{}, OUTLINE]))
    assert truth.ids == ["a", "c"]
    assert truth.notes == [
        "1 of 4 images have objects without outlines (segmentation) and are not evaluated: b",
        "1 of 4 images have objects with neither outline nor box and are not evaluated: d",
    ]
    assert np.array_equal(truth.mask("a"), drawn()) and not truth.mask("c").any()


def test_the_box_of_an_object_without_outline_is_not_judged(tmp_path):
    truth = truth_of(coco(tmp_path, [OUTLINE, {"bbox": [-2, 2.5, 7, 90]}]))
    expected = drawn()
    expected[2:, :5] = 255
    assert np.array_equal(truth.mask("a"), expected)
    assert truth.notes == ["1 objects have a box and no outline; the pixels inside their boxes are not evaluated"]


def test_points_and_lines_are_left_out_with_a_note(tmp_path):
    truth = truth_of(coco(tmp_path, [{"segmentation": [*OUTLINE["segmentation"], [1, 1], [1, 1, 9, 7], []]}]))
    assert np.array_equal(truth.mask("a"), drawn()) and "3 polygons are points or lines" in truth.notes[0]


def test_outlines_that_cannot_be_used_are_refused_or_left_out(tmp_path):
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
def test_declared_sizes_of_another_shape_are_refused(tmp_path, declared):
    with pytest.raises(DatasetError, match=r"it is declared as \d+ x \d+ px \(width x height\), its image is 10 x 8"):
        truth_of(coco(tmp_path, [OUTLINE], declared=declared))


def test_coordinates_that_are_fractions_of_the_image_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="all polygon coordinates are at most 1; expected coordinates in px"):
        truth_of(coco(tmp_path, [{"segmentation": [[0.4, 0.1, 0.7, 0.1, 0.7, 0.4]]}], []))


def test_boxes_that_do_not_match_their_polygons_are_noted(tmp_path):
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
def test_outlines_drawn_on_the_upright_photograph_are_not_turned(tmp_path, orientation):
    data = coco(tmp_path, [OUTLINE], stored=(8, 10), declared=(10, 8), orientation=orientation)
    assert np.array_equal(truth_of(data).mask("a"), drawn((10, 8)))


def test_polygons_runs_crowds_and_overlap(tmp_path):
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
    expected[3, 4] = 2  # the smaller object is on top, although it comes first
    expected[7] = 255
    assert np.array_equal(truth_of(data).mask("a"), expected)
