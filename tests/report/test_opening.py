"""The first line says what was run, and the result or what is known without one."""

from types import SimpleNamespace

from tests.report.conftest import report_of
from wsseg.metrics.wording import percent
from wsseg.report.opening import opening

MASKS_ONLY = ("classifier", "seeds", "pseudo_masks")


def test_a_result_with_its_conditions(runs):
    report = report_of(runs)
    found, metrics = opening(report), report.result["metrics"]
    assert found.line.startswith(f"mIoU {percent(metrics['miou'])} % on 6 val images; weakest class: ")
    assert "3 classes with background" in found.terms and "rng_seed 3" in found.terms
    assert any(term.startswith(f"weak-to-full ratio {report.ratio:.3f}") for term in found.terms)


def test_masks_of_training_images_are_a_diagnostic(runs):
    found = opening(report_of(runs, steps=(*MASKS_ONLY, "seed_quality", "pseudo_mask_quality")))
    assert found.line.startswith("pseudo-masks mIoU ") and "on 12 train images, a diagnostic" in found.line


def test_without_truth_the_line_states_no_quality(runs):
    found = opening(report_of(runs, truth=False))
    assert found.line == "masks of 12 train images; no true masks, so the quality is not measured"
    assert found.terms[0].startswith("agreement ") and found.terms[0].endswith(", which is no IoU with true masks")


def test_an_estimate_without_truth_has_its_interval(runs):
    report = report_of(runs, truth=False)
    conditions = {"split": "train", "images": 12, "masks": "pseudo_masks"}
    estimate = {
        "miou": [0.62, 0.55, 0.68],
        "iou": {"background": [0.9, 0.8, 1], "a": [0.5, 0.4, 0.6], "b": [0.4, 0.3, 0.6]},
    }
    metrics = {"estimate": estimate, "conditions": conditions}
    report.artifacts["quality_estimate"] = SimpleNamespace(kind="quality_estimate", manifest={"metrics": metrics})
    found = opening(report)
    assert found.line == "mIoU about 62 (55 to 68); weakest class: b"
    assert found.terms == ["estimated without true masks, for pseudo_masks of 12 train images"]
    metrics["estimate"] = {"miou": None, "iou": {}}
    assert "the quality is not measured" in opening(report).line


def test_seeds_alone(runs):
    assert opening(report_of(runs, truth=False, steps=MASKS_ONLY[:2])).line.startswith(
        "seeds of 12 train images; no true masks"
    )


def test_an_interrupted_run_says_how_far_it_came(runs):
    steps = MASKS_ONLY
    report = report_of(runs, truth=False, steps=steps, missing=["pseudo_masks"], status="interrupted")
    assert opening(report).line.startswith("interrupted after 2 of 3 steps; seeds of 12 train images; no true masks")
    nothing = report_of(runs, truth=False, steps=steps, missing=steps, status="running")
    assert opening(nothing).line == "not finished after 0 of 3 steps"
