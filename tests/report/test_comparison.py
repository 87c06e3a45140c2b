"""The page that compares two runs: the images that changed most first."""

import html
import json
import re
from types import SimpleNamespace

import pytest

from tests.report.conftest import report_of
from tests.report.test_page import Elements, data_of
from wsseg.report.comparison import Changes, changes_of, differing_values, render_comparison, sentences


@pytest.fixture(scope="module")
def reports(runs):
    return report_of(runs), report_of(runs, run=runs.changed)


def rows_of(page):
    """Return split and id of each row of pictures, in their order."""
    cells = re.findall(r'data-split="(\w+)" data-id="([^"]*)" data-layer="photograph"', page)
    return [(split, item_id) for split, item_id in cells]


def test_two_runs_side_by_side(reports):
    page = render_comparison(*reports)
    elements = Elements(page)
    assert elements.names.count("script") == 2 and "img" not in elements.names
    assert len(elements.ids) == len(set(elements.ids))
    assert "pseudo_masks.levels" in page and "[0.3, 0.6]" in page and "[0.8]" in page
    data = data_of(page)
    layers = [x["name"] for x in data["splits"]["train"]["layers"]]
    assert layers == ["photograph", "A: pseudo_masks", "B: pseudo_masks", "truth", "errors A", "errors B"]
    before, after = ({c.id: c.miou for c in r.splits["train"].quality.images} for r in reports)
    for row in data["splits"]["train"]["rows"]:
        assert row[7] == pytest.approx(after[row[0]] - before[row[0]], abs=1e-4)


def test_the_images_that_changed_most_come_first(reports):
    page = render_comparison(*reports)
    assert page.index('id="pictures"') < page.index('id="result"')
    changed = changes_of(*(report.splits["train"] for report in reports))
    sizes = [abs(changed.images[item_id]) for item_id in changed.most_changed]
    assert changed.measured and sizes == sorted(sizes, reverse=True) and sizes[0] > 0
    shown = [html.unescape(item_id) for split, item_id in rows_of(page) if split == "train"]
    assert shown == changed.most_changed[: min(6, sum(size > 0 for size in sizes))]


def test_without_truth_the_masks_are_compared_with_each_other(runs):
    reports = report_of(runs, truth=False), report_of(runs, run=runs.changed, truth=False)
    changed = changes_of(*(report.splits["train"] for report in reports))
    assert (
        not changed.measured
        and all(0 <= value <= 1 for value in changed.images.values())
        and any(changed.images.values())
    )
    page = render_comparison(*reports)
    assert (
        "IoU"
        not in page[: page.index('<script type="application/json"')].partition("<main>")[2].partition("</main>")[0]
    )
    assert data_of(page)["splits"]["train"]["measured"] is False
    same = changes_of(reports[0].splits["train"], reports[0].splits["train"])
    assert set(same.images.values()) == {0.0}


def test_changes_in_words():
    report_a, report_b = (
        SimpleNamespace(result={"metrics": {"miou": miou, "iou": {"background": 0.9, "cat": cat, "dog": None}}})
        for miou, cat in ((0.6, 0.3), (0.55, 0.2))
    )
    changes = {
        "train": Changes(None, True, {"a": 0.0}), "val": Changes(None, True, {"b": 0.05, "c": -0.2, "d": 0.001}),
        "other": Changes(None, False, {"a": 0.3, "b": 0.0}),
    }  # fmt: skip
    assert sentences(report_a, report_b, changes) == [
        "The mIoU changed from 60.0 % to 55.0 %.",
        "The class that changed most is cat: -10.0 points.",
        "train: the mean IoU of every image is unchanged.",
        "val: 1 of 3 images improved by more than a point and 1 became worse.",
        "other: the masks of 1 of 2 images changed by more than 1 %.",
    ]
    assert changes["val"].text("c") == "-20.0 points of IoU" and changes["other"].text("a") == "30.0 % changed"


def test_values_that_differ():
    config_a = {"rng_seed": 0, "a": {"x": 1, "y": [1, 2]}, "b": {"z": True}}
    config_b = {"rng_seed": 1, "a": {"x": 1, "y": [1]}}
    assert differing_values(config_a, config_b) == [
        ("a.y", "[1, 2]", "[1]"), ("b.z", "True", "-"), ("rng_seed", "0", "1"),
    ]  # fmt: skip
    assert json.dumps(differing_values(config_a, config_a)) == "[]"
