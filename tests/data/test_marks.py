"""Marks: what a folder of partial masks says, and which marks are refused."""

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.check import check_data
from wsseg.data.config import CsvData, CsvSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.marks import Marks, mark_files, negative
from wsseg.data.masks import encode_mask
from wsseg.errors import ConfigError, DatasetError
from wsseg.labels import ClassMap
from wsseg.running.sources import Sources
from wsseg.store.objects import ArtifactStore

SIZE = (48, 64)  # of the images of `csv_data`: 000 and 003 show red (1), 001 blue (2), 002 none


def mark_of(*regions, size=SIZE):
    """Return a mark with (value, rows, columns) regions."""
    mask = np.full(size, 255, np.uint8)
    for value, rows, columns in regions:
        mask[slice(*rows), slice(*columns)] = value
    return mask


STROKE = mark_of((1, (4, 8), (10, 30)), (0, (40, 44), (0, 64)))


@pytest.fixture
def write(csv_data):
    """Return a function that writes marks by id and returns the sources of the config."""
    root = csv_data.parent / "data"
    (root / "marks").mkdir()

    def written(masks=(), **changes):
        for name, mask in dict(masks).items():
            path = root / "marks" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_mask(mask))
        split = {"images": root / "train" / "images", "labels": root / "train" / "labels.csv", "marks": root / "marks"}
        train = CsvSplit(**(split | changes))
        val = CsvSplit(images=root / "val" / "images", labels=root / "val" / "labels.csv")
        data = CsvData(kind="csv", classes=("red", "blue"), train=train, val=val)
        return Sources(data, ArtifactStore(csv_data.parent / "store"))

    return written


def test_a_mark_says_something_of_some_pixels(write):
    marks = write({"000": STROKE, "002": mark_of()}).get("marks.train")
    assert marks.ids == ["000"]  # nothing is said of 002
    assert (marks.mask("000") == STROKE).all()
    assert (marks.mask("005") == 255).all() and marks.mask("005").shape == SIZE


def test_the_key_depends_on_what_is_said_and_on_nothing_else(write, csv_data):
    none = write().get("marks.train").key
    first = write({"000": STROKE}).get("marks.train").key
    assert none == "" != first
    path = csv_data.parent / "data" / "marks" / "000.png"
    PILImage.open(path).save(path, compress_level=0)  # other bytes, the same mark
    assert write({"001": mark_of()}).get("marks.train").key == first
    assert write({"001": STROKE}).get("marks.train").key != first


def test_the_negative_part_leaves_out_what_only_says_where_a_class_is():
    """With one class, a stroke on it denies nothing; with two, it denies the other one."""
    assert np.unique(negative(STROKE, [1])).tolist() == [0, 255]
    assert np.unique(negative(STROKE, [1, 2])).tolist() == [0, 1, 255]
    assert np.unique(negative(STROKE, [2])).tolist() == [0, 1, 255]


def test_a_positive_stroke_does_not_change_the_negative_key(write):
    sources = write({"000": mark_of((0, (0, 4), (0, 4)))})
    before = sources.get("marks.train")
    after = write({"000": mark_of((0, (0, 4), (0, 4)), (1, (9, 20), (9, 20))), "003": mark_of((1, (9, 20), (9, 20)))})
    assert after.get("marks.train").key_of("negative") == before.key_of("negative") != ""
    assert after.get("marks.train").key_of("all") == after.get("marks.train").key != before.key
    assert before.key_of("none") == ""


def test_values_are_mapped_by_the_names_beside_them(write, csv_data):
    sources = write({"000": STROKE})
    (csv_data.parent / "data" / "marks" / "classes.txt").write_text("blue\nred\n")
    assert np.unique(sources.get("marks.train").mask("000")).tolist() == [0, 2, 255]


def test_written_marks_are_read_again(write, csv_data):
    for name, data in mark_files({"000": STROKE}, ClassMap(("blue", "red"))).items():
        (csv_data.parent / "data" / "marks" / name).write_bytes(data)
    assert np.unique(write().get("marks.train").mask("000")).tolist() == [0, 2, 255]


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"000": mark_of((1, (0, 5), (0, 5)), size=(20, 30))}, r"1 mark cannot be used: 000: the mark is \(20, 30\) \(H, W\), its image \(48, 64\)"),
        ({"000": mark_of((7, (0, 5), (0, 5))), "001": mark_of((9, (0, 5), (0, 5)))}, r"2 marks cannot .*000: values \[7\] are not class ids; expected: 0, 1, 2.*001: values \[9\]"),
        ({"street/a": STROKE}, "street/a: no image of train has this name"),
        ({"000": STROKE, "zzz": STROKE, "yyy": STROKE[:9]}, "2 marks cannot be used: yyy, zzz: no image of train"),
    ],
)  # fmt: skip
def test_marks_that_cannot_be_used_are_refused_in_one_line(write, marks, message):
    with pytest.raises(DatasetError, match=message) as caught:
        write(marks).get("marks.train")
    assert "\n" not in str(caught.value)


def test_a_photograph_with_the_name_of_a_mark_is_refused(write, csv_data):
    folder = csv_data.parent / "data" / "marks"
    PILImage.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "000.jpg")
    with pytest.raises(DatasetError, match="1 mark cannot be used: 000"):
        write().get("marks.train")


def test_a_folder_that_does_not_exist_is_refused(write, csv_data):
    with pytest.raises(DatasetError, match=r"nowhere: no such folder \(data.train.marks\)"):
        write(marks=csv_data.parent / "nowhere").get("marks.train")


def test_images_of_val_cannot_be_marked(write, csv_data):
    root = csv_data.parent / "data"
    (root / "val" / "images" / "000.png").rename(root / "val" / "images" / "held.png")
    labels = root / "val" / "labels.csv"
    labels.write_text(labels.read_text().replace("000,", "held,"))
    with pytest.raises(DatasetError, match="held: an image of val, which is evaluated; only images of train"):
        write({"held": STROKE}).get("marks.train")
    (root / "marks" / "held.png").unlink()
    (root / "val" / "images" / "held.png").write_bytes((root / "train" / "images" / "000.png").read_bytes())
    with pytest.raises(DatasetError, match="000: its photograph is in val too, which is evaluated"):
        write({"000": STROKE}).get("marks.train")


def test_val_has_no_marks_in_a_config(tmp_path):
    split = CsvSplit(images=tmp_path, labels=tmp_path / "l.csv", marks=tmp_path)
    with pytest.raises(ConfigError, match="val.marks: images of val are evaluated and cannot be marked"):
        CsvData(kind="csv", train=split, val=split)


def test_marks_of_images_beyond_the_limit_are_noted(write):
    marks = write({"000": STROKE, "001": STROKE}, limit=1).get("marks.train")
    assert marks.ids == ["000"] and marks.notes == ["marks of images that are not used: 001"]


def test_a_mark_of_a_class_that_the_labels_do_not_name_is_noted(write):
    marks = write({"000": STROKE, "001": STROKE}).get("marks.train")
    assert marks.ids == ["000", "001"] and "do not name: 001; add them to the labels" in marks.notes[0]


def test_marks_below_the_folder_of_the_images_are_no_photographs(write, csv_data):
    inside = csv_data.parent / "data" / "train" / "images" / "marks"
    inside.mkdir()
    (inside / "000.png").write_bytes(encode_mask(STROKE))
    sources = write(marks=inside)
    assert len(sources.get("data.train")) == 12 and sources.get("marks.train").ids == ["000"]


def test_a_mark_is_turned_with_its_photograph(tmp_path):
    """A mark of the stored size is turned; one of the upright size is not."""
    folder = tmp_path / "images"
    folder.mkdir()
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "a.jpg", exif=exif)
    (tmp_path / "l.csv").write_text("image_id,classes\na,red\n")
    (tmp_path / "marks").mkdir()
    data = CsvData(kind="csv", train=CsvSplit(images=folder, labels=tmp_path / "l.csv", marks=tmp_path / "marks"))
    images = load_images(data, "train", FileMemory())
    stored = mark_of((1, (0, 5), (0, 30)), size=(20, 30))
    for mask in (stored, np.rot90(stored, -1)):
        (tmp_path / "marks" / "a.png").write_bytes(encode_mask(mask))
        read = Marks(tmp_path / "marks", images, FileMemory()).mask("a")
        assert (read == np.rot90(stored, -1)).all()


def test_a_run_keeps_the_marks_that_it_began_with(write, csv_data):
    marks = write({"000": STROKE}).get("marks.train")
    (csv_data.parent / "data" / "marks" / "000.png").write_bytes(encode_mask(mark_of()))
    assert (marks.mask("000") == STROKE).all()


def test_data_check_reports_marks(write, csv_data):
    def report(marks):
        return check_data(write(marks).data, FileMemory())[0]

    assert "marks: 1 image" in report({"000": STROKE}).notes
    problems = report({"001": STROKE[:9]}).problems
    assert len(problems) == 1 and "1 mark cannot be used: 001: the mark is (9, 64) (H, W)" in problems[0]
