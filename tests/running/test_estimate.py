"""What a recipe will take, extrapolated from a few images."""

import pytest

from wsseg.running import estimate as module
from wsseg.running.estimate import estimate
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


@pytest.mark.slow
def test_a_line_through_two_small_runs_and_the_store_stays_as_it_is(csv_data, tmp_path, monkeypatch):
    """4 and 8 of 12 images are measured: the fixed cost of a step is separated from the cost per image."""
    monkeypatch.setattr(module, "FEW", 4)
    monkeypatch.setattr(module, "_WARM_UP", 4)
    small, sizes, run_plan = [], {}, module.run_plan

    def run_and_keep(plan):
        run_plan(plan)
        small.append(plan)
        sizes.update({p.step.name: p.artifact.size for p in plan.active})  # while the temporary store exists

    monkeypatch.setattr(module, "run_plan", run_and_keep)
    store = ArtifactStore(tmp_path / "store")
    overrides = ("classifier.batch_size=2", "segmenter.batch_size=2")
    plan = make_plan("cam_crf", str(csv_data), store, overrides)
    estimates = {e.step: e for e in estimate(plan, "cam_crf", str(csv_data), overrides)}
    less, more = ({p.step.name: p.artifact for p in plan.active} for plan in small[1:])

    def line(step, few, many, all_of_them):
        seconds = [float(a[step].manifest["made_with"]["seconds"]) for a in (less, more)]
        each = max(seconds[1] - seconds[0], 0.0) / (many - few)
        return seconds[1] + each * (all_of_them - many)

    assert estimates["seeds"].seconds == pytest.approx(line("seeds", 4, 8, 12))
    assert estimates["seeds"].size == pytest.approx(sizes["seeds"] * 12 / 8, abs=1)
    # batches of two: an epoch of 4 images, two epochs of 8, and three of all 12
    assert estimates["segmenter"].seconds == pytest.approx(line("segmenter", 2, 8, 18))
    assert estimates["segmenter"].size == sizes["segmenter"]
    assert estimates["predictions"].seconds == pytest.approx(line("predictions", 4, 6, 6))  # val has 6 images
    assert store.keys() == [] and store.runs() == {}


def test_a_fixed_cost_is_not_taken_for_one_of_each_image():
    """10 s and a second an image: 14 s for 4 images, 18 s for 8, 110 s for 100."""
    assert module._linear([(4, 14.0), (8, 18.0)], 100) == pytest.approx(110)
    assert module._linear([(4, 14.0), (8, 13.0)], 100) == pytest.approx(13)  # noise: nothing an image
    assert module._linear([(6, 3.0), (6, 3.2)], 6) == pytest.approx(3.2)  # all of val, twice
    assert module._linear([(8, 4.0)], 16) == pytest.approx(8)  # known once only


@pytest.mark.slow
def test_what_is_cached_takes_no_time(csv_data, tmp_path):
    store = ArtifactStore(tmp_path / "store")
    plan = make_plan("cam_crf", str(csv_data), store)
    run_plan(plan)
    again = make_plan("cam_crf", str(csv_data), store)
    assert all(e.seconds == 0 and e.state == "cached" for e in estimate(again, "cam_crf", str(csv_data), ()))
    assert [e.step for e in estimate(again, "cam_crf", str(csv_data), ())] == [p.step.name for p in again.active]
