"""The file table of an artifact: what it returns, and which tables are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.store.table import parse_table, table_text

DIGEST = "0f" * 32
PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc"]), min_size=1)
NAMES = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(NAMES, st.integers(0, 2**40)))
def test_every_line_becomes_an_entry(sizes):
    names = sorted(sizes, key=str.encode)
    text = "".join(f"{DIGEST} {sizes[name]} {name}\n" for name in names).encode()
    assert list(parse_table(text).items()) == [(name, (sizes[name], DIGEST)) for name in names]


def test_a_table_lists_size_and_digest_in_the_order_of_the_bytes_of_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two words.png").write_bytes(b"abc")
    (tmp_path / "b-side").write_bytes(b"")
    files = parse_table(table_text(tmp_path, ["b/two words.png", "b-side"]))
    assert list(files) == ["b-side", "b/two words.png"]
    assert files["b/two words.png"] == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


@pytest.mark.parametrize("before", [b"", b"%b 1 a\n"])
@pytest.mark.parametrize(
    "line",
    [b"x\n", b"x\n%b 1 z\n", b"%b 1 \xff\n", b"%b -1 z\n", b"%b 1 z", b"%b 1 ../z\n", b"%b 1 ../z\n%b 1 z\n", b"\n"],
)
def test_a_line_of_another_form_is_refused(before, line):
    text = (before + line).replace(b"%b", DIGEST.encode())
    with pytest.raises(ValueError, match=r"a line is not|can't decode"):
        parse_table(text)
