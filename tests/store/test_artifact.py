"""Reads of an artifact: verified, and never outside its folder."""

import hashlib

import pytest

from tests.store.makers import forge_artifact, make_artifact
from wsseg.errors import ArtifactError


def test_an_artifact_returns_the_files_that_were_written(store):
    artifact = make_artifact(store)
    assert artifact.kind == "seeds"
    assert artifact.ids("seeds", ".png") == ["one", "two"]
    assert artifact.read_bytes("seeds/two.png") == b"2"
    assert store.get("b" * 64) is None
    with pytest.raises(ArtifactError, match="has no file"):
        artifact.read_bytes("seeds/three.png")


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_file_is_not_read(store, damage):
    artifact = make_artifact(store)
    path = artifact.folder / "seeds" / "one.png"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert artifact.damaged_files() == ["seeds/one.png"]
    with pytest.raises(ArtifactError, match=r"one\.png is missing or damaged.*--repair"):
        artifact.read_bytes("seeds/one.png")
    assert artifact.read_bytes("seeds/two.png") == b"2"


@pytest.mark.parametrize("name", ["manifest.json", "files.txt"])
def test_damaged_metadata_is_not_used(store, name):
    folder = make_artifact(store).folder
    text = (folder / name).read_text()
    changed = text.replace('"kind"', '"kinds"') if name == "manifest.json" else text.replace(text[:64], "0" * 64)
    assert changed != text
    (folder / name).write_text(changed)
    with pytest.raises(ArtifactError, match="damaged"):
        store.get("a" * 64).read_bytes("seeds/one.png")


OUTSIDE = [
    "../../../mine.txt",
    "seeds/../../../../mine.txt",
    "{mine}",
    "seeds//one.png",
    ".",
    "..",
    "a/..",
    "a/./b",
    "a/",
    "a\\b",
    "a\rb",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_artifact_is_refused_and_its_target_is_neither_read_nor_removed(store, tmp_path, name):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    line = f"{hashlib.sha256(b'other').hexdigest()} 5 {name.format(mine=mine)}\n".encode()
    forge_artifact(store, table=line)
    artifact = store.get("a" * 64)
    with pytest.raises(ArtifactError, match=r"files\.txt: a line is not .*stays in its folder"):
        artifact.read_bytes(name)
    assert artifact.damaged_files() == ["files.txt"]
    store.reopen("a" * 64)
    assert mine.read_text() == "mine" and store.get("a" * 64) is None
