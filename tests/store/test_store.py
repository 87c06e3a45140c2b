import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.errors import ArtifactError, FormatError
from wsseg.store.artifact import CHECKPOINT, MANIFEST
from wsseg.store.files import atomic_write, canonical_json
from wsseg.store.objects import ArtifactStore, key_of
from wsseg.store.runs import find_artifact
from wsseg.store.table import FileTable

MADE = {"kind": "seeds", "step": "seeds", "provenance": {}, "metrics": {}}


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def make(store, key="a" * 64, **files):
    work = store.open_work(key)
    for name, text in (files or {"one": "1", "two": "2"}).items():
        atomic_write(work / "seeds" / f"{name}.png", text.encode())
    return store.complete(key, MADE)


def test_key_depends_on_all_that_goes_in_and_on_nothing_else():
    key = key_of("s", 1, {"a": 1, "b": 2}, {"x": "k"})
    assert key == key_of("s", 1, {"b": 2, "a": 1}, {"x": "k"})
    others = [key_of("t", 1, {"a": 1, "b": 2}, {"x": "k"}), key_of("s", 2, {"a": 1, "b": 2}, {"x": "k"}),
              key_of("s", 1, {"a": 1, "b": 3}, {"x": "k"}), key_of("s", 1, {"a": 1, "b": 2}, {"x": "l"})]  # fmt: skip
    assert len({key, *others}) == 5


def test_an_artifact_reads_back_what_was_written(store):
    artifact = make(store)
    assert artifact.kind == "seeds"
    assert artifact.ids("seeds", ".png") == ["one", "two"]
    assert artifact.read_bytes("seeds/two.png") == b"2"
    assert store.get("b" * 64) is None
    with pytest.raises(ArtifactError, match="has no file"):
        artifact.read_bytes("seeds/three.png")


def test_a_failed_write_leaves_neither_file_nor_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "f", b"data")
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_of_a_killed_process_are_cleared(store):
    work = store.open_work("a" * 64)
    (work / "seeds").mkdir()
    (work / "seeds" / ".partial-1-x.png").write_bytes(b"half")
    atomic_write(work / "seeds" / "one.png", b"1")
    assert [p.name for p in (store.open_work("a" * 64) / "seeds").iterdir()] == ["one.png"]


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_file_is_never_read(store, damage):
    artifact = make(store)
    path = artifact.folder / "seeds" / "one.png"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert artifact.damaged_files() == ["seeds/one.png"]
    with pytest.raises(ArtifactError, match=r"one\.png is missing or damaged.*--repair"):
        artifact.read_bytes("seeds/one.png")
    assert artifact.read_bytes("seeds/two.png") == b"2"


@pytest.mark.parametrize("name", ["manifest.json", "files.txt"])
def test_damaged_metadata_is_never_believed(store, name):
    folder = make(store).folder
    text = (folder / name).read_text()
    changed = text.replace('"kind"', '"kinds"') if name == "manifest.json" else text.replace(text[:64], "0" * 64)
    assert changed != text
    (folder / name).write_text(changed)
    with pytest.raises(ArtifactError, match="damaged"):
        store.get("a" * 64).read_bytes("seeds/one.png")


def test_reopen_keeps_what_is_whole(store):
    artifact = make(store)
    (artifact.folder / "seeds" / "one.png").write_bytes(b"?")
    assert store.reopen(artifact.key) == ["seeds/one.png"]
    assert store.get(artifact.key) is None
    assert [p.name for p in (store.root / "work" / artifact.key / "seeds").iterdir()] == ["two.png"]


def test_reopen_keeps_nothing_when_the_digests_are_lost(store):
    artifact = make(store)
    (artifact.folder / "manifest.json").write_text("{}")
    store.reopen(artifact.key)
    assert store.get(artifact.key) is None and not store.has_work(artifact.key)


def test_a_lock_is_held_by_one_and_freed_by_an_error(store):
    other = ArtifactStore(store.root)
    with pytest.raises(ZeroDivisionError), store.lock("k") as held:
        assert held
        with other.lock("k", blocking=False) as second:
            assert not second
        raise ZeroDivisionError
    with other.lock("k", blocking=False) as held:
        assert held


def run_record(*keys, started="2026-01-01"):
    step = {"stage": "make_seeds", "version": 1, "config": {}, "inputs": {}}
    return {"recipe": "r", "config_name": "c", "started": started, "status": "finished",
            "steps": {f"s{i}": {**step, "key": key} for i, key in enumerate(keys)}}  # fmt: skip


@pytest.mark.parametrize("text", ["[]", "null", "5", '{"steps": 5}', '{"steps": {"a": 1}}', "{", "[" * 100_000])
def test_a_run_s_record_that_is_none_is_left_out_with_a_warning(store, text, caplog):
    store.save_run("sound", run_record("a" * 64))
    (store.root / "runs" / "broken.json").write_text(text)
    assert list(store.runs()) == list(store.runs()) == ["sound"]
    assert [r.message.count("broken.json is damaged") for r in caplog.records] == [1]  # said once
    with pytest.raises(ArtifactError, match=r"broken\.json is damaged"):
        store.run("broken")
    with pytest.raises(ArtifactError, match=r"broken\.json is damaged"):  # it may refer to anything
        store.garbage()


def test_gc_removes_what_no_run_refers_to_and_nothing_that_is_worked_on(store):
    kept, orphan, busy = ("a" * 64), ("b" * 64), ("c" * 64)
    for key in (kept, orphan, busy):
        make(store, key)
    store.open_work("d" * 64)
    store.save_run("run", run_record(kept))
    assert [p.name[0] for p in store.garbage()[0]] == ["b", "c", "d"]
    assert store.keys() == [kept, orphan, busy]  # listing removes nothing
    with ArtifactStore(store.root).lock(busy):
        store.collect()
    assert store.keys() == [kept, busy] and not store.has_work("d" * 64)


def test_gc_keep_forgets_the_oldest_runs(store):
    for i, key in enumerate(("a" * 64, "b" * 64)):
        make(store, key)
        store.save_run(f"run{i}", run_record(key, started=f"2026-01-0{i + 1}"))
    store.collect(keep=1)
    assert list(store.runs()) == ["run1"] and store.keys() == ["b" * 64]


def test_resolve_takes_key_folder_step_and_run(store):
    artifact = make(store, "ab" * 32)
    store.save_run("run", run_record("ab" * 32))
    for reference in ("abab", "ab" * 32, str(artifact.folder), "s0", "run:s0"):
        assert find_artifact(store, reference).key == artifact.key
    make(store, "abab" + "c" * 60)
    with pytest.raises(ArtifactError, match="2 artifacts match"):
        find_artifact(store, "abab")
    with pytest.raises(ArtifactError, match="did you mean 's0'"):
        find_artifact(store, "s00")


def test_a_store_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be used as a store.*choose --store"):
        ArtifactStore(tmp_path / "file" / "store")


PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc"]), min_size=1)
NAMES = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(NAMES, st.integers(0, 2**40)))
def test_a_file_table_is_a_dictionary_of_its_lines(sizes):
    digest = "0f" * 32
    names = sorted(sizes, key=str.encode)
    table = FileTable("".join(f"{digest} {sizes[n]} {n}\n" for n in names).encode())
    assert dict(table.items()) == {n: (sizes[n], digest) for n in sizes} == {n: table[n] for n in table}
    assert list(table) == names and len(table) == len(sizes)
    for name in ("", "absent", "\U0010ffff"):
        assert (name in table) == (name in sizes)


def test_a_file_table_reads_what_it_tells_of(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two words.png").write_bytes(b"abc")
    (tmp_path / "b-side").write_bytes(b"")
    table = FileTable.of(tmp_path, ["b/two words.png", "b-side"])
    assert list(table) == ["b-side", "b/two words.png"]  # by bytes, not by folders
    assert table["b/two words.png"] == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_a_checkpoint_goes_when_the_artifact_is_complete(store):
    key = "d" * 64
    atomic_write(store.open_work(key) / CHECKPOINT, b"half a training")
    artifact = make(store, key)
    assert CHECKPOINT not in artifact.files and not (artifact.folder / CHECKPOINT).exists()
    assert artifact.damaged_files() == []


def forge(store, key="a" * 64, lines=None, **manifest):
    """Make an artifact whose digests are right, and whose files.txt or manifest somebody wrote on purpose."""
    artifact = make(store, key)
    files = artifact.files.text if lines is None else lines
    (artifact.folder / "files.txt").write_bytes(files)
    body = {**artifact.manifest, "files_sha256": hashlib.sha256(files).hexdigest(), **manifest}
    body["sha256"] = hashlib.sha256(canonical_json(body)).hexdigest()
    (artifact.folder / MANIFEST).write_text(json.dumps(body))
    return artifact.folder


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
def test_a_name_that_leaves_the_artifact_is_refused_and_what_it_names_is_neither_read_nor_removed(
    store, tmp_path, name
):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    line = f"{hashlib.sha256(b'other').hexdigest()} 5 {name.format(mine=mine)}\n".encode()
    forge(store, lines=line)
    artifact = store.get("a" * 64)
    with pytest.raises(ArtifactError, match=r"files\.txt: a line is not .*stays in its folder"):
        artifact.read_bytes(name)
    assert artifact.damaged_files() == ["files.txt"]
    store.reopen("a" * 64)
    assert mine.read_text() == "mine" and store.get("a" * 64) is None


@pytest.mark.parametrize(
    "line", [b"x", b"%b 1 \xff\n" % (b"0" * 64), b"%b -1 a\n" % (b"0" * 64), b"%b 1 a" % (b"0" * 64)]
)
def test_a_line_of_another_form_is_refused(store, line):
    forge(store, lines=line)
    with pytest.raises(ArtifactError, match=r"files\.txt: "):
        store.get("a" * 64).read_bytes("a")


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000])
def test_a_manifest_that_is_none_is_damage(store, text):
    (make(store).folder / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing or damaged"):
        store.get("a" * 64)


@pytest.mark.parametrize("fields", [{"kind": 5}, {"step": None}, {"metrics": []}, {"inputs": {"images": 5}}])
def test_a_manifest_without_what_readers_ask_for_is_refused(store, fields):
    forge(store, **fields)
    with pytest.raises(ArtifactError, match="is no manifest of an artifact"):
        store.get("a" * 64)


@pytest.mark.parametrize("key", ["../../mine", "", ".", "A" * 64, "a" * 63])
def test_a_key_that_is_none_never_becomes_a_path(store, key):
    with pytest.raises(ArtifactError, match="is no key"):
        store.get(key)
    (store.root / "runs" / "run.json").write_text(json.dumps(run_record(key)))
    assert store.runs() == {}


def links_in(store, tmp_path, part):
    """Replace a part of an artifact by a link to the user's folder; returns the user's file."""
    outside = tmp_path / "photos" / "seeds" / "one.png"
    outside.parent.mkdir(parents=True)
    outside.write_bytes(b"1")
    folder = make(store).folder
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
def test_a_link_in_an_artifact_is_damage_and_repair_removes_the_link_alone(store, tmp_path, part):
    outside = links_in(store, tmp_path, part)
    before = outside.read_bytes()
    with pytest.raises(ArtifactError, match="is a link|missing or damaged"):
        store.get("a" * 64).read_bytes("seeds/one.png")
    store.reopen("a" * 64)
    assert outside.read_bytes() == before
    assert make(store).read_bytes("seeds/one.png") == b"1" and outside.read_bytes() == before


def test_work_is_never_written_through_a_link(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".partial-1-x").write_text("mine")
    (store.open_work("a" * 64) / "seeds").symlink_to(mine)
    make(store)
    assert [p.name for p in mine.iterdir()] == [".partial-1-x"]
    (store.root / "work" / ("b" * 64)).symlink_to(mine)
    make(store, "b" * 64)
    assert [p.name for p in mine.iterdir()] == [".partial-1-x"]


def test_gc_leaves_what_is_no_artifact_and_what_links_name(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x").write_text("mine")
    (store.root / "objects" / "notes").mkdir()
    (store.root / "objects" / ("e" * 64)).symlink_to(mine)
    store.collect(keep=0)
    assert (store.root / "objects" / "notes").is_dir() and (mine / "x").exists()
    assert store.keys() == []


def test_gc_keeps_a_run_in_progress_and_what_it_has_made(store):
    make(store)
    with store.run_in_progress("one", run_record("a" * 64, "b" * 64)):
        other = ArtifactStore(store.root)
        store.open_work("b" * 64)
        assert other.is_running("one") and not other.is_running("two")
        assert other.collect(keep=0) == ([], [])
        assert other.get("a" * 64) is not None and other.has_work("b" * 64)
    assert not store.is_running("one") and list((store.root / "locks").glob("run-*")) == []
    assert store.collect(keep=0)[1] == ["one"] and store.keys() == []


def test_a_run_whose_process_was_killed_is_not_in_progress(store):
    make(store)
    script = (
        "import os, sys, json\nfrom pathlib import Path\nfrom wsseg.store.objects import ArtifactStore\n"
        "with ArtifactStore(Path(sys.argv[1])).run_in_progress('one', json.loads(sys.argv[2])):\n    os._exit(9)"
    )
    record = {**run_record("a" * 64), "status": "running"}
    subprocess.run([sys.executable, "-c", script, str(store.root), json.dumps(record)], timeout=60)
    assert list(store.runs()) == ["one"] and not store.is_running("one")
    assert store.collect(keep=0)[1] == ["one"]
    assert list((store.root / "locks").glob("run-*")) == []


def test_a_newer_format_is_refused_in_one_line_and_nothing_of_it_is_removed(store, caplog):
    folder = forge(store, format=2)
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


def test_a_store_says_its_format_and_one_that_does_not_is_of_the_first(store):
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1}
    (store.root / "store.json").unlink()
    ArtifactStore(store.root)
    (store.root / "store.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"store\.json: cannot be read"):
        ArtifactStore(store.root)


def test_a_reader_makes_no_store(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("typo", "photos"):
        with pytest.raises(ArtifactError, match="there is no store; 'wsseg run' makes one"):
            ArtifactStore(tmp_path / name, make=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["photos"]


def test_a_step_without_artifact_is_told_from_one_that_nobody_knows(store):
    record = {**run_record("a" * 64, "b" * 64), "config_path": "/data/mine.toml", "status": "failed"}
    store.save_run("run", record)
    store.open_work("a" * 64)
    with pytest.raises(
        ArtifactError,
        match=r"s0: run run \(failed\) did not finish this step; 'wsseg run r -c /data/mine\.toml' resumes it",
    ):
        find_artifact(store, "s0")
    with pytest.raises(ArtifactError, match="s1: .*it was not reached, or it was removed"):
        find_artifact(store, "s1")
    with store.run_in_progress("run", record), pytest.raises(ArtifactError, match="run run is in progress"):
        find_artifact(store, "s0")
    with pytest.raises(ArtifactError, match="it is a folder, but not of a finished artifact"):
        find_artifact(store, str(store.root / "work" / ("a" * 64)))


def test_a_lock_is_never_opened_through_a_link(store, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("store", "a" * 64):
        (store.root / "locks" / name).unlink(missing_ok=True)
        (store.root / "locks" / name).symlink_to(mine)
        with store.lock(name):
            assert mine.read_text() == "mine"
    (store.root / "work" / ("a" * 64 + ".removed")).symlink_to(tmp_path)
    make(store)
    store.collect()
    assert mine.read_text() == "mine" and store.keys() == []
