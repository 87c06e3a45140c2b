"""The page as text: whole, alone, small enough, and with names that stay names."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.report.conftest import HOSTILE
from wsseg.report import page as module
from wsseg.report import pictures
from wsseg.report.charts import charts
from wsseg.report.contents import StepFacts, gather
from wsseg.report.page import differing_values, drawn_recipe, embedded, render, render_comparison
from wsseg.store.runs import find_run


class Elements(HTMLParser):
    """Collects elements and ids as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.names, self.ids, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action"):
                self.addresses.append(value)


@pytest.fixture(scope="module")
def contents(runs):
    return gather(runs.store, *find_run(runs.store, runs.weak))


@pytest.fixture(scope="module")
def page(contents):
    return render(contents)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_names_are_text(page):
    found = Elements(page)
    assert found.names.count("script") == 2 and "img" not in found.names
    assert not any(name in page for name in HOSTILE)
    assert data_of(page)["classes"] == ["background", *HOSTILE]


def test_it_asks_nobody_and_no_id_is_there_twice(page):
    found = Elements(page)
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert len(found.ids) == len(set(found.ids))
    assert "default-src 'none'; img-src data:;" in page


def test_every_figure_that_the_run_has_data_for_is_there(contents):
    """Of each training the loss and what it achieved on its crops; calibration of seeds and network."""
    found = {chart["name"]: chart["svg"] for chart in charts(contents)}
    assert set(found) == {
        "iou", "confusion-train", "errors-train", "sizes-train", "threshold-train", "calibration-train",
        "confusion-val", "errors-val", "sizes-val", "calibration-network", "training", "cost",
    }  # fmt: skip
    assert all(word in found["training"] for word in ("classifier, f1", "segmenter, miou"))
    report = contents.reports["evaluation"]
    error = report["metrics"]["calibration_error"]
    assert 0 < error < 1 and sum(pixels for _, _, pixels in report["calibration"]) > 0
    text = next(c["text"] for c in charts(contents) if c["name"] == "calibration-network")
    assert f"{100 * error:.1f} % (evaluation)" in text


def test_pictures_are_those_of_the_artifacts(page, contents):
    data = data_of(page)
    split = contents.splits["val"]
    for item in split.images.items:
        own = data["pictures"][f"val/{item.id}"]
        assert set(own) == {"photograph", "predictions", "truth"}
        image = PILImage.open(io.BytesIO(base64.b64decode(own["truth"].partition(",")[2])))
        assert (np.asarray(image) == split.truth.mask(item.id)).all()
    rows = {row[0]: row for row in data["splits"]["val"]["rows"]}
    judged = {j.id: j for j in split.judgement.images}
    assert {i: row[4] for i, row in rows.items()} == {i: round(j.miou, 4) for i, j in judged.items()}
    assert data["splits"]["val"]["layers"][-1] == {"name": "errors", "kind": "errors"}


def test_ten_thousand_images_stay_under_15_mb(contents, monkeypatch):
    """Rows for all of them, pictures (as large as they get) for some."""
    monkeypatch.setattr(pictures, "picture", lambda *_: ("image/jpeg", bytes(20_000)))
    split = contents.splits["val"]
    item, judged = split.images.items[1], split.judgement.images[1]
    many = [f"folder-{k % 100:02}/photograph-{k:06}" for k in range(10_000)]
    images = module.replace(split.images, items=tuple(module.replace(item, id=i) for i in many))
    judgement = module.replace(split.judgement, images=[module.replace(judged, id=i) for i in many])
    large = module.replace(contents, splits={"val": module.replace(split, images=images, judgement=judgement)})
    text = render(large)
    assert len(text.encode()) < 15_000_000
    data = data_of(text)
    assert len(data["splits"]["val"]["rows"]) == 10_000 and 100 < len(data["pictures"]) <= module.MOST_PICTURES


def test_two_runs_side_by_side(runs, contents):
    changed = gather(runs.store, *find_run(runs.store, runs.changed))
    page = render_comparison(contents, changed)
    found = Elements(page)
    assert found.names.count("script") == 2 and "img" not in found.names and len(found.ids) == len(set(found.ids))
    assert "pseudo_masks.levels" in page and "[0.3, 0.6]" in page and "[0.8]" in page
    data = data_of(page)
    layers = [x["name"] for x in data["splits"]["train"]["layers"]]
    assert layers == ["photograph", "A: pseudo_masks", "B: pseudo_masks", "truth", "errors A", "errors B"]
    before, after = ({j.id: j.miou for j in c.splits["train"].judgement.images} for c in (contents, changed))
    for row in data["splits"]["train"]["rows"]:
        assert row[7] == pytest.approx(after[row[0]] - before[row[0]], abs=1e-4)


def test_values_that_differ():
    one = {"rng_seed": 0, "a": {"x": 1, "y": [1, 2]}, "b": {"z": True}}
    other = {"rng_seed": 1, "a": {"x": 1, "y": [1]}}
    assert differing_values(one, other) == [("a.y", "[1, 2]", "[1]"), ("b.z", "True", "-"), ("rng_seed", "0", "1")]


def test_steps_stand_to_the_right_of_what_they_need():
    def step(name, *needs):
        return StepFacts(name, "stage", "complete", 1.0, 1, needs, {})

    boxes, lines, (width, height) = drawn_recipe([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")])
    places = {b.step.name: (b.left, b.top) for b in boxes}
    assert places["a"][0] < places["b"][0] == places["c"][0] < places["d"][0] and places["b"][1] != places["c"][1]
    assert len(lines) == 4 and all(x < width and y < height for x, y in places.values())


def test_no_text_can_leave_its_script():
    hostile = {"</script>": "<!-- \u2028 &amp; -->"}
    text = str(embedded(hostile))
    assert "<" not in text and ">" not in text and json.loads(text) == hostile
