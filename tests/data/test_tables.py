"""Label tables of people, pandas and spreadsheets are read correctly, or refused in one line."""

import os

import pytest

from wsseg.data.tables import read_label_csv
from wsseg.errors import DatasetError

PLAIN = "image_id,classes\nim0,red\nim1,blue\nim2,red blue\nim3,\n"
LABELS = {
    "im0": frozenset({"red"}),
    "im1": frozenset({"blue"}),
    "im2": frozenset({"red", "blue"}),
    "im3": frozenset(),
}


def read(tmp_path, text, separator=" ", known=(), notes=None):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_label_csv(path, separator, known, notes)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "\n,\n" + PLAIN + "\n   \n,\n",
        PLAIN.replace("image_id,classes", ' Image_ID ,"Classes"'),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace("\n", " ,,\n"),
        ",image_id,classes\n0,im0,red\n1,im1,blue\n2,im2,red blue\n3,im3,\n",
        "Unnamed: 0,classes,image_id\n0,red,im0\n1,blue,im1\n2,red blue,im2\n3,,im3\n",
        'image_id,classes\n"im0","red"\n"im1","blue\n"\n"im2", "red  blue"\n"im3",""\n',
        PLAIN.replace("red blue", "red\u00a0blue").replace("im1", "im1\u00a0").replace("im0", " im0 "),
        PLAIN.replace("im1", "./im1"),
        PLAIN.replace("im3,", "im3,nan"),
        PLAIN.replace("im3,", "im3,None"),
        PLAIN.replace("im3,", "im3,background"),
    ],
)
def test_variants_of_one_table(tmp_path, text):
    assert read(tmp_path, text) == LABELS


@pytest.mark.parametrize("separator", [",", ";", "|", ", "])
def test_separators(tmp_path, separator):
    text = f'image_id,classes\nim0,red\nim1,blue\nim2,"red{separator}blue"\nim3,\n'
    assert read(tmp_path, text, separator) == LABELS
    text = text.replace("red", "traffic light")
    assert read(tmp_path, text, separator)["im2"] == {"traffic light", "blue"}


def test_a_word_for_no_class_is_not_a_class_unless_the_config_names_it(tmp_path):
    text = PLAIN.replace("im3,", "im3,None")
    notes = []
    assert read(tmp_path, text, notes=notes)["im3"] == frozenset()
    assert len(notes) == 1 and "1 cells hold 'None', read as no class" in notes[0]
    notes = []
    assert read(tmp_path, text, known=("red", "None"), notes=notes)["im3"] == {"None"} and notes == []


@pytest.mark.parametrize(
    ("cell", "separator", "message"),
    [
        ("['red', 'blue']", " ", "line 4: found the list"),
        ('[""red"", ""blue""]', " ", "line 4: found the list"),
        ("['red' 'blue']", ",", "line 4: found the list"),
        ("{red, blue}", ",", "line 4: found the list"),
        ("('red',)", " ", "line 4: found the list"),
        ("[]", " ", "line 4: found the list"),
        ("red,blue", " ", "line 4: the class name 'red,blue' holds ','; set data.separator = ','"),
        ("red, blue", " ", "line 4: the class name 'red,' holds ','"),
        ("red;blue", " ", "holds ';'; set data.separator = ';'"),
        ("red|blue", " ", r"holds '\|'"),
        ("red，blue", " ", "holds '，'"),
        ("red,blue", "|", "holds ','; set data.separator = ','"),
        ("red\x07", " ", r"cannot be a class name: it holds U\+0007"),
    ],
)
def test_cells_that_would_silently_become_a_class_are_refused(tmp_path, cell, separator, message):
    text = PLAIN.replace("red blue", f'"{cell}"')
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text, separator)


def test_a_comma_may_be_part_of_a_name_in_the_config_or_beside_a_chosen_separator(tmp_path):
    text = 'image_id,classes\na,"tench, Tinca tinca"\nb,"shark|tench, Tinca tinca"\n'
    assert read(tmp_path, text, "|")["b"] == {"shark", "tench, Tinca tinca"}
    assert read(tmp_path, 'image_id,classes\na,"red,blue"\n', " ", known=("red,blue",))["a"] == {"red,blue"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: found ''; expected the header 'image_id,classes'"),
        ("filename,label\na,red\n", "line 1: found 'filename,label'; expected the header 'image_id,classes'"),
        ("image_id,classes,split\na,red,val\n", "and no other columns"),
        ("image_id,classes,classes\na,red,blue\n", "and no other columns"),
        ("\n\nid,classes\n", "line 3: found 'id,classes'"),
        (PLAIN + "im4,red,blue\n", "line 6: found 3 fields; expected 2: image_id,classes"),
        (PLAIN + "im4\n", "line 6: found 1 fields"),
        (PLAIN + "im0,red\n", "line 6: the image id 'im0' occurs twice; write all its classes in one row"),
        (PLAIN + "/etc/passwd,red\n", "line 6: '/etc/passwd' cannot be an image id: it is an absolute path"),
        (PLAIN + "..\\up,red\n", r"cannot be an image id: it contains the part '\.\.'"),
        (PLAIN + 'im4,"red\nim5,blue\n', "line 7: unexpected end of data"),
        (PLAIN.replace("red", "röt").encode("latin-1"), "not UTF-8 text: .*; save it as UTF-8"),
    ],
)
def test_error_messages(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message) as excinfo:
        read(tmp_path, text)
    assert "\n" not in str(excinfo.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_instead_of_a_table_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(DatasetError, match="cannot be read: it is a pipe"):
        read_label_csv(tmp_path / "labels.csv", " ")
