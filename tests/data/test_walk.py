"""Data among the files that file managers, notebooks, NAS boxes, phones and wsseg itself leave in folders."""

import os

import pytest

from wsseg.data.walk import data_files, data_folders, folders_below, images_below, skipped_line
from wsseg.errors import DatasetError
from wsseg.store.objects import ArtifactStore


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def walked(root, without=()):
    """Return the paths of the images, and the reasons of skipped paths by name."""
    skipped = []
    images = sorted(p.relative_to(root).as_posix() for p in images_below(root, skipped, without))
    return images, {path.name: why for path, why in skipped}


@pytest.mark.parametrize(
    "litter",
    [
        ".ipynb_checkpoints/a.jpg", ".git/a.png", ".thumbnails/a.jpg", "@eaDir/a.jpg/SYNOPHOTO.jpg", "__MACOSX/a.jpg",
        "#recycle/a.jpg", "$RECYCLE.BIN/a.jpg", "lost+found/a.jpg", "sub/._a.jpg", "._a.jpg", ".partial-7-a.png",
        ".trashed-17-a.jpg", "Thumbs.db", "sub/desktop.ini", ".DS_Store",
    ],
)  # fmt: skip
def test_files_of_systems_are_ignored_without_a_message(tmp_path, litter):
    write(tmp_path, "red/a.jpg", litter)
    assert walked(tmp_path) == (["red/a.jpg"], {})
    assert litter.split("/")[0] not in [p.name for p in data_folders(tmp_path)] or litter.startswith("sub/")


def test_stores_artifacts_and_virtual_environments_are_never_data(tmp_path):
    write(tmp_path, "red/a.jpg", "venv/pyvenv.cfg", "venv/lib/logo.png")
    ArtifactStore(tmp_path / "any name")
    write(tmp_path / "any name", "objects/k/masks/a.png", "data/demo/a.png")
    write(tmp_path, "copied/manifest.json", "copied/files.txt", "copied/masks/a.png")
    assert walked(tmp_path) == (["red/a.jpg"], {})
    assert [p.name for p in data_folders(tmp_path)] == ["red"]
    assert [p.name for p in folders_below(tmp_path, 3)] == [tmp_path.name, "red"]
    assert walked(tmp_path / "copied")[0] == ["masks/a.png"]  # a folder that the caller names is searched


def test_a_store_in_the_folder_of_photographs_is_ignored(tmp_path):
    write(tmp_path, "red/a.jpg")
    ArtifactStore(tmp_path)
    write(tmp_path, "objects/k/masks/a.png", "work/k/a.png", "data/demo/a.png")
    assert walked(tmp_path) == (["red/a.jpg"], {})
    assert [p.name for p in data_folders(tmp_path)] == ["red"]


def test_possible_images_are_skipped_with_a_reason(tmp_path):
    write(tmp_path, "a.JPG", "b.heic", "c.GIF", "d", ".jpg", "labels.csv", "a.xml", "README", ".hidden.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "linked.jpg").symlink_to("a.JPG")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.png")
    images, reasons = walked(tmp_path)
    assert images == [".hidden.jpg", "a.JPG", "linked.jpg"]
    assert reasons == {
        "b.heic": ".heic is not supported",
        "c.GIF": ".GIF is not supported",
        "d": "a name without suffix is not supported",
        ".jpg": "no name before the suffix",
        "broken.jpg": "a broken link",
        "itself.jpg": "a broken link",
        "loop": "a linked folder",
        "pipe.png": "not a regular file",
    }


def test_the_line_counts_skipped_files_by_reason(tmp_path):
    skipped = [(tmp_path / f"{i}.heic", ".heic is not supported") for i in range(5)] + [
        (tmp_path / "b\n", "a broken link")
    ]
    assert skipped_line(skipped) == (
        "6 files or folders are skipped: .heic is not supported (5: 0.heic, 1.heic, 2.heic, ...); "
        r"a broken link (1: b\n); convert photographs among them to JPEG or PNG"
    )


def test_a_linked_class_folder_counts_unless_it_is_a_loop(tmp_path):
    write(tmp_path, "photos/red/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "photos" / "blue").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "twice").symlink_to(tmp_path / "photos" / "red")
    (tmp_path / "photos" / "up").symlink_to(tmp_path)
    skipped = []
    assert [p.name for p in data_folders(tmp_path / "photos", skipped)] == ["blue", "red"]
    assert [p.name for p, _ in skipped] == ["twice", "up"]


def test_excluded_folders_are_not_searched(tmp_path):
    write(tmp_path, "a.jpg", "masks/a.png", "sub/b.jpg")
    assert walked(tmp_path, {(tmp_path / "masks").resolve()})[0] == ["a.jpg", "sub/b.jpg"]


def test_a_folder_that_cannot_be_listed_is_skipped_or_refused(tmp_path, monkeypatch):
    write(tmp_path, "a.jpg", "closed/b.jpg")
    listed = os.scandir

    def closed(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", closed)
    assert walked(tmp_path) == (["a.jpg"], {"closed": "cannot be listed: Permission denied"})
    with pytest.raises(DatasetError, match="closed: cannot be listed: Permission denied"):
        data_files(tmp_path / "closed")


def test_depth(tmp_path):
    write(tmp_path, "1/2/3/a.jpg")
    assert [p.name for p in folders_below(tmp_path, 2)] == [tmp_path.name, "1", "2"]
    assert [p.name for p in folders_below(tmp_path, 0)] == [tmp_path.name]


def test_a_link_to_a_device_is_not_a_broken_link(tmp_path):
    (tmp_path / "x.png").symlink_to("/dev/null")
    skipped = []
    assert data_files(tmp_path, skipped) == [] and skipped == [(tmp_path / "x.png", "not a regular file")]
