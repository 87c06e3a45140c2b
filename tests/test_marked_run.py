"""A complete run with marks: what was said stays, what does not depend on it is cached."""

import numpy as np
import pytest

from wsseg.data.masks import decode_mask, encode_mask
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.stages.layout import mask_path
from wsseg.store.objects import ArtifactStore

QUICK = ("classifier.epochs=1", "segmenter.epochs=1", "seeds.scales=[1.0]", "pseudo_masks.crf=off",
         "relabeling.scales=[1.0]", "pseudo_masks.workers=1", "relabeling.workers=1", "segmenter.stop_below_change=0")  # fmt: skip


def mark(value, rows):
    mask = np.full((48, 64), 255, np.uint8)
    mask[rows] = value
    return mask


@pytest.mark.slow
def test_what_was_said_stays_in_every_mask_and_only_what_uses_it_runs_again(csv_data, tmp_path):
    store, folder = ArtifactStore(tmp_path / "store"), tmp_path / "data" / "marks"
    folder.mkdir()

    def run(*overrides):
        plan = make_plan("self_training", str(csv_data), store, (*QUICK, *overrides))
        states = {p.step.name: p.state for p in plan.active}
        run_plan(plan)
        assert not plan.failed
        return states, {p.step.name: p.artifact for p in plan.active}

    run()
    named = "data.train.marks=data/marks"
    states, _ = run(named)  # an empty folder: the same keys, so the same bytes
    assert set(states.values()) == {"cached"}
    denied = mark(0, slice(0, 12))
    (folder / "000.png").write_bytes(encode_mask(denied))  # 000 shows red
    states, artifacts = run(named)
    assert states["classifier"] == states["pseudo_masks"] == states["segmenter"] == "to run"
    metrics = artifacts["classifier"].manifest["metrics"]
    assert 0 <= metrics["evidence_in_marks"] <= 1 and metrics["area_of_marks"] == pytest.approx(0.25, abs=0.1)
    shown = mark(1, slice(30, 40))
    (folder / "003.png").write_bytes(encode_mask(shown))
    states, artifacts = run(named)
    assert states["classifier"] == states["seeds"] == "cached"  # M+ alone is not used by the classifier
    assert states["pseudo_masks"] == states["segmenter"] == "to run"
    for step in ("pseudo_masks", "pseudo_masks_1", "pseudo_masks_2"):
        for item_id, said in (("000", denied), ("003", shown)):
            mask = decode_mask(mask_path(artifacts[step].folder, item_id).read_bytes())
            assert (mask[said != 255] == said[said != 255]).all()
