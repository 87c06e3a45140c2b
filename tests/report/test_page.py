"""The page as text: complete, independent of other files, small enough, and safe against hostile names."""

import base64
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.report.conftest import HOSTILE, report_of
from wsseg.metrics.errors import KINDS
from wsseg.report import page as module
from wsseg.report import pictures
from wsseg.report.advice import advice
from wsseg.report.appearance import ERRORS
from wsseg.report.figures import groups
from wsseg.report.label_doubts import StoredDoubts
from wsseg.report.page import embedded, render
from wsseg.report.quality import scores_of
from wsseg.report.recipe_graph import drawn_recipe
from wsseg.report.run_report import StepFacts
from wsseg.stages.doubt_labels.listing import DoubtedImage, DoubtedLabel, LabelDoubts


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
    return report_of(runs)


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


def test_the_order_is_result_pictures_advice_figures_images(page):
    """The first thing below the result is a picture; no chart comes before it."""
    parts = [page.index(f'id="{part}"') for part in ("pictures", "advice", "figures", "images")]
    assert parts == sorted(parts) and page.index("<h1>") < parts[0] < page.index("<figure") < parts[3]
    assert re.search(r"<h1>cam_crf on tiny: mIoU \d+\.\d % on 6 val images; weakest class: ", page)


def test_each_class_has_its_best_median_and_worst_image_with_all_layers(page, report):
    rows = re.findall(
        r'<h4><strong>(\w+): IoU (\d+\.\d) %</strong> .*?<div class="cells".*?>(.*?)</div>', page, re.DOTALL
    )
    assert [place for place, *_ in rows] == ["best", "median", "worst"] * 2
    for _, _, cells in rows:
        titles = re.findall(r'class="title">(.*?)<', cells)
        assert titles == ["photograph", "seed", "pseudo-mask", "prediction", "true mask"]
    for group in (rows[:3], rows[3:]):
        scores = [float(score) for _, score, _ in group]
        assert scores == sorted(scores, reverse=True)
    weakest = min(report.examples.classes, key=lambda shown: shown.median)
    assert weakest is report.examples.classes[0]


def test_large_pictures_have_all_layers_of_their_rows(page, report):
    data = data_of(page)
    assert data["extra"] == [{"name": "prediction of the network", "kind": "mask"}]
    for item in report.examples.items:
        uris = data["pictures"][f"train/{item.id}"]
        assert {layer.name for _, layer in report.examples.columns} <= set(uris)
        image = PILImage.open(io.BytesIO(base64.b64decode(uris["prediction of the network"].partition(",")[2])))
        assert image.size == (64, 48)


def test_without_truth_what_needs_it_is_absent(runs):
    page = render(report_of(runs, truth=False))
    data = data_of(page)
    text = page[: page.index("<script")].partition("</style>")[2]
    assert "mIoU" not in text[: text.index('id="figures"')]  # trainings have scores on their own masks
    assert not any(word in text for word in (">true mask<", "chart-errors", "chart-iou", "most missed", 'id="kind"'))
    assert [group.name for group in groups(report_of(runs, truth=False))] == ["classes", "trainings", "cost"]
    assert "<h1>cam_crf on tiny: masks of 12 train images; no true masks, so the quality is not measured</h1>" in page
    assert "by the agreement of seeds, pseudo_masks" in page and "best: agreement " in page
    assert {name: split["measure"] for name, split in data["splits"].items()} == {
        "train": "agreement",
        "val": "confidence",
    }
    assert all(row[5] == [] and (row[4] is None) == (not row[1]) for row in data["splits"]["train"]["rows"])


@pytest.mark.parametrize("steps", [
    ("classifier", "seeds", "seed_quality", "pseudo_masks", "pseudo_mask_quality"),  # the recipe pseudo_masks
    ("classifier", "seeds", "pseudo_masks"), ("classifier", "seeds"), ("classifier",),
])  # fmt: skip
@pytest.mark.parametrize("missing", [0, 1])
def test_short_and_interrupted_runs(runs, steps, missing):
    """No empty section, no empty group, and no picture of a layer that does not exist."""
    report = report_of(
        runs, steps=steps, missing=steps[len(steps) - missing :], status="interrupted" if missing else "finished"
    )
    page = render(report)
    elements = Elements(page)
    assert len(elements.ids) == len(set(elements.ids))
    assert ('id="pictures"' in page) == bool(report.splits) and "prediction of the network" not in page
    assert f"<h1>cam_crf on tiny: {'interrupted after' if missing else ''}" in page
    assert all(group.charts or group.tables for group in groups(report))
    assert not re.search(r"<(ol|ul class=\"findings\"|tbody)[^>]*>\s*</", page)


def test_a_run_of_one_class(runs, report):
    """One class and the background: every chart can be drawn, and there is one group of pictures."""
    split = report.splits["train"]
    one = replace(split.images, classes=type(split.images.classes)(split.images.classes.names[:1]))
    only = replace(split, images=one)
    single = replace(report, splits={"train": only})
    assert [shown.class_id for shown in single.examples.classes] == [1]
    assert render(single).count('<h3 class="class">') == 1


def test_doubtful_labels_have_a_section_and_an_order(report, page):
    """Photographs whose labels `wsseg data doubt` found probably wrong, with the reason; without them there is no section."""
    assert 'id="doubts"' not in page and all(split["doubts"] == {} for split in data_of(page)["splits"].values())
    split = report.splits["train"]
    item = next(item for item in split.images.items if item.class_ids)
    label = DoubtedLabel(split.images.classes.names[item.class_ids[0] - 1], True, 0.97, True)
    doubts = StoredDoubts(LabelDoubts((DoubtedImage(item.id, 3.0, (label,)),), (), ()), 0.9)
    doubted = replace(report, splits={**report.splits, "train": replace(split, doubts=doubts)})
    text = render(doubted)
    why = f"says {label.name}, which is not seen"
    assert text.index('id="advice"') < text.index('id="doubts"') < text.index('id="figures"')
    assert html.escape(f"{item.id}: {why}", quote=False).split("&")[0] in text.partition('id="doubts"')[2]
    assert data_of(text)["splits"]["train"]["doubts"] == {item.id: [pytest.approx(0.95, abs=0.01), why]}
    assert advice(doubted)[0].figure.startswith(f"1 of 12 images; first: {item.id} says ")


def test_figures_are_folded_and_short(report, page):
    found = groups(report)
    assert [group.name for group in found] == ["classes", "errors", "trainings", "calibration", "cost"]
    assert sum(len(group.charts) for group in found if group.opened) <= 5
    assert all(len(chart.text.split()) <= 45 for group in found for chart in group.charts)
    assert all(
        all(table.header) for group in found for table in group.tables
    )  # a header without text is not accessible
    assert page.count('<details class="group"') >= 5 and page.count(" open>") == 1


def test_every_chart_that_the_run_has_data_for_is_drawn(report):
    """Losses and scores of each training, and calibration of seeds and network."""
    drawn = {chart.name: chart.svg for group in groups(report) for chart in group.charts}
    assert set(drawn) == {
        "iou", "confusion-train", "errors-train", "sizes-train", "threshold-train", "calibration-train",
        "confusion-val", "errors-val", "sizes-val", "calibration-network", "training", "cost",
    }  # fmt: skip
    assert all(word in drawn["training"] for word in ("classifier, f1", "segmenter, miou"))
    evaluation = report.reports["evaluation"]
    error = evaluation["metrics"]["calibration_error"]
    assert 0 < error < 1 and sum(pixels for _, _, pixels in evaluation["calibration"]) > 0
    figure = next(group.figure for group in groups(report) if group.name == "calibration")
    assert f"{100 * error:.1f} % (evaluation)" in figure


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
    images = replace(split.images, items=tuple(replace(item, id=i) for i in many))
    quality = replace(split.quality, images=[replace(counts, id=i) for i in many])
    scores = scores_of(quality, "predictions")
    large = replace(report, splits={"val": replace(split, images=images, quality=quality, scores=scores)})
    text = render(large)
    assert len(text.encode()) < 15_000_000
    data = data_of(text)
    assert len(data["splits"]["val"]["rows"]) == 10_000 and 100 < len(data["pictures"]) <= module.MOST_PICTURES


def test_steps_are_to_the_right_of_their_inputs():
    def step(name, *needs):
        return StepFacts(name, "stage", "complete", 1.0, 1, needs, {})

    graph = drawn_recipe([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")])
    places = {b.step.name: (b.left, b.top) for b in graph.boxes}
    assert places["a"][0] < places["b"][0] == places["c"][0] < places["d"][0] and places["b"][1] != places["c"][1]
    assert len(graph.lines) == 4 and all(x < graph.size[0] and y < graph.size[1] for x, y in places.values())


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
