"""Corrected labels in a file of their own: what the file may hold, and what it changes."""

from dataclasses import replace

import pytest

from tests.data.generated import labels_of, load
from wsseg.config import parse_table, plain
from wsseg.data.config import CsvData, DemoData, DemoSplit, input_paths
from wsseg.data.demo import demo_data
from wsseg.errors import DatasetError
from wsseg.labels import ClassMap


@pytest.fixture
def overlaid(csv, tmp_path):
    """Return a function that gives the data set an overlay with some content."""

    def with_overlay(text):
        (tmp_path / "overlay.csv").write_text(text, encoding="utf-8")
        return replace(csv, train=replace(csv.train, label_overlay=tmp_path / "overlay.csv"))

    return with_overlay


def test_decisions_add_and_remove_labels_and_leave_the_users_file(csv, overlaid, caplog):
    caplog.set_level("INFO", "wsseg")
    before = csv.train.labels.read_bytes()
    data = overlaid("image,class,present\na,cat,1\nsub/c,dog,0\nsub/c,cat,1\nb,dog,\n")
    assert labels_of(load(data)) == {"a": ("cat", "dog"), "b": (), "sub/c": ("cat",)}
    assert csv.train.labels.read_bytes() == before
    assert "overlay.csv: 1 label added, 1 removed" in caplog.text


def test_the_fingerprint_changes_only_with_the_labels(csv, overlaid):
    key = load(csv).key
    assert load(overlaid("image,class,present\na,dog,1\nb,dog,0\na,cat,\n")).key == key
    assert load(overlaid("image,class,present\na,cat,1\n")).key != key
    assert "label_overlay" not in plain(csv)["train"]  # the record of a run without an overlay stays the same


def test_a_label_table_that_says_the_same_gives_the_same_fingerprint(csv, overlaid):
    key = load(overlaid("image,class,present\na,cat,1\na,dog,0\n")).key
    csv.train.labels.write_text("image_id,classes\nsub/c,cat dog\na,cat\nb,\n")
    assert load(csv).key == key


@pytest.mark.parametrize("text", [
    "present;image;why;class\n1;a.png;\"small; pale\";cat\n\n", "\ufeffImage,CLASS,Present\r\n a , cat , 1 \r\n",
    "\"image\"\t\"class\"\t\"present\"\t\"doubt\"\na\tcat\t1\t0.9\n",
])  # fmt: skip
def test_other_columns_and_delimiters_of_spreadsheets_are_read(overlaid, text):
    assert labels_of(load(overlaid(text)))["a"] == ("cat", "dog")


@pytest.mark.parametrize(("text", "message"), [
    ("image_id,classes\na,cat\n", "line 1: found 'image_id,classes'; expected the columns image, class, present"),
    ("image,class,present\na,cat,yes\n", "line 2: present: found 'yes'; expected 1, 0 or an empty cell"),
    ("image,class,present\n\na,cat\n", "line 3: found 2 fields; expected 3"),
    ("image,class,present\nd,cat,1\n", "line 2: 'd' is no labelled image of this split"),
    ("image,class,present\nsub/d,cat,1\n", "did you mean 'sub/c'"),
    ("image,class,present\n../a,cat,1\n", "line 2: '../a' cannot be an image id"),
    ("image,class,present\na,cta,1\n", "classes that the data set does not have: cta; it has cat, dog; did you mean 'cat'"),
    ("image,class,present\na,cat,1\na.png,cat,0\n", "line 3: 'a.png' and 'cat' are decided twice"),
    ("image,class,present\n\"a,cat,1\n", "line 2: unexpected end of data"),
])  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(overlaid, text, message):
    with pytest.raises(DatasetError) as caught:
        load(overlaid(text))
    assert message in str(caught.value) and "overlay.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_overlay_is_named(csv, tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.csv: cannot be read"):
        load(replace(csv, train=replace(csv.train, label_overlay=tmp_path / "nowhere.csv")))


def test_val_may_name_a_class_that_only_train_has(csv, overlaid, tmp_path):
    (tmp_path / "val.csv").write_text("image_id,classes\na,dog\nb,dog\n")
    part = replace(overlaid("image,class,present\nb,cat,1\n").train, labels=tmp_path / "val.csv")
    images = load(replace(csv, val=part), "val", ClassMap(("cat", "dog")))
    assert labels_of(images) == {"a": ("dog",), "b": ("cat", "dog")}


def test_labels_without_image_stay_what_they_are(csv, overlaid):
    csv.train.labels.write_text("image_id,classes\nsub/c,cat dog\na,dog\nb,\ngone,dog\n")
    data = replace(overlaid("image,class,present\ngone,cat,1\n"), on_bad_image="skip")
    assert load(data).skipped == {"gone": "no image file"}


def test_the_overlay_is_an_input_relative_to_the_config(tmp_path):
    table = {"kind": "csv", "train": {"images": "images", "labels": "labels.csv", "label_overlay": "fixes.csv"}}
    data = parse_table(CsvData, table, "data", tmp_path / "mine.toml")
    assert data.train.label_overlay == tmp_path / "fixes.csv" and tmp_path / "fixes.csv" in input_paths(data)


def test_generated_data_takes_an_overlay(tmp_path):
    (tmp_path / "fixes.csv").write_text("image,class,present\n00000,fur_bar,1\n00000,brick_disc,0\n")
    data = DemoData(kind="demo", train=DemoSplit(2, label_overlay=tmp_path / "fixes.csv"), size=64)
    labels = labels_of(load(demo_data(data, tmp_path)))["00000"]
    assert "fur_bar" in labels and "brick_disc" not in labels
