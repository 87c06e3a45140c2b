"""What is gathered of a run, beside what its stages said."""

import json
import shutil

import pytest

from wsseg.errors import ArtifactError, WssegError
from wsseg.report import words
from wsseg.report.contents import gather
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_run


@pytest.fixture(scope="module")
def contents(runs):
    return gather(runs.store, *find_run(runs.store, runs.weak))


def test_figures_are_those_of_the_stages(contents):
    """Judged anew, image by image, the masks give the mIoU that `evaluate_masks` gave."""
    assert contents.result["conditions"]["split"] == "val"
    for split, step in (("train", "pseudo_mask_quality"), ("val", "evaluation")):
        judgement = contents.splits[split].judgement
        assert judgement.miou == pytest.approx(contents.reports[step]["metrics"]["miou"])
        for k, name in enumerate(judgement.classes.with_background):
            assert judgement.errors(k).iou == pytest.approx(contents.reports[step]["metrics"]["iou"][name])
    curve = contents.reports["seed_quality"]["curve"]
    assert contents.splits["train"].seeds["seeds"].miou[::2] == pytest.approx(
        [miou for _, miou in curve]
    )  # every other one


def test_layers_are_the_artifacts_of_the_split(contents):
    layers = {name: [(x.name, x.kind) for x in split.layers] for name, split in contents.splits.items()}
    assert layers == {
        "train": [("photograph", "photo"), ("seeds", "heat"), ("pseudo_masks", "mask"), ("truth", "truth")],
        "val": [("photograph", "photo"), ("predictions", "mask"), ("truth", "truth")],
    }


def test_the_ratio_is_over_full_supervision_of_the_same_network(runs, contents):
    full = gather(runs.store, *find_run(runs.store, runs.full), judged=False)
    assert contents.bound == (runs.full, full.result["metrics"]["miou"])
    assert contents.ratio == pytest.approx(contents.result["metrics"]["miou"] / full.result["metrics"]["miou"])
    assert full.ratio is None
    record = dict(contents.record, config={**contents.record["config"], "segmenter": {"epochs": 99}})
    assert gather(runs.store, runs.weak, record, judged=False).bound is None


def test_other_seeds_are_siblings_and_other_values_are_not(runs, contents):
    assert list(contents.siblings) == [3]
    record = dict(contents.record, config={**contents.record["config"], "rng_seed": 4})
    assert list(gather(runs.store, runs.weak, record, judged=False).siblings) == [3]


def test_what_was_found_is_kept_and_made_anew_where_it_is_damaged(runs, contents, monkeypatch):
    from wsseg.report import contents as module

    monkeypatch.setattr(module, "judge", lambda *_: pytest.fail("it was judged again"))
    again = gather(runs.store, *find_run(runs.store, runs.weak))
    assert again.splits["val"].judgement.images == contents.splits["val"].judgement.images
    monkeypatch.undo()
    for path in (runs.store.root / "reports").glob("*.json"):
        path.write_bytes(path.read_bytes()[:20])
    gather(runs.store, *find_run(runs.store, runs.weak))
    for path in (runs.store.root / "reports").glob("*.json"):
        path.write_text(json.dumps({"counts": 5, "images": [[]], "by_size": {}}))
    anew = gather(runs.store, *find_run(runs.store, runs.weak))
    assert anew.splits["val"].judgement.images == contents.splits["val"].judgement.images


def test_a_store_that_cannot_be_written_can_be_looked_at(runs, contents, monkeypatch):
    from wsseg.report import contents as module

    def full(*_):
        raise OSError(28, "No space left on device")

    shutil.rmtree(runs.store.root / "reports")
    monkeypatch.setattr(module, "atomic_write", full)
    again = gather(runs.store, *find_run(runs.store, runs.weak))
    assert again.splits["val"].judgement.images == contents.splits["val"].judgement.images


def test_without_the_images_there_are_figures_still(runs, tmp_path, contents):
    record = dict(contents.record)
    record["config"] = {
        **record["config"],
        "data": {**record["config"]["data"], "train": {"images": "gone", "labels": "gone.csv"}},
    }
    bare = gather(runs.store, runs.weak, record)
    assert not bare.splits and bare.result == contents.result and "cannot be read now" in bare.notes[0]


def test_an_unfinished_run_can_be_told_of(runs, tmp_path):
    store = ArtifactStore(shutil.copytree(runs.store.root, tmp_path / "store"))
    run, record = find_run(store, runs.weak)
    shutil.rmtree(store.root / "objects" / record["steps"]["predictions"]["key"])
    shutil.rmtree(store.root / "objects" / record["steps"]["evaluation"]["key"])
    contents = gather(store, run, record)
    assert contents.result is None and "val" not in contents.splits
    assert {s.name: s.state for s in contents.steps}["predictions"] == "missing"
    assert "no result" in words.headline(contents)


def test_runs_are_found_by_their_beginning(runs, tmp_path):
    assert find_run(runs.store, None)[0] == runs.full
    assert find_run(runs.store, runs.weak)[0] == runs.weak
    with pytest.raises(ArtifactError, match="ambiguous: 3 runs match"):
        find_run(runs.store, "20")
    with pytest.raises(ArtifactError, match="no such run"):
        find_run(runs.store, "yesterday")
    with pytest.raises(ArtifactError, match="no run yet"):
        find_run(ArtifactStore(tmp_path / "new"), None)


def test_a_bad_record_or_artifact_of_another_run_spoils_nothing(runs, contents, tmp_path, caplog):
    store = ArtifactStore(shutil.copytree(runs.store.root, tmp_path / "store"))
    full = store.run(runs.full)
    (store.root / "objects" / full["steps"]["evaluation"]["key"] / "report.json").write_text("{}")
    (store.root / "runs" / "bad.json").write_text("{}")
    (store.root / "runs" / "new.json").write_text('{"format": 2}')
    again = gather(store, *find_run(store, runs.weak))
    assert again.result == contents.result and again.bound is None
    assert f"run {runs.full} is not compared with" in caplog.text
    for name, said in (("bad", "bad.json is damaged"), ("new", "new.json: its format is 2")):
        with pytest.raises(WssegError, match=said):
            find_run(store, name)
