"""Lists, annotations and label maps of VOC devkits, as several tools write them."""

import pytest

from wsseg.data.voc import annotated_classes, label_map, listed_ids
from wsseg.errors import DatasetError

IMAGES = {"a_1", "a_2", "b c", "b c 1", "sub/d", "v1.2"}


@pytest.mark.parametrize(
    ("line", "item_id"),
    [
        ("a_1", "a_1"), ("  a_1 \r", "a_1"), ("a_1  1", "a_1"), ("a_1 -1", "a_1"), ("a_1 0", "a_1"), ("a_1.jpg", "a_1"),
        ("a_1.PNG 1", "a_1"), ("./a_1.jpg", "a_1"), ("JPEGImages/a_1.jpg", "a_1"), ("/data/VOC/JPEGImages/a_1.jpg", "a_1"),
        ("/JPEGImages/a_1.jpg /SegmentationClassAug/a_1.png", "a_1"), (r"..\JPEGImages\a_1.jpg", "a_1"),
        ("b c", "b c"), ("b c.jpg", "b c"), ("b c -1", "b c"), ("b c 1", "b c 1"), ("b c 1 1", "b c 1"),
        ("sub/d.jpeg", "sub/d"), ("v1.2", "v1.2"), ("missing", "missing"), ("missing.jpg 1", "missing"),
        ("mis sing 1", "mis sing"), ("/x/JPEGImages/missing.jpg /y/missing.png", "missing"),
    ],
)  # fmt: skip
def test_lines_of_a_list(line, item_id):
    assert listed_ids(f"{line}\n\n{line}\n", "train.txt", IMAGES) == [item_id]


def test_a_line_that_cannot_be_an_id_is_reported_with_its_number():
    with pytest.raises(DatasetError, match=r"train\.txt: line 2: '\.\./x' cannot be an image id"):
        listed_ids("a_1\n../x\n", "train.txt", IMAGES)


@pytest.mark.parametrize(
    ("difficult", "counts"), [("0", True), ("1", False), ("true", False), ("Unspecified", True), ("", True)]
)
def test_difficult_objects(tmp_path, difficult, counts):
    path = tmp_path / "a.xml"
    path.write_text(
        f"<annotation><object><name> car </name><difficult>{difficult}</difficult>"
        "<part><name>wheel</name></part></object></annotation>"
    )
    assert annotated_classes(path, difficult=False) == (frozenset({"car"}) if counts else frozenset())
    assert annotated_classes(path, difficult=True) == {"car"}


def test_a_label_map():
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n\nred car:128, 0,0:wheel,door:park\nplain:::\n"
    assert label_map(text, "labelmap.txt") == {"background": (0, 0, 0), "red car": (128, 0, 0), "plain": None}


@pytest.mark.parametrize("line", ["car", "car:1,2::", "car:1,2,300::", "a:0,0,0::\na:1,1,1::"])
def test_a_malformed_label_map_is_refused(line):
    with pytest.raises(DatasetError, match=r"labelmap\.txt: line \d: found .*; expected NAME:R,G,B::"):
        label_map(line, "labelmap.txt")
