"""The contents of a report, compared with the reports of the stages."""

import shutil

import numpy as np
import pytest

from wsseg.errors import ArtifactError, WssegError
from wsseg.report.opening import opening
from wsseg.report.page import render, split_rows
from wsseg.report.run_report import gather
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_run


@pytest.fixture(scope="module")
def report(runs):
    return gather(runs.store, *find_run(runs.store, runs.weak))


def test_quality_agrees_with_the_metrics_of_the_evaluation(report):
    assert report.result["conditions"]["split"] == "val"
    for name, step in (("train", "pseudo_mask_quality"), ("val", "evaluation")):
        split, metrics = report.splits[name], report.reports[step]["metrics"]
        for pixels, class_name in zip(split.quality.by_class, split.images.classes.with_background, strict=True):
            assert pixels.iou == pytest.approx(metrics["iou"][class_name])
        assert [image.id for image in split.quality.images] == split.truth.ids
    assert report.splits["train"].seeds["seeds"].miou == tuple(v for _, v in report.reports["seed_quality"]["curve"])


def test_the_counts_of_all_images_add_up(report):
    for split in report.splits.values():
        for class_id, pixels in enumerate(split.quality.by_class):
            by_image = [image.classes[class_id] for image in split.quality.images if class_id in image.classes]
            assert np.sum(by_image, axis=0).tolist() == list(pixels)


def test_no_truth_is_needed(copied_runs, report):
    """The masks are gone: only their own pictures are missing, and the score of each image is still there."""
    for split in ("train", "val"):
        shutil.rmtree(copied_runs.config.parent / "data" / split / "masks")
    without = gather(copied_runs.store, *find_run(copied_runs.store, copied_runs.weak))
    page = render(without)
    for name, split in without.splits.items():
        before, after = split_rows(report.splits[name]), split_rows(split)
        assert after["rows"] == before["rows"] and all(row[4] is not None for row in after["rows"])
        kinds = [layer["kind"] for layer in after["layers"]]
        assert kinds == [layer["kind"] for layer in before["layers"] if layer["kind"] not in ("truth", "errors")]
    assert [note.partition(":")[0] for note in without.notes] == ["train", "val"]
    assert all("the true masks can no longer be read" in note for note in without.notes)
    assert without.result == report.result and "chart-errors-val" in page and "chart-threshold-train" in page


def test_nothing_is_written_and_no_mask_is_evaluated_again(runs, monkeypatch):
    from wsseg.stages.evaluate_masks import masks

    monkeypatch.setattr(masks, "confusion", lambda *_: pytest.fail("masks were evaluated again"))
    files = sorted(runs.store.root.rglob("*.json*"))
    gather(runs.store, *find_run(runs.store, runs.weak))
    assert sorted(runs.store.root.rglob("*.json*")) == files


def test_changed_masks_are_not_shown_as_the_truth(copied_runs, report):
    """Pictures of other masks would contradict the scores."""
    folder = copied_runs.config.parent / "data" / "val" / "masks"
    path, *others = sorted(folder.glob("*.png"))
    path.write_bytes(next(content for p in others if (content := p.read_bytes()) != path.read_bytes()))
    changed = gather(copied_runs.store, *find_run(copied_runs.store, copied_runs.weak))
    assert changed.notes == ["val: the true masks have changed since the evaluation, so they are not shown."]
    assert changed.splits["val"].truth is None and changed.splits["train"].truth is not None
    assert changed.splits["val"].quality.images == report.splits["val"].quality.images


def test_evaluations_of_earlier_versions_have_no_counts_per_image(runs, monkeypatch):
    from wsseg.report import quality

    monkeypatch.setattr(quality, "FILE", "not there")
    old = gather(runs.store, *find_run(runs.store, runs.weak))
    assert [note.partition(":")[0] for note in old.notes] == ["pseudo_mask_quality", "evaluation"]
    assert "run the recipe again" in old.notes[0] and old.splits["val"].quality is None and old.result
    assert render(old)


def test_layers_are_the_artifacts_of_the_split(report):
    layers = {name: [(x.name, x.kind) for x in split.layers] for name, split in report.splits.items()}
    assert layers == {
        "train": [("photograph", "photo"), ("seeds", "heat"), ("pseudo_masks", "mask"), ("truth", "truth")],
        "val": [("photograph", "photo"), ("predictions", "mask"), ("truth", "truth")],
    }


def test_the_ratio_is_over_full_supervision_of_the_same_network(runs, report):
    full = gather(runs.store, *find_run(runs.store, runs.full))
    assert report.bound == (runs.full, full.result["metrics"]["miou"])
    assert report.ratio == pytest.approx(report.result["metrics"]["miou"] / full.result["metrics"]["miou"])
    assert full.ratio is None
    record = dict(report.record, config={**report.record["config"], "segmenter": {"epochs": 99}})
    assert gather(runs.store, runs.weak, record).bound is None


def test_other_seeds_are_siblings_and_other_values_are_not(runs, report):
    assert list(report.siblings) == [3]
    record = dict(report.record, config={**report.record["config"], "rng_seed": 4})
    assert list(gather(runs.store, runs.weak, record).siblings) == [3]


def test_without_the_images_the_metrics_remain(runs, report):
    record = dict(report.record)
    record["config"] = {
        **record["config"],
        "data": {**record["config"]["data"], "train": {"images": "gone", "labels": "gone.csv"}},
    }
    without = gather(runs.store, runs.weak, record)
    assert not without.splits and without.result == report.result and "can no longer be read" in without.notes[0]


def test_an_unfinished_run_has_a_report(runs, tmp_path):
    store = ArtifactStore(shutil.copytree(runs.store.root, tmp_path / "store"))
    run, record = find_run(store, runs.weak)
    shutil.rmtree(store.root / "objects" / record["steps"]["predictions"]["key"])
    shutil.rmtree(store.root / "objects" / record["steps"]["evaluation"]["key"])
    report = gather(store, run, record)
    assert report.result is None and "val" not in report.splits
    assert {s.name: s.state for s in report.steps}["predictions"] == "missing"
    assert opening(report).line.startswith("incomplete after 7 of 9 steps; pseudo-masks mIoU ")


def test_runs_are_found_by_their_beginning(runs, tmp_path):
    assert find_run(runs.store, None)[0] == runs.full
    assert find_run(runs.store, runs.weak)[0] == runs.weak
    with pytest.raises(ArtifactError, match="ambiguous: 3 runs match"):
        find_run(runs.store, "20")
    with pytest.raises(ArtifactError, match="no such run"):
        find_run(runs.store, "yesterday")
    with pytest.raises(ArtifactError, match="no run yet"):
        find_run(ArtifactStore(tmp_path / "new"), None)


def test_a_damaged_record_or_artifact_of_another_run_does_no_harm(runs, report, tmp_path, caplog):
    store = ArtifactStore(shutil.copytree(runs.store.root, tmp_path / "store"))
    full = store.run(runs.full)
    (store.root / "objects" / full["steps"]["evaluation"]["key"] / "report.json").write_text("{}")
    (store.root / "runs" / "bad.json").write_text("{}")
    (store.root / "runs" / "new.json").write_text('{"format": 2}')
    again = gather(store, *find_run(store, runs.weak))
    assert again.result == report.result and again.bound is None
    assert f"run {runs.full} is left out of the comparison" in caplog.text
    for name, message in (("bad", "bad.json is damaged"), ("new", "new.json: its format is 2")):
        with pytest.raises(WssegError, match=message):
            find_run(store, name)
