import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.errors import ArtifactError
from wsseg.store import CHECKPOINT, ArtifactStore, FileTable, atomic_write, key_of

MANIFEST = {"kind": "seeds", "step": "seeds", "provenance": {}, "metrics": {}}


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def make(store, key="a" * 64, **files):
    work = store.open_work(key)
    for name, text in (files or {"one": "1", "two": "2"}).items():
        atomic_write(work / "seeds" / f"{name}.png", text.encode())
    return store.complete(key, MANIFEST)


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
def test_a_run_s_record_that_is_none_is_named(store, text):
    (store.root / "runs" / "broken.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"broken\.json is damaged"):
        store.runs()


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
        assert store.resolve(reference).key == artifact.key
    make(store, "abab" + "c" * 60)
    with pytest.raises(ArtifactError, match="2 keys start so"):
        store.resolve("abab")
    with pytest.raises(ArtifactError, match="did you mean 's0'"):
        store.resolve("s00")


def test_a_store_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be used as a store.*choose --store"):
        ArtifactStore(tmp_path / "file" / "store")


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1), st.integers(0, 2**40))
)
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
