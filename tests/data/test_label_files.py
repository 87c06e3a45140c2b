"""Label files of other tools, parsed without images."""

import json

import pytest

from wsseg.data.label_files import (
    AmbiguousLabelsError,
    infer_separator,
    label_studio_labels,
    name_parts,
    read_table,
    read_xml,
    yolo_class_names,
    yolo_ids,
)
from wsseg.errors import DatasetError

RED, BLUE, BOTH, NONE = frozenset({"red"}), frozenset({"blue"}), frozenset({"red", "blue"}), frozenset()


def table(tmp_path, content, separator=None):
    path = tmp_path / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    tables = read_table(path, lambda name: (name_parts(name) or ("",))[-1] in set("abcd"), separator)
    return {
        parsed.split: {name_parts(image)[-1]: classes for image, classes in parsed.classes.items()} for parsed in tables
    }


@pytest.mark.parametrize(
    "content",
    [
        "image_id,classes\na,red\nb,blue\nc,red blue\nd,\n",
        "\ufeffImage_ID,Classes\r\na,red\r\nb,blue\r\nc,red blue\r\nd,\r\n",
        "sep=;\nimage_id;classes\na;red\nb;blue\nc;red blue\nd;\n",
        "image_id\tclasses\na\tred\nb\tblue\nc\tred blue\nd\t\n",
        "filename,label\na.jpg,red\nphotos/b.JPG,blue\nphotos\\c.png,red|blue\nd.jpg,none\n",
        ",image,labels\n0,a,red\n1,b,blue\n2,c,\"red,blue\"\n3,d,nan\n",
        "image,labels\na,['red']\nb,\"['blue']\"\nc,\"['red', 'blue']\"\nd,[]\n",
        'image,labels\na,"[""red""]"\nb,blue\nc,"{""choices"": [""red"", ""blue""]}"\nd,\n',
        "filename, red, blue\na.jpg, 1, 0\nb.jpg, 0, 1\nc.jpg, 1, 1\nd.jpg, 0, 0\n",
        "id,red,blue,width\na,1.0,0.0,640\nb,0.0,1.0,480\nc,1.0,1.0,320\nd,0.0,0.0,10\n",
        "a,red\nb,blue\nc,red\nc,blue\nd,\n",
        "file,x1,y1,x2,y2,class\na.jpg,1,2,3,4,red\nb.jpg,1,2,3,4,blue\nc.jpg,1,2,3,4,red\nc.jpg,5,6,7,8,blue\nd.jpg,,,,,\n",
        "image_id,classes\na,red\u00a0\nb,blue\u2028\nc,red\u00a0blue\nd,background\n",
        "image_id,classes,\na,red,\nb,blue,\nc,red blue,\nd,,\n\n,,\n",
        "image_id,classes\na,red\nb,blue\nc,red blue\nd,\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_tables_of_different_tools_have_the_same_meaning(tmp_path, content):
    assert table(tmp_path, content) == {"": {"a": RED, "b": BLUE, "c": BOTH, "d": NONE}}


def test_a_column_may_state_the_split(tmp_path):
    rows = "TRAIN,gs://x/a.jpg,red\nVALIDATION,gs://x/b.jpg,blue\nTEST,gs://x/c.jpg,red,blue\nUNASSIGNED,gs://x/d.jpg,red\n"
    assert table(tmp_path, rows) == {"train": {"a": RED}, "val": {"b": BLUE}, "test": {"c": BOTH}, "": {"d": RED}}


def test_text_in_windows_encoding_is_read(tmp_path):
    assert table(tmp_path, "image_id,classes\na,röt\nb,röt\n".encode("cp1252"))[""]["a"] == {"röt"}


@pytest.mark.parametrize("content", ["", "a", "x,y\n1,2\n", "\x00", "name\nvalue\n", '"', "year,month\n2020,1\n"])
def test_other_texts_are_not_tables_of_images(tmp_path, content):
    assert table(tmp_path, content) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "file,width,height\na,1,2\nb,3,4\n",
            "several columns may hold the classes; found width, height; rename the right one to 'classes'",
        ),
        ("image_id,classes\nx,red\n", "its rows name no photograph of this folder, such as 'x'"),
        ("image_id,classes\n", "no rows"),
    ],
)
def test_unusable_tables_are_refused_with_the_reason(tmp_path, content, words):
    with pytest.raises(DatasetError, match=words):
        table(tmp_path, content)


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        ({"red", "blue", "red blue"}, " "),
        ({"red blue", "blue green", "green red"}, " "),
        ({"Red", "blue", "red BLUE"}, " "),
        ({"traffic light", "car"}, "|"),
        ({"traffic light", "stop sign"}, "|"),
        ({"red car|blue", "blue"}, "|"),
        ({"red car;blue", "blue"}, ";"),
        ({"red car,blue", "blue"}, ","),
        ({"red", "blue"}, " "),
    ],
)
def test_separators_are_inferred_from_the_cells(tmp_path, cells, separator):
    assert infer_separator(tmp_path, cells, True, []) == separator


def test_an_ambiguous_separator_is_an_error_that_names_the_option(tmp_path):
    with pytest.raises(AmbiguousLabelsError, match=r"'blue car' may be one class or 2; use --separator"):
        infer_separator(tmp_path, {"red car", "blue car", "car"}, False, [])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: ['red', \"blue\"]\n", {0: "red", 1: "blue"}),
        ("nc: 2\nnames: [traffic light, car]  # two\n", {0: "traffic light", 1: "car"}),
        ("names: [\n  'red',\n  'blue',\n]\nnc: 2\n", {0: "red", 1: "blue"}),
        ("names:\n- red\n- 'blue'\nnc: 2\n", {0: "red", 1: "blue"}),
        ("names:\n  # two\n  0: red\n  3: blue # sky\ntrain: x\n", {0: "red", 3: "blue"}),
        ("names: {0: red, 1: 'blue'}\n", {0: "red", 1: "blue"}),
        ("train: x\n", {}),
    ],
)
def test_class_names_in_a_yaml(tmp_path, text, names):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    assert yolo_class_names(path) == names


@pytest.mark.parametrize(
    "text", ["names: *anchor\n", "names: [\n", "names:\n  x: y\n", "names: !!python/object:os.system []\n"]
)
def test_other_yaml_is_refused(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DatasetError, match="'names' cannot be read"):
        yolo_class_names(path)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0 0.5 0.5 0.1 0.1\n2 .5 .5 1e-1 1\n", {0, 2}),
        ("1 0.1 0.1 0.2 0.2 0.3 0.1\n", {1}),
        ("", set()),
        ("a photograph of 1 cat\n", None),
        ("0 0.5 0.5\n", None),
        ("1.5 0.5 0.5 0.1 0.1\n", None),
    ],
)
def test_yolo_lines(tmp_path, text, ids):
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert yolo_ids(path) == ids


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a",)),
        ("./x/a.JPG", ("x", "a")),
        ("C:\\x\\a.png", ("C:", "x", "a")),
        ("/data/x/a", ("data", "x", "a")),
        ("a.v2", ("a.v2",)),
        ("gs://bucket/x/a%20b.jpg", ("x", "a b")),
        ("/data/local-files/?d=x/a.jpg", ("x", "a")),
        ("http://[x/a.jpg", ("a",)),
        ("https://host/x/a.jpg?token=1#part", ("x", "a")),
        ("", ()),
    ],
)
def test_name_parts(name, parts):
    assert name_parts(name) == parts


def test_label_studio_tasks(tmp_path):
    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": [{"result": [{"value": {"choices": ["red", "blue"]}}]}]},
        {
            "data": {"image": "b.jpg"},
            "annotations": [{"was_cancelled": True, "result": [{"value": {"choices": ["red"]}}]}],
        },
        {"data": {"image": "c.jpg"}, "annotations": [{"result": []}]},
        {"image": "d.jpg", "choice": "red"},
        {"image": "e.jpg", "label": [{"x": 1, "rectanglelabels": ["blue"]}]},
        {"data": {"text": "no image"}},
        7,
    ]
    parsed = label_studio_labels(tmp_path, tasks)
    assert parsed.classes == {"a.jpg": BOTH, "c.jpg": NONE, "d.jpg": RED, "e.jpg": BLUE}
    assert label_studio_labels(tmp_path, json.loads('{"a": 1}')) is None


def test_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<annotation><object><name> red </name></object><object><name/></object></annotation>")
    assert read_xml(path) == RED
    path.write_text(
        '<annotations><image name="a.jpg" subset="Train"><box label="red"/><tag label="blue"/></image></annotations>'
    )
    (parsed,) = read_xml(path)
    assert (parsed.split, parsed.classes) == ("train", {"a.jpg": BOTH})
    for text in ("<other/>", "", "<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'):
        path.write_text(text)
        assert read_xml(path) is None
