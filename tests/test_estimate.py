"""What a recipe will take, extrapolated from a few images."""

import pytest

from wsseg import estimate as module
from wsseg.estimate import estimate
from wsseg.runner import make_plan, run_plan
from wsseg.store import ArtifactStore


@pytest.mark.slow
def test_rates_are_extrapolated_and_the_store_stays_as_it_is(csv_data, tmp_path, monkeypatch):
    """Of 12 images 8 are measured: half as long again for what goes by image; networks keep their size."""
    monkeypatch.setattr(module, "FEW", 8)
    monkeypatch.setattr(module, "_WARM_UP", 4)
    store = ArtifactStore(tmp_path / "store")
    seen = []
    real = module._extrapolated
    monkeypatch.setattr(module, "_extrapolated", lambda *a: seen.append((a[0].step.name, a[2].artifact)) or real(*a))
    plan = make_plan("cam_crf", str(csv_data), store)
    found = {e.step: e for e in estimate(plan, "cam_crf", str(csv_data), ())}
    small = {name: (artifact.manifest["made_with"]["seconds"], artifact.size) for name, artifact in seen}
    seconds, size = small["seeds"]
    assert found["seeds"].seconds == pytest.approx(seconds * 12 / 8) and found["seeds"].size == pytest.approx(
        size * 12 / 8, abs=1
    )
    seconds, size = small["segmenter"]
    assert (
        found["segmenter"].seconds == pytest.approx(seconds * 3 * 3 / 2) and found["segmenter"].size == size
    )  # 3 epochs of 3 batches; 2
    assert found["predictions"].seconds == pytest.approx(small["predictions"][0])  # 6 images of val: all of them
    assert store.keys() == [] and store.runs() == {}


@pytest.mark.slow
def test_what_is_cached_takes_no_time(csv_data, tmp_path):
    store = ArtifactStore(tmp_path / "store")
    plan = make_plan("cam_crf", str(csv_data), store)
    run_plan(plan)
    again = make_plan("cam_crf", str(csv_data), store)
    assert all(e.seconds == 0 and e.state == "cached" for e in estimate(again, "cam_crf", str(csv_data), ()))
    assert [e.step for e in estimate(again, "cam_crf", str(csv_data), ())] == [p.step.name for p in again.active]
