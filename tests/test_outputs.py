"""Inputs and files of the user are never replaced; files that wsseg has written are replaced silently."""

import json
import os
import stat

import pytest

from wsseg.data.walk import WRITTEN, data_files, images_below
from wsseg.data.written import RECORD, outputs_among
from wsseg.errors import OutputError
from wsseg.outputs import Outputs
from wsseg.store.files import atomic_write
from wsseg.store.objects import ArtifactStore


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.PNG"):
        (folder / name).write_bytes(b"photograph")
    return folder


def files(folder):
    """Return all files by name, without the records of outputs."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# --- an output never is an input --------------------------------------------------------------------------------------


def linked(tmp_path, photos):
    (tmp_path / "link").symlink_to(photos)
    return tmp_path / "link"


def linked_below(tmp_path, photos):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(photos)
    return tmp_path / "out" / "sub"


@pytest.mark.parametrize(
    "folder",
    [
        lambda tmp_path, photos: photos,
        lambda tmp_path, photos: photos / "masks" / "deep",
        lambda tmp_path, photos: tmp_path / "elsewhere" / ".." / "photos",
        lambda tmp_path, photos: photos / "." / "new",
        linked,
        linked_below,
    ],
    ids=["equal", "inside", "dots", "dot", "link", "link_below"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mask_is_never_written_into_the_folder_of_the_photographs(tmp_path, photos, folder, overwrite):
    target = folder(tmp_path, photos) / "mask.png"
    outputs = Outputs([photos], overwrite)
    for attempt in (lambda: outputs.check([target]), lambda: outputs.write(target, b"mask")):
        with pytest.raises(OutputError, match="and become an input of the next call"):
            attempt()
    assert set(files(photos)) == {"a.png", "deep/b.PNG"}


def test_files_that_are_not_images_may_be_written_there(photos):
    outputs = Outputs([photos])
    outputs.write(photos / "mine.toml", b"config")
    outputs.write(photos / "report.html", b"page")
    assert (photos / "report.html").read_bytes() == b"page"


def test_files_beside_above_and_below_the_inputs_are_allowed(tmp_path, photos):
    outputs = Outputs([photos / "deep"])
    outputs.write(photos / "mask.png", b"mask")  # the folder above holds the input; nothing of it is read
    with pytest.raises(OutputError, match="the next call"):
        outputs.check([photos / "deep" / "mask.png"])
    one = Outputs([photos / "a.png"])
    one.write(photos / "b.png", b"mask")  # one file is read, and not its folder
    with pytest.raises(OutputError, match="is an input of this command"):
        one.check([photos / "a.png"])


@pytest.mark.parametrize("name", ["hard", "soft"])
def test_another_name_of_an_input_is_an_input(tmp_path, photos, name):
    out = tmp_path / "out"
    out.mkdir()
    if name == "hard":
        (out / "a.png").hardlink_to(photos / "a.png")
    else:  # the photograph itself has the place of the mask
        (photos / "a.png").rename(out / "a.png")
        (photos / "a.png").symlink_to(out / "a.png")
    with pytest.raises(OutputError, match="is an input of this command"):
        Outputs([photos, photos / "a.png"], overwrite=True).write(out / "a.png", b"mask")
    assert (photos / "a.png").read_bytes() == b"photograph"


def test_a_store_is_never_written_into(tmp_path, store):
    for part in ("objects/x", "work", "runs", "locks"):
        with pytest.raises(OutputError, match="is inside the store"):
            Outputs().check([store.root / part / "x.json"])
    Outputs().write(store.root / "x.json", b"{}")  # a store may be the folder that one works in


# --- the user's files -------------------------------------------------------------------------------------------------


def test_a_file_of_the_user_is_named_and_kept(tmp_path):
    mine = tmp_path / "README.md"
    mine.write_text("mine")
    outputs = Outputs()
    for attempt in (lambda: outputs.check([tmp_path / "new", mine]), lambda: outputs.write(mine, b"yours")):
        with pytest.raises(
            OutputError, match=r"README\.md exists and was not written by wsseg.*another -o.*--overwrite"
        ):
            attempt()
    assert mine.read_text() == "mine"
    Outputs(overwrite=True).write(mine, b"yours")
    assert mine.read_text() == "yours"


def test_many_files_are_counted(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.png").write_text("mine")
    with pytest.raises(OutputError, match=r"4\.png and 3 more exist and were not written"):
        Outputs().check(tmp_path / f"{number}.png" for number in range(8))


def test_a_file_of_wsseg_is_replaced_if_it_is_unchanged(tmp_path):
    target = tmp_path / "out" / "ä mask.png"
    for data in (b"one", b"two", b"one"):
        Outputs().write(target, data)
    assert target.read_bytes() == b"one"
    target.write_bytes(b"edited")
    with pytest.raises(OutputError, match="or changed since"):
        Outputs().check([target])
    target.write_bytes(b"one")
    Outputs().check([target])


def test_a_copy_of_an_output_belongs_to_the_user(tmp_path):
    Outputs().write(tmp_path / "a.png", b"one")
    (tmp_path / "b.png").write_bytes(b"one")
    with pytest.raises(OutputError):
        Outputs().check([tmp_path / "b.png"])


def test_a_file_that_appears_during_the_command_is_kept(tmp_path):
    outputs = Outputs()
    outputs.check([tmp_path / "a.png"])
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(OutputError, match="not written by wsseg"):
        outputs.write(tmp_path / "a.png", b"mask")
    assert (tmp_path / "a.png").read_text() == "mine"


def test_two_commands_at_once_leave_a_complete_file(tmp_path):
    one, other = Outputs(), Outputs()
    one.check([tmp_path / "a.png"])
    other.check([tmp_path / "a.png"])
    other.write(tmp_path / "a.png", b"other")
    one.write(tmp_path / "a.png", b"one")  # both are wsseg's
    assert files(tmp_path)["a.png"] == b"one"


@pytest.mark.parametrize("kind", ["folder", "fifo", "broken_link", "link"])
def test_a_path_that_is_not_a_regular_file_is_not_replaced(tmp_path, kind):
    target = tmp_path / "x.json"
    mine = tmp_path / "mine"
    mine.write_text("mine")
    make = {"folder": target.mkdir, "fifo": lambda: os.mkfifo(target), "broken_link": lambda: target.symlink_to("nowhere"),
            "link": lambda: target.symlink_to(mine)}  # fmt: skip
    make[kind]()
    with pytest.raises(OutputError, match=r"x\.json (is|exists)"):
        Outputs().write(target, b"x")
    if kind in ("folder", "fifo"):
        with pytest.raises(OutputError, match=r"x\.json is (a folder|not a regular file)"):
            Outputs(overwrite=True).write(target, b"x")
    else:
        Outputs(overwrite=True).write(target, b"x")
    assert mine.read_text() == "mine"


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="out is a file; expected: a folder"):
        Outputs().check([tmp_path / "out" / "deep" / "a.png"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_before_anything_is_computed(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(OutputError, match="is not writable"):
            Outputs().check([tmp_path / "new" / "a.png"])
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_read_only_folder_is_detected_by_the_system_call(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is not writable"):
        Outputs().check([tmp_path / "new" / "a.png"])


def test_a_loop_of_links_is_one_line(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(OutputError):
        Outputs().check([tmp_path / "one" / "a.png"])


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_check_leaves_the_former_file(tmp_path):
    target = tmp_path / "out" / "x.onnx"
    with Outputs().made_beside(target) as made:
        made.write_bytes(b"one")
        made.with_name("x.onnx.data").write_bytes(b"weights")
    assert files(target.parent) == {"x.onnx": b"one", "x.onnx.data": b"weights"}
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), Outputs().made_beside(target) as made:
            made.write_bytes(b"half")
            raise error
    assert files(target.parent) == {"x.onnx": b"one", "x.onnx.data": b"weights"}
    with Outputs().made_beside(target) as made:
        made.write_bytes(b"two")
    assert files(target.parent)["x.onnx"] == b"two"


def test_an_accompanying_file_of_the_user_is_kept(tmp_path, store):
    (tmp_path / "x.onnx.data").write_text("mine")
    with (
        pytest.raises(OutputError, match=r"x\.onnx\.data exists"),
        Outputs().made_beside(tmp_path / "x.onnx") as made,
    ):
        made.write_bytes(b"one")
        made.with_name("x.onnx.data").write_bytes(b"weights")
    assert sorted(files(tmp_path)) == ["store/store.json", "x.onnx.data"]


def test_a_full_disk_leaves_the_former_file(tmp_path, monkeypatch):
    target = tmp_path / "out" / "x.json"
    Outputs().write(target, b"one")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        Outputs().write(target, b"two")
    assert files(target.parent) == {"x.json": b"one"}
    monkeypatch.undo()
    Outputs().write(target, b"two")


def test_a_file_of_a_killed_command_belongs_to_wsseg(tmp_path, monkeypatch):
    monkeypatch.setattr("wsseg.outputs.atomic_write", lambda path, data: (atomic_write(path, data), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        Outputs().write(tmp_path / "a.png", b"one")
    monkeypatch.undo()
    Outputs().write(tmp_path / "a.png", b"two")


def test_a_damaged_line_of_the_record_affects_no_other_line(tmp_path):
    for name in ("a", "b"):
        Outputs().write(tmp_path / name, b"one")
    path = tmp_path / RECORD
    path.write_bytes(b"\xff\x00 junk\n\n" + path.read_bytes() + b'\n0123 "half a li')  # the last write did not finish
    Outputs().write(tmp_path / "c", b"one")
    Outputs().check([tmp_path / name for name in "abc"])
    path.unlink()
    with pytest.raises(OutputError):
        Outputs().check([tmp_path / "a"])


def test_without_a_record_there_is_a_warning_and_the_file_is_written(tmp_path, caplog):
    (tmp_path / RECORD).mkdir()
    with caplog.at_level("WARNING"):
        Outputs().write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one" and "will require --overwrite" in caplog.text


def test_outputs_may_be_moved(tmp_path):
    Outputs().write(tmp_path / "before" / "a.png", b"one")
    (tmp_path / "before").rename(tmp_path / "after")
    Outputs().write(tmp_path / "after" / "a.png", b"two")


def test_the_record_is_plain_text(tmp_path):
    Outputs().write(tmp_path / 'a "b"', b"one")
    digest, _, name = (tmp_path / RECORD).read_text().strip().partition(" ")
    assert len(digest) == 64 and json.loads(name) == 'a "b"'


def test_many_files_are_recorded_once(tmp_path):
    """Equal content adds no line, so that a record does not grow with each command."""
    for _ in range(3):
        outputs = Outputs()
        for number in range(5):
            outputs.write(tmp_path / f"{number}.png", b"one")
    assert len((tmp_path / RECORD).read_text().split()) == 10


# --- outputs among the user's files -----------------------------------------------------------------------------------


def test_an_output_is_never_read_as_a_photograph_or_as_a_label_file(tmp_path, photos):
    """A single photograph is segmented into its own folder; the folder is not an input of that command."""
    for name in ("mask.png", "labels.json"):
        Outputs([photos / "a.png"]).write(photos / name, b"output")
    skipped = []
    assert sorted(path.name for path in images_below(photos, skipped)) == ["a.png", "b.PNG"]
    assert skipped == [(photos / "mask.png", WRITTEN)]
    assert [path.name for path in data_files(photos)] == ["a.png"]
    for name in ("mask.png", "labels.json"):
        (photos / name).write_bytes(b"corrected")  # labels and true masks now, but no photograph
    assert sorted(path.name for path in images_below(photos, skipped)) == ["a.png", "b.PNG"]
    assert [path.name for path in data_files(photos)] == ["a.png", "labels.json", "mask.png"]


def test_a_data_set_is_read(tmp_path):
    Outputs(as_data=True).write(tmp_path / "images" / "a.png", b"photograph")
    assert [path.name for path in images_below(tmp_path, [])] == ["a.png"]
    with pytest.raises(OutputError, match="not written by wsseg"):
        Outputs(as_data=True).check([tmp_path / "images" / "a.png"])


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
def test_what_took_the_place_of_an_output_is_not_an_output(tmp_path, kind):
    target = tmp_path / "out" / "x.json"
    Outputs().write(target, b"one")
    target.rename(tmp_path / "moved")
    make = {"link": lambda: target.symlink_to(tmp_path / "moved"), "fifo": lambda: os.mkfifo(target), "folder": target.mkdir,
            "missing": lambda: None}  # fmt: skip
    make[kind]()
    assert outputs_among(target.parent, [target.name]) == []
