"""The store: keys, unfinished work, locks, links, formats and garbage collection."""

import json
import subprocess
import sys

import pytest

from tests.store.makers import forge_artifact, make_artifact, run_record
from wsseg.errors import ArtifactError, FormatError
from wsseg.store.artifact import CHECKPOINT, MANIFEST
from wsseg.store.files import atomic_write
from wsseg.store.objects import ArtifactStore, key_of


def test_a_key_depends_on_stage_version_config_and_inputs_only():
    key = key_of("s", 1, {"a": 1, "b": 2}, {"x": "k"})
    assert key == key_of("s", 1, {"b": 2, "a": 1}, {"x": "k"})
    others = [key_of("t", 1, {"a": 1, "b": 2}, {"x": "k"}), key_of("s", 2, {"a": 1, "b": 2}, {"x": "k"}),
              key_of("s", 1, {"a": 1, "b": 3}, {"x": "k"}), key_of("s", 1, {"a": 1, "b": 2}, {"x": "l"})]  # fmt: skip
    assert len({key, *others}) == 5


def test_half_written_files_of_a_killed_process_are_removed(store):
    work = store.open_work("a" * 64)
    (work / "seeds").mkdir()
    (work / "seeds" / ".partial-1-x.png").write_bytes(b"half")
    atomic_write(work / "seeds" / "one.png", b"1")
    assert [p.name for p in (store.open_work("a" * 64) / "seeds").iterdir()] == ["one.png"]


def test_reopen_keeps_undamaged_files(store):
    artifact = make_artifact(store)
    (artifact.folder / "seeds" / "one.png").write_bytes(b"?")
    assert store.reopen(artifact.key) == ["seeds/one.png"]
    assert store.get(artifact.key) is None
    assert [p.name for p in (store.root / "work" / artifact.key / "seeds").iterdir()] == ["two.png"]


def test_reopen_removes_all_files_if_the_digests_are_lost(store):
    artifact = make_artifact(store)
    (artifact.folder / "manifest.json").write_text("{}")
    store.reopen(artifact.key)
    assert store.get(artifact.key) is None and not store.has_work(artifact.key)


def test_a_lock_has_one_holder_and_is_released_by_an_error(store):
    other = ArtifactStore(store.root)
    with pytest.raises(ZeroDivisionError), store.lock("k") as held:
        assert held
        with other.lock("k", blocking=False) as second:
            assert not second
        raise ZeroDivisionError
    with other.lock("k", blocking=False) as held:
        assert held


def test_gc_removes_unreferenced_folders_that_no_process_works_on(store):
    kept, orphan, busy = ("a" * 64), ("b" * 64), ("c" * 64)
    for key in (kept, orphan, busy):
        make_artifact(store, key)
    store.open_work("d" * 64)
    store.save_run("run", run_record(kept))
    assert [p.name[0] for p in store.garbage()[0]] == ["b", "c", "d"]
    assert store.keys() == [kept, orphan, busy]  # listing removes nothing
    with ArtifactStore(store.root).lock(busy):
        store.collect()
    assert store.keys() == [kept, busy] and not store.has_work("d" * 64)


def test_gc_with_keep_removes_the_oldest_runs(store):
    for i, key in enumerate(("a" * 64, "b" * 64)):
        make_artifact(store, key)
        store.save_run(f"run{i}", run_record(key, started=f"2026-01-0{i + 1}"))
    store.collect(keep=1)
    assert list(store.runs()) == ["run1"] and store.keys() == ["b" * 64]


def test_a_store_that_cannot_be_created_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be used as a store.*choose --store"):
        ArtifactStore(tmp_path / "file" / "store")


def test_a_complete_artifact_has_no_checkpoint(store):
    key = "d" * 64
    atomic_write(store.open_work(key) / CHECKPOINT, b"half a training")
    artifact = make_artifact(store, key)
    assert CHECKPOINT not in artifact.files and not (artifact.folder / CHECKPOINT).exists()
    assert artifact.damaged_files() == []


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000])
def test_an_invalid_manifest_is_reported_as_damaged(store, text):
    (make_artifact(store).folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing or damaged"):
        store.get("a" * 64)


@pytest.mark.parametrize("fields", [{"kind": 5}, {"step": None}, {"metrics": []}, {"inputs": {"images": 5}}])
def test_a_manifest_without_required_fields_is_refused(store, fields):
    forge_artifact(store, **fields)
    with pytest.raises(ArtifactError, match="is not a manifest of an artifact"):
        store.get("a" * 64)


@pytest.mark.parametrize("key", ["../../mine", "", ".", "A" * 64, "a" * 63])
def test_an_invalid_key_is_never_used_as_a_path(store, key):
    with pytest.raises(ArtifactError, match="is not a key"):
        store.get(key)
    (store.root / "runs" / "run.json").write_text(json.dumps(run_record(key)))
    assert store.runs() == {}


def links_in(store, tmp_path, part):
    """Replace a part of an artifact by a link to the user's folder; returns the user's file."""
    outside = tmp_path / "photos" / "seeds" / "one.png"
    outside.parent.mkdir(parents=True)
    outside.write_bytes(b"1")
    folder = make_artifact(store).folder
    if part == "object":
        folder.rename(tmp_path / "moved")
        (tmp_path / "moved" / "seeds" / "one.png").write_bytes(b"?")
        folder.symlink_to(tmp_path / "moved")
        return tmp_path / "moved" / "seeds" / "one.png"
    if part == "folder":
        for path in (folder / "seeds").iterdir():
            path.unlink()
        (folder / "seeds").rmdir()
        (folder / "seeds").symlink_to(outside.parent)
    else:
        (folder / "seeds" / "one.png").unlink()
        (folder / "seeds" / "one.png").symlink_to(outside)
    return outside


@pytest.mark.parametrize("part", ["object", "folder", "file"])
def test_a_link_in_an_artifact_is_damage_and_repair_removes_only_the_link(store, tmp_path, part):
    outside = links_in(store, tmp_path, part)
    before = outside.read_bytes()
    with pytest.raises(ArtifactError, match="is a link|missing or damaged"):
        store.get("a" * 64).read_bytes("seeds/one.png")
    store.reopen("a" * 64)
    assert outside.read_bytes() == before
    assert make_artifact(store).read_bytes("seeds/one.png") == b"1" and outside.read_bytes() == before


def test_unfinished_work_is_not_written_through_a_link(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".partial-1-x").write_text("mine")
    (store.open_work("a" * 64) / "seeds").symlink_to(mine)
    make_artifact(store)
    assert [p.name for p in mine.iterdir()] == [".partial-1-x"]
    (store.root / "work" / ("b" * 64)).symlink_to(mine)
    make_artifact(store, "b" * 64)
    assert [p.name for p in mine.iterdir()] == [".partial-1-x"]


def test_gc_keeps_other_folders_and_the_targets_of_links(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x").write_text("mine")
    (store.root / "objects" / "notes").mkdir()
    (store.root / "objects" / ("e" * 64)).symlink_to(mine)
    store.collect(keep=0)
    assert (store.root / "objects" / "notes").is_dir() and (mine / "x").exists()
    assert store.keys() == []


def test_gc_keeps_a_run_in_progress_and_its_artifacts(store):
    make_artifact(store)
    with store.run_in_progress("one", run_record("a" * 64, "b" * 64)):
        other = ArtifactStore(store.root)
        store.open_work("b" * 64)
        assert other.is_running("one") and not other.is_running("two")
        assert other.collect(keep=0) == ([], [])
        assert other.get("a" * 64) is not None and other.has_work("b" * 64)
    assert not store.is_running("one") and list((store.root / "locks").glob("run-*")) == []
    assert store.collect(keep=0)[1] == ["one"] and store.keys() == []


def test_a_run_of_a_killed_process_is_not_in_progress(store):
    make_artifact(store)
    script = (
        "import os, sys, json\nfrom pathlib import Path\nfrom wsseg.store.objects import ArtifactStore\n"
        "with ArtifactStore(Path(sys.argv[1])).run_in_progress('one', json.loads(sys.argv[2])):\n    os._exit(9)"
    )
    record = {**run_record("a" * 64), "status": "running"}
    subprocess.run([sys.executable, "-c", script, str(store.root), json.dumps(record)], timeout=60)
    assert list(store.runs()) == ["one"] and not store.is_running("one")
    assert store.collect(keep=0)[1] == ["one"]
    assert list((store.root / "locks").glob("run-*")) == []


def test_a_newer_format_is_refused_and_nothing_is_removed(store, caplog):
    folder = forge_artifact(store, format=2)
    with pytest.raises(FormatError, match=r"manifest\.json: its format is 2; this wsseg reads format 1"):
        store.get("a" * 64)
    with pytest.raises(FormatError):
        store.reopen("a" * 64)
    assert (folder / "seeds" / "one.png").exists()
    store.save_run("old", run_record("b" * 64))
    store.save_run("new", {**run_record("a" * 64), "format": 2})
    assert list(store.runs()) == ["old"] and "new.json: its format is 2" in caplog.text
    with pytest.raises(FormatError):
        store.collect(keep=0)
    (store.root / "store.json").write_text('{"format": "x"}')
    with pytest.raises(FormatError, match=r"store\.json: its format is 'x'"):
        ArtifactStore(store.root)


def test_a_store_without_a_format_has_the_first_one(store):
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1}
    (store.root / "store.json").unlink()
    ArtifactStore(store.root)
    (store.root / "store.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"store\.json: cannot be read"):
        ArtifactStore(store.root)


def test_opening_a_store_for_reading_does_not_create_it(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("typo", "photos"):
        with pytest.raises(ArtifactError, match="there is no store; 'wsseg run' creates one"):
            ArtifactStore(tmp_path / name, make=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["photos"]


def test_a_lock_is_never_opened_through_a_link(store, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("store", "a" * 64):
        (store.root / "locks" / name).unlink(missing_ok=True)
        (store.root / "locks" / name).symlink_to(mine)
        with store.lock(name):
            assert mine.read_text() == "mine"
    (store.root / "work" / ("a" * 64 + ".removed")).symlink_to(tmp_path)
    make_artifact(store)
    store.collect()
    assert mine.read_text() == "mine" and store.keys() == []
