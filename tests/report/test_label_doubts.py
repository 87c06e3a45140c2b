"""The doubts that a report finds in the store."""

import numpy as np
import pytest

from tests.data.generated import picture
from wsseg.report.label_doubts import stored_doubts
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.stages.doubt_labels import describing
from wsseg.store.objects import ArtifactStore


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a plan of the recipe `label_doubts` for 40 images, of which the first has a wrong label."""
    for n in range(40):
        picture(tmp_path / "images" / f"{n:02d}.png")
    rows = [f"{n:02d},{'dog' if n % 2 == (n > 0) else ''}" for n in range(40)]
    (tmp_path / "labels.csv").write_text("image_id,classes\n" + "\n".join(rows) + "\n")
    (tmp_path / "mine.toml").write_text('[data]\nkind = "csv"\ntrain = { images = "images", labels = "labels.csv" }\n')
    shown = np.where(np.arange(40) % 2, 3.0, -3.0)[:, None, None] * np.ones((1, 4, 2))
    monkeypatch.setattr(describing, "descriptors", lambda config, images: shown.astype(np.float16))

    def plan(*overrides):
        return make_plan("label_doubts", str(tmp_path / "mine.toml"), ArtifactStore(tmp_path / "store"), overrides)

    return plan


def test_doubts_are_found_for_exactly_these_labels(planned, tmp_path):
    plan = planned()
    images = plan.sources.get("data.train")
    assert stored_doubts(plan.store, images) is None
    run_plan(plan)
    found = stored_doubts(plan.store, images)
    doubt, why = found.by_image()["00"]
    assert found.doubts.images[0].id == "00" and doubt > 0.9 and why == "says dog, which is not seen"
    assert found.by_image()["01"][1] == "" and found.average_precision > 0.9
    (tmp_path / "fixed.csv").write_text("image,class,present\n00,dog,0\n")
    corrected = planned("data.train.label_overlay=fixed.csv").sources.get("data.train")
    assert stored_doubts(plan.store, corrected) is None
