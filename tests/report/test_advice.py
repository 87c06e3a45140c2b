"""Three things to do, each with its figure and a command that wsseg understands."""

import shlex
from dataclasses import replace

import pytest

from tests.report.conftest import report_of
from wsseg.cli.main import cli
from wsseg.metrics.errors import ClassPixels
from wsseg.report import advice as module
from wsseg.report.advice import RULES, advice, run_command


def texts(report):
    return [one.text for one in advice(report)]


def test_every_command_is_one_of_wsseg(runs):
    """Options and commands exist; the values of --set are checked by the plan."""
    reports = [
        report_of(runs),
        report_of(runs, truth=False),
        report_of(runs, run=runs.full),
        report_of(runs, missing=["segmenter"]),
    ]
    found = {one.command: one for report in reports for _, rule in RULES if (one := rule(report)) is not None}
    assert len(found) >= 6
    for one in found.values():
        program, name, *words = shlex.split(one.command)
        command = cli.commands[name]
        command.make_context(name, words, resilient_parsing=True)
        assert program == "wsseg" and one.figure and len(one.figure) < 160 and len(one.text) < 100


@pytest.mark.parametrize("truth", [True, False])
def test_three_at_most_with_different_commands(runs, truth):
    found = advice(report_of(runs, truth=truth))
    assert 1 <= len(found) <= 3 and len({one.command for one in found}) == len(found)


def test_two_rules_do_not_change_one_value(monkeypatch):
    one, other = (module.Advice(text, "", text) for text in ("lower it", "raise it"))
    monkeypatch.setattr(
        module, "RULES", [("level", lambda _: None), ("level", lambda _: one), ("level", lambda _: other)]
    )
    assert advice(None) == [one]


def test_an_unfinished_run_is_resumed_first(runs):
    first = advice(report_of(runs, missing=["segmenter", "predictions", "evaluation"]))[0]
    assert first.figure == "6 of 9 steps are complete; next: segmenter"
    assert shlex.split(first.command)[:3] == ["wsseg", "run", "cam_crf"] and "tiny.toml" in first.command


def test_without_truth_nothing_is_said_about_iou(runs):
    report = report_of(runs, truth=False)
    assert not any("IoU" in one.figure for _, rule in RULES if (one := rule(report)) is not None)
    assert any("Correct some masks" in text for text in texts(report))


def test_masks_that_cover_whole_images_raise_the_level(runs):
    report = report_of(runs, run=runs.changed, truth=False)  # one level, 0.8
    split = report.splits["train"]
    for areas, expected in (([0.2, 0.9, 0.7], True), ([0.2, 0.9, 0.3], False)):
        values = {1: {"a": 0.1}, 2: dict(zip("abc", areas, strict=True))}
        report.splits["train"] = replace(split, scores=replace(split.scores, areas=values))
        one = module._area(report)
        assert (one is not None) is expected
        if one:
            assert "half of its masks cover 70 %" in one.figure and "pseudo_masks.levels=[0.90]" in one.command


def test_masks_alone_lead_to_a_network(runs):
    report = report_of(runs, steps=("classifier", "seeds", "seed_quality", "pseudo_masks", "pseudo_mask_quality"))
    assert any("Train a network" in text for text in texts(report))


def test_a_class_that_is_missed_lowers_the_level(runs):
    """One level, and a class whose pixels are missed; then one that spills, then one of another class."""
    report = report_of(runs, run=runs.changed)  # one level, 0.8
    split = report.splits["val"]
    for kind, text, level in (("missed", "Lower", "[0.53]"), ("spill", "Raise", "[0.90]")):
        pixels = [ClassPixels(hits=100), ClassPixels(hits=10, **{kind: 90}), ClassPixels(hits=50, missed=50)]
        quality = replace(split.quality)
        quality.__dict__["by_class"] = pixels  # instead of the cached property
        report.splits["val"] = replace(split, quality=quality)
        one = module._weakest(report)
        assert one.text.startswith(text) and f"pseudo_masks.levels={level}" in one.command
        assert one.figure.startswith(f"{split.images.classes.names[0]}: IoU 10.0 % on val; 100 % of its wrong pixels")


def test_a_network_whose_loss_still_falls_trains_longer(runs):
    report = report_of(runs)
    network = next(step for step in report.steps if step.name == "segmenter")
    for losses, expected in (((1.0, 0.8, 0.6), True), ((1.0, 0.6, 0.59), False), ((1.0,), False)):
        report.steps[report.steps.index(network)] = network = replace(network, history={"loss": losses})
        one = module._loss(report)
        assert (one is not None) is expected
        if one:
            assert "25 % in the last of 3 epochs" in one.figure and "segmenter.epochs=6" in one.command


def test_names_are_quoted_for_a_shell(runs):
    report = report_of(runs, config_path="/a folder/it's; mine.toml")
    assert shlex.split(run_command(report))[:5] == ["wsseg", "run", "cam_crf", "-c", "/a folder/it's; mine.toml"]
