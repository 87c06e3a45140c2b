"""The page as text: complete, independent of other files, small enough, and safe against hostile names."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.report.conftest import HOSTILE
from wsseg.metrics.errors import KINDS
from wsseg.report import page as module
from wsseg.report import pictures
from wsseg.report.appearance import ERRORS
from wsseg.report.charts import charts
from wsseg.report.page import differing_values, drawn_recipe, embedded, render, render_comparison
from wsseg.report.run_report import StepFacts, gather
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
def report(runs):
    return gather(runs.store, *find_run(runs.store, runs.weak))


@pytest.fixture(scope="module")
def page(report):
    return render(report)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_names_are_text(page):
    elements = Elements(page)
    assert elements.names.count("script") == 2 and "img" not in elements.names
    assert not any(name in page for name in HOSTILE)
    assert data_of(page)["classes"] == ["background", *HOSTILE]


def test_it_loads_nothing_and_ids_are_unique(page):
    elements = Elements(page)
    assert all(address.startswith(("#", "data:")) for address in elements.addresses)
    assert len(elements.ids) == len(set(elements.ids))
    assert "default-src 'none'; img-src data:;" in page


def test_every_chart_that_the_run_has_data_for_is_drawn(report):
    """Losses and scores of each training, and calibration of seeds and network."""
    drawn = {chart["name"]: chart["svg"] for chart in charts(report)}
    assert set(drawn) == {
        "iou", "confusion-train", "errors-train", "sizes-train", "threshold-train", "calibration-train",
        "confusion-val", "errors-val", "sizes-val", "calibration-network", "training", "cost",
    }  # fmt: skip
    assert all(word in drawn["training"] for word in ("classifier, f1", "segmenter, miou"))
    evaluation = report.reports["evaluation"]
    error = evaluation["metrics"]["calibration_error"]
    assert 0 < error < 1 and sum(pixels for _, _, pixels in evaluation["calibration"]) > 0
    text = next(c["text"] for c in charts(report) if c["name"] == "calibration-network")
    assert f"{100 * error:.1f} % (evaluation)" in text


def test_pictures_are_those_of_the_artifacts(page, report):
    data = data_of(page)
    split = report.splits["val"]
    for item in split.images.items:
        uris = data["pictures"][f"val/{item.id}"]
        assert set(uris) == {"photograph", "predictions", "truth"}
        image = PILImage.open(io.BytesIO(base64.b64decode(uris["truth"].partition(",")[2])))
        assert (np.asarray(image) == split.truth.mask(item.id)).all()
    rows = {row[0]: row for row in data["splits"]["val"]["rows"]}
    assert {i: row[4] for i, row in rows.items()} == {c.id: round(c.miou, 4) for c in split.quality.images}
    assert data["splits"]["val"]["layers"][-1] == {"name": "errors", "kind": "errors"}


def test_ten_thousand_images_stay_under_15_mb(report, monkeypatch):
    """There are rows for all of them, and pictures of the largest size for some."""
    monkeypatch.setattr(pictures, "picture", lambda *_: ("image/jpeg", bytes(20_000)))
    split = report.splits["val"]
    item, counts = split.images.items[1], split.quality.images[1]
    many = [f"folder-{k % 100:02}/photograph-{k:06}" for k in range(10_000)]
    images = module.replace(split.images, items=tuple(module.replace(item, id=i) for i in many))
    quality = module.replace(split.quality, images=[module.replace(counts, id=i) for i in many])
    large = module.replace(report, splits={"val": module.replace(split, images=images, quality=quality)})
    text = render(large)
    assert len(text.encode()) < 15_000_000
    data = data_of(text)
    assert len(data["splits"]["val"]["rows"]) == 10_000 and 100 < len(data["pictures"]) <= module.MOST_PICTURES


def test_two_runs_side_by_side(runs, report):
    changed = gather(runs.store, *find_run(runs.store, runs.changed))
    page = render_comparison(report, changed)
    elements = Elements(page)
    assert (
        elements.names.count("script") == 2
        and "img" not in elements.names
        and len(elements.ids) == len(set(elements.ids))
    )
    assert "pseudo_masks.levels" in page and "[0.3, 0.6]" in page and "[0.8]" in page
    data = data_of(page)
    layers = [x["name"] for x in data["splits"]["train"]["layers"]]
    assert layers == ["photograph", "A: pseudo_masks", "B: pseudo_masks", "truth", "errors A", "errors B"]
    before, after = ({c.id: c.miou for c in r.splits["train"].quality.images} for r in (report, changed))
    for row in data["splits"]["train"]["rows"]:
        assert row[7] == pytest.approx(after[row[0]] - before[row[0]], abs=1e-4)


def test_values_that_differ():
    config_a = {"rng_seed": 0, "a": {"x": 1, "y": [1, 2]}, "b": {"z": True}}
    config_b = {"rng_seed": 1, "a": {"x": 1, "y": [1]}}
    assert differing_values(config_a, config_b) == [
        ("a.y", "[1, 2]", "[1]"), ("b.z", "True", "-"), ("rng_seed", "0", "1"),
    ]  # fmt: skip


def test_steps_are_to_the_right_of_their_inputs():
    def step(name, *needs):
        return StepFacts(name, "stage", "complete", 1.0, 1, needs, {})

    boxes, lines, (width, height) = drawn_recipe([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")])
    places = {b.step.name: (b.left, b.top) for b in boxes}
    assert places["a"][0] < places["b"][0] == places["c"][0] < places["d"][0] and places["b"][1] != places["c"][1]
    assert len(lines) == 4 and all(x < width and y < height for x, y in places.values())


def test_the_script_has_no_colours_or_words_of_its_own(page):
    """Colours and labels of errors come from the page's data, so that charts, sentences and pictures agree."""
    data, script = data_of(page), page.rpartition("<script>")[2]
    assert [kind["name"] for kind in data["appearance"]["errors"]] == list(KINDS)
    assert data["appearance"]["classes"][1] == [230, 159, 0] and len(data["appearance"]["heat"]) == 256
    for kind in ERRORS:
        assert kind.colour not in script and f"most {kind.label}</option>" in page
        assert kind.label == "undecided" or kind.label == kind.name or kind.label not in script


def test_no_text_can_close_its_script_element():
    hostile = {"</script>": "<!-- \u2028 &amp; -->"}
    text = str(embedded(hostile))
    assert "<" not in text and ">" not in text and json.loads(text) == hostile
