"""True masks from image files."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.data.truth.loaded import truth_of
from wsseg.data.config import CsvData, CsvSplit, VocData, VocSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.truth.loading import has_truth, load_truth
from wsseg.errors import DatasetError

VALUES = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)


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


def test_error_messages(csv):
    PILImage.fromarray(VALUES + 3).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match=r"values \[4, 5, 6\] are not class ids; expected: 0, 1, 2, 3, 255"):
        truth_of(csv).mask("a")
    PILImage.fromarray(VALUES.T.copy()).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match=r"the mask is \(3, 2\) \(H, W\), its image \(2, 3\)"):
        truth_of(csv).mask("a")
    (csv.train.masks / "a.png").rename(csv.train.masks / "a_mask.png")
    with pytest.raises(
        DatasetError, match=r"masks: none of the 1 .* expected: a.png \(or .tif, .bmp\); found: a_mask.png"
    ):
        truth_of(csv)
    with pytest.raises(DatasetError, match="nowhere: no such folder; it should hold the masks of data.train"):
        truth_of(replace(csv, train=replace(csv.train, masks=csv.train.masks / "nowhere")))
    without = replace(csv, train=replace(csv.train, masks=None))
    assert not has_truth(without, "train")
    with pytest.raises(DatasetError, match="the config names no masks"):
        truth_of(without)


@pytest.mark.parametrize("upright", [True, False])
def test_a_mask_is_turned_with_its_photograph_unless_it_was_drawn_upright(csv, upright):
    exif = PILImage.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    PILImage.new("RGB", (3, 2)).save(csv.train.images / "a.png", exif=exif)
    shown = np.rot90(VALUES, -1)
    PILImage.fromarray(shown if upright else VALUES).save(csv.train.masks / "a.png")
    assert np.array_equal(truth_of(csv).mask("a"), shown)


def test_palette_masks_of_voc(tmp_path):
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


def test_a_mask_that_changed_since_the_truth_was_loaded_is_refused(csv):
    truth = truth_of(csv)
    PILImage.fromarray(VALUES[::-1].copy()).save(csv.train.masks / "a.png")
    with pytest.raises(DatasetError, match="a.png: it has changed since this run started"):
        truth.mask("a")


# --- several images, some without a mask ------------------------------------------------------------------------------


@pytest.fixture
def several(csv):
    """Return six images, three of them with a cat; the first four have a mask."""
    rows = ["image_id,classes"]
    for n in range(6):
        PILImage.new("RGB", (3, 2), (n, n, n)).save(csv.train.images / f"{n}.png")
        rows.append(f"{n},{'cat' if n % 2 else ''}")
        if n < 4:
            PILImage.fromarray(np.array([[0, n % 2, 0], [0, 0, 0]], np.uint8)).save(csv.train.masks / f"{n}.png")
    csv.train.labels.write_text("\n".join(rows))
    return csv


def test_images_without_a_mask_are_not_judged(several):
    truth = truth_of(several)
    assert truth.ids == ["0", "1", "2", "3"]
    assert truth.notes == ["2 of 6 images have no mask and are not evaluated: 4, 5"]
    with pytest.raises(DatasetError, match="5: the image has no true mask and is not evaluated"):
        truth.mask("5")


def test_the_key_changes_with_what_is_judged(several):
    before = truth_of(several).key
    assert truth_of(several).key == before
    (several.train.masks / "2.png").unlink()
    fewer = truth_of(several).key
    PILImage.fromarray(np.zeros((2, 3), np.uint8)).save(several.train.masks / "4.png")
    assert len({before, fewer, truth_of(several).key}) == 3


def test_masks_that_cannot_be_used_are_refused_or_left_out(several):
    (several.train.masks / "0.png").write_bytes(b"no image")
    PILImage.new("L", (9, 9)).save(several.train.masks / "1.png")
    with pytest.raises(DatasetError) as refused:
        truth_of(several)
    message = str(refused.value)
    assert "the masks of 2 of 6 images cannot be used: 0 (not an image" in message
    assert "1 (the mask is (9, 9)" in message
    left = truth_of(replace(several, on_bad_image="skip"))
    assert left.ids == ["2", "3"] and "2 of 6 images have a mask that cannot be used (0 (not an image" in left.notes[1]


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
        DatasetError, match=r"contradict the labels: 0 \(no label, but a mask with classes\), 1 \(other classes"
    ):
        truth_of(several)


def test_values_shifted_by_one_are_named(several):
    for n in range(4):
        PILImage.fromarray(np.array([[1, 1 + 4 * (n % 2), 4], [1, 1, 1]], np.uint8)).save(
            several.train.masks / f"{n}.png"
        )
    with pytest.raises(DatasetError, match="no mask contains 0, the background, so the values may be shifted by one"):
        truth_of(several)


# --- masks of colours ------------------------------------------------------------------------------------------------

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred car:128,0,0::\ntree:0,128,0::\nroad:7,7,7::\n"
COLORS = np.array([[[0, 0, 0], [128, 0, 0]], [[0, 128, 0], [7, 7, 7]]], np.uint8)


@pytest.fixture
def cvat(tmp_path):
    """Return a devkit of one image, as CVAT exports it."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    PILImage.new("RGB", (2, 2)).save(tmp_path / "JPEGImages" / "a.jpg")
    PILImage.fromarray(COLORS).save(tmp_path / "SegmentationClass" / "a.png")
    (tmp_path / "ImageSets" / "Segmentation" / "default.txt").write_text("a\n")
    (tmp_path / "labels.csv").write_text("image_id,classes\na,tree road\n")
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    return VocData(kind="voc", root=tmp_path, train=VocSplit("default"), labels=tmp_path / "labels.csv")


def test_colours_are_translated_by_the_label_map(cvat):
    truth = truth_of(cvat)
    assert truth.classes.names == ("red car", "tree", "road")
    assert truth.mask("a").tolist() == [[0, 1], [2, 3]]
    assert truth_of(replace(cvat, classes=("road", "tree"))).mask("a").tolist() == [[0, 255], [2, 1]]


def test_a_grey_colour_of_the_label_map_is_a_colour(cvat):
    PILImage.new("RGB", (2, 2), (7, 7, 7)).save(cvat.root / "SegmentationClass" / "a.png")
    assert (truth_of(cvat).mask("a") == 3).all()


def test_palette_masks_beside_a_label_map_keep_their_values(cvat):
    for image in (PILImage.fromarray(np.array([[0, 1], [2, 3]], np.uint8)), PILImage.new("RGB", (2, 2), (2, 2, 2))):
        image.save(cvat.root / "SegmentationClass" / "a.png")
        assert np.array_equal(truth_of(cvat).mask("a"), np.asarray(image).reshape(2, 2, -1)[..., 0])


def test_colours_that_the_label_map_does_not_state_are_named_in_one_line(cvat):
    odd = COLORS.copy()
    odd[0, 0], odd[0, 1] = (1, 2, 3), (224, 224, 192)
    PILImage.fromarray(odd).save(cvat.root / "SegmentationClass" / "a.png")
    message = (
        r"a \(a mask of colours \(mode RGB\); its colours 1,2,3, 224,224,192 \(R,G,B\) are not .* in labelmap\.txt"
    )
    with pytest.raises(DatasetError, match=message):
        truth_of(cvat)
    (cvat.root / "labelmap.txt").write_text(LABEL_MAP.replace("0,128,0", "128,0,0"))  # two classes of one colour
    PILImage.fromarray(COLORS).save(cvat.root / "SegmentationClass" / "a.png")
    with pytest.raises(DatasetError, match="its colours 0,128,0, 128,0,0 "):
        truth_of(cvat)


def test_the_key_depends_on_the_colours(cvat, tmp_path):
    def load():
        memory = FileMemory(tmp_path / "files.sqlite")
        return load_truth(cvat, load_images(cvat, "train", memory), memory)

    before = load()
    exchanged = LABEL_MAP.replace("0,128,0", "x").replace("7,7,7", "0,128,0").replace("x", "7,7,7")
    (tmp_path / "labelmap.txt").write_text(exchanged)
    after = load()
    assert before.mask("a").tolist() == [[0, 1], [2, 3]] and after.mask("a").tolist() == [[0, 1], [3, 2]]
    assert before.key != after.key
