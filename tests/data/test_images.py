"""Images with labels: classes, limits, unreadable files and the fingerprint."""

from dataclasses import replace

import pytest

from tests.data.generated import load, picture
from wsseg.errors import DatasetError
from wsseg.labels import ClassMap


def test_the_config_chooses_classes_and_their_order(csv):
    images = load(replace(csv, classes=("dog",)))
    assert images.classes.names == ("dog",)
    assert [item.class_ids for item in images.items] == [(1,), (), (1,)]
    with pytest.raises(DatasetError, match="no class 'dgo'.*did you mean 'dog'"):
        load(replace(csv, classes=("dgo",)))


def test_unreadable_images_are_all_listed_or_skipped(csv):
    for name in "ab":
        (csv.train.images / f"{name}.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"2 images cannot be read: .*a\.png \(.*b\.png \(.*on_bad_image"):
        load(csv)
    images = load(replace(csv, on_bad_image="skip"))
    assert [item.id for item in images.items] == ["sub/c"] and sorted(images.skipped) == ["a", "b"]


def test_the_fingerprint_changes_with_content_labels_and_classes_only(csv, tmp_path):
    key = load(csv).key
    assert load(csv).key == key
    moved = tmp_path / "elsewhere"
    csv.train.images.rename(moved)
    csv = replace(csv, train=replace(csv.train, images=moved))
    assert load(csv).key == key  # the location of files is not part of the key
    csv.train.labels.write_text("image_id,classes\nsub/c,cat dog\na,dog\nb,dog\n")
    changed = load(csv).key
    picture(moved / "a.png", (8, 11))
    assert len({key, changed, load(csv).key, load(replace(csv, classes=("dog", "cat"))).key}) == 4


def test_skipped_files_are_logged(csv, caplog):
    (csv.train.images / "b.heic").write_bytes(b"x")
    (csv.train.images / "gone.jpg").symlink_to("nowhere")
    load(csv)
    assert "train: 2 files or folders are skipped" in caplog.text
    assert ".heic is not supported (1: b.heic)" in caplog.text and "a broken link (1: gone.jpg)" in caplog.text


def test_an_image_without_label_is_logged_and_not_used(csv, caplog):
    picture(csv.train.images / "extra.png")
    assert len(load(csv)) == 3
    assert "1 images have no label and are not used: extra" in caplog.text


def test_val_takes_the_classes_of_train(csv, tmp_path):
    (tmp_path / "val.csv").write_text("image_id,classes\na,dog\nb,bird\n")
    csv = replace(csv, val=replace(csv.train, labels=tmp_path / "val.csv"))
    with pytest.raises(DatasetError, match="val: found classes that train does not have: bird"):
        load(csv, "val", ClassMap(("cat", "dog")))


@pytest.mark.parametrize(
    ("limit", "ids"), [(0, ["a", "b", "sub/c"]), (2, ["a", "b"]), (1, ["a"]), (99, ["a", "b", "sub/c"])]
)
def test_a_limit_chooses_evenly_spaced_images(csv, limit, ids):
    assert [item.id for item in load(replace(csv, train=replace(csv.train, limit=limit))).items] == ids
