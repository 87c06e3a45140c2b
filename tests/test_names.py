import unicodedata

import pytest

from wsseg.errors import DatasetError
from wsseg.names import check_id, printable


@pytest.mark.parametrize(
    ("item_id", "why"),
    [
        ("../x", r"it contains the part '\.\.'"), ("a/../b", r"it contains the part '\.\.'"), ("a/./b", r"it contains the part '\.'"),
        ("a//b", "it contains the part ''"), ("a/", "it contains the part ''"), ("", "it is empty"), ("/x", "an absolute path"),
        ("a\\b", "a backslash"), ("C:/x", "a drive"), ("c:", "a drive"), ("x" * 300, "longer than 240 bytes"),
        ("é" * 130, "longer than 240 bytes"), ("a\nb", r"U\+000A \(a control character\)"), ("a\x00", r"U\+0000"),
        ("a\u200bb", r"U\+200B \(ZERO WIDTH SPACE\)"), ("a\u2028b", r"U\+2028 \(LINE SEPARATOR\)"),
        ("right\u200fleft", r"U\+200F \(RIGHT-TO-LEFT MARK\)"), ("over\u202eride", r"U\+202E"),
        ("caf\udce9", "the byte 0xE9, which is not UTF-8"), ("\ud800lone", r"U\+D800"),
    ],
)  # fmt: skip
def test_a_refused_id_gives_the_reason(item_id, why):
    with pytest.raises(DatasetError, match=f"^labels.csv: .* cannot be an image id: .*{why}") as excinfo:
        check_id(item_id, "labels.csv")
    assert str(excinfo.value).isprintable()


@pytest.mark.parametrize(
    "item_id",
    [
        "2007_000129", "a/b c/d", "Straße", "日本", "defect: red/a0", "12:30", "Screenshot at 3.04.05\u202fPM", "a\u00a0b",
        "👩\u200d🔬", "می\u200cخواهم", "a0.", ".hidden", "on a share \uf022",
    ],
)  # fmt: skip
def test_usual_ids_are_accepted(item_id):
    assert check_id(item_id, "labels.csv") == item_id


def test_composed_and_decomposed_names_give_the_same_id():
    assert check_id(unicodedata.normalize("NFD", "café/Å"), "here") == unicodedata.normalize("NFC", "café/Å")


def test_printable_names_are_escaped():
    assert printable("café") == "café"
    assert printable("a\nb\udcff") == r"a\nb\udcff"
