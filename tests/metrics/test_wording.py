import pytest

from wsseg.metrics.wording import (
    conditions_text,
    estimate_text,
    headline,
    images_text,
    mean_and_spread,
    percent,
    result_text,
    weakest_class,
)

CONDITIONS = {
    "split": "val", "images": 3, "diagnostic": False, "without_truth": 2, "rng_seed": 7,
    "pseudo_masks": {"background": 0.3, "crf": True}, "predictions": {"flip": True},
}  # fmt: skip


def test_conditions_name_all_that_a_metric_depends_on():
    metrics = {
        "conditions": CONDITIONS,
        "classes_counted": 4,
        "boundary_miou": 0.25,
        "coverage": 0.9,
        "miou_decided": 0.5,
    }
    assert conditions_text(metrics) == (
        "3 val images (2 others have no mask and are not evaluated); 4 classes with background; "
        "90.0 % decided, mIoU there 50.0; boundary mIoU 25.0; pseudo-masks: background 0.3, crf True; "
        "predictions: flip True; rng_seed 7"
    )
    assert images_text({**CONDITIONS, "without_truth": 0}) == "3 val images"


def test_a_result_and_its_weakest_class():
    """The background is no candidate, in whichever order the classes are stored."""
    metrics = {"miou": 0.5, "iou": {"<a>": 0.7, "background": 0.1, "cat": 0.3, "dog": None}, "conditions": CONDITIONS}
    assert result_text(metrics) == "mIoU 50.0 % on 3 val images (2 others have no mask and are not evaluated)"
    assert result_text({**metrics, "conditions": {**CONDITIONS, "diagnostic": True}}).endswith(", a diagnostic")
    assert weakest_class(metrics) == ("cat", 0.3)
    assert weakest_class({"iou": {"background": 0.9, "dog": None}}) is None


def test_a_diagnostic_is_named_as_such():
    metrics = {"conditions": {**CONDITIONS, "diagnostic": True}, "classes_counted": 4}
    assert "; a diagnostic; " in conditions_text(metrics)
    assert "best threshold 0.31, chosen on these masks: a diagnostic" in conditions_text(
        {**metrics, "best_threshold": 0.31}
    )


@pytest.mark.parametrize(("metrics", "text"), [
    ({"miou": None}, "mIoU -"),
    ({"map": 0.5, "exact_match": 0.25}, "mAP 50.0, exact match 25.0"),
    ({"bytes_per_image": 1234}, "1.2 kB per image"),
    ({"undecided": 0.1, "background": 0.6, "changed": 0.02}, "60.0 % background, 10.0 % undecided, 2.0 % changed"),
    ({"stopped": 0.001}, "0.1 % changed: training skipped, previous network kept"),
    ({"loss": 0.12345}, "loss 0.1235"),
    ({"images": 5}, "5 images"),
    ({}, ""),
])  # fmt: skip
def test_headline(metrics, text):
    assert headline(metrics) == text


def test_percentages():
    assert percent(None) == "-" and percent(0.3891) == "38.9"
    assert mean_and_spread([0.5]) == "50.0" and mean_and_spread([0.5, 0.6]) == "55.0 ± 7.1 (2 seeds)"


def test_an_estimate_has_an_interval_and_names_the_weakest_class():
    iou = {"background": (0.1, 0.0, 0.2), "patch": (0.7, 0.6, 0.8), "inclusion": (0.3, 0.1, 0.5), "pit": None}
    metrics = {"estimate": {"miou": (0.618, 0.554, 0.684), "iou": iou}}
    assert estimate_text(metrics) == "about 62 (55 to 68); weakest class: inclusion"
    assert headline(metrics) == "mIoU about 62 (55 to 68); weakest class: inclusion"
    one = {"estimate": {"miou": (0.618, 0.554, 0.684), "iou": {"background": iou["background"], "pit": iou["patch"]}}}
    assert estimate_text(one) == "about 62 (55 to 68)"
    wide = {"estimate": {"miou": (0.6, 0.40, 0.75), "iou": iou}}
    assert estimate_text(wide) == "between 40 and 75"
    assert estimate_text({"estimate": {"miou": None, "iou": {}}}) == "cannot be estimated: the masks contain no class"
