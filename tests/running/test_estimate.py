"""Time and disk space of a recipe, extrapolated from a few images."""

import pytest

from wsseg.running import estimate as module
from wsseg.running.estimate import estimate
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


@pytest.mark.slow
def test_two_small_runs_are_extrapolated_in_a_store_of_their_own(csv_data, tmp_path, monkeypatch):
    """The small runs have 4 and 8 of 12 images, which separates the fixed cost of a step from its cost per image."""
    monkeypatch.setattr(module, "FEW", 4)
    monkeypatch.setattr(module, "_WARM_UP", 4)
    small, sizes, run_plan = [], {}, module.run_plan

    def run_and_record(plan):
        run_plan(plan)
        small.append(plan)
        sizes.update({p.step.name: p.artifact.size for p in plan.active})  # while the temporary store exists

    monkeypatch.setattr(module, "run_plan", run_and_record)
    store = ArtifactStore(tmp_path / "store")
    overrides = ("classifier.batch_size=2", "segmenter.batch_size=2")
    plan = make_plan("cam_crf", str(csv_data), store, overrides)
    estimates = {e.step: e for e in estimate(plan, "cam_crf", str(csv_data), overrides)}
    less, more = ({p.step.name: p.artifact for p in plan.active} for plan in small[1:])

    def extrapolated(step, few, many, total):
        seconds = [float(a[step].manifest["made_with"]["seconds"]) for a in (less, more)]
        per_image = max(seconds[1] - seconds[0], 0.0) / (many - few)
        return seconds[1] + per_image * (total - many)

    assert estimates["seeds"].seconds == pytest.approx(extrapolated("seeds", 4, 8, 12))
    assert estimates["seeds"].size == pytest.approx(sizes["seeds"] * 12 / 8, abs=1)
    # batches of two: an epoch of 4 images, two epochs of 8, and three of all 12
    assert estimates["segmenter"].seconds == pytest.approx(extrapolated("segmenter", 2, 8, 18))
    assert estimates["segmenter"].size == sizes["segmenter"]
    assert estimates["predictions"].seconds == pytest.approx(extrapolated("predictions", 4, 6, 6))  # val has 6 images
    assert store.keys() == [] and store.runs() == {}


def test_the_fixed_cost_is_separated_from_the_cost_per_image():
    """10 s plus 1 s per image: 14 s for 4 images, 18 s for 8, 110 s for 100."""
    assert module._linear([(4, 14.0), (8, 18.0)], 100) == pytest.approx(110)
    assert module._linear([(4, 14.0), (8, 13.0)], 100) == pytest.approx(13)  # noise: no cost per image
    assert module._linear([(6, 3.0), (6, 3.2)], 6) == pytest.approx(3.2)  # all val images in both runs
    assert module._linear([(8, 4.0)], 16) == pytest.approx(8)  # a single measurement


@pytest.mark.slow
def test_cached_steps_take_no_time(csv_data, tmp_path):
    store = ArtifactStore(tmp_path / "store")
    plan = make_plan("cam_crf", str(csv_data), store)
    run_plan(plan)
    again = make_plan("cam_crf", str(csv_data), store)
    assert all(e.seconds == 0 and e.state == "cached" for e in estimate(again, "cam_crf", str(csv_data), ()))
    assert [e.step for e in estimate(again, "cam_crf", str(csv_data), ())] == [p.step.name for p in again.active]
