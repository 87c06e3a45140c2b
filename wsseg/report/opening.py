"""The first line of the page: what was run, and the result with its conditions or what is known without true masks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from wsseg.errors import counted
from wsseg.metrics.wording import estimate_text, mean_and_spread, percent, result_text, values_texts, weakest_class
from wsseg.report.run_report import RunReport


@dataclass(frozen=True)
class Opening:
    """The beginning of the page.

    Args:
        line: the result in a few words; it follows the names of recipe and config.
        terms: the conditions under which the line holds, and what to compare it with; one short text each.
        values: the config values that decide the masks, one text per table; the page folds them.
    """

    line: str
    terms: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)


def opening(report: RunReport) -> Opening:
    """Return the first line: the first of these descriptions that the run has data for."""
    found = next(
        o for describe in (_result, _diagnostic, _estimated, _unmeasured) if (o := describe(report)) is not None
    )
    done = sum(step.state == "complete" for step in report.steps)
    if done == len(report.steps):
        return found
    state = {"running": "not finished"}.get(report.record["status"], report.record["status"])
    if state == "finished":
        state = "incomplete"  # an artifact was removed after the run
    line = f"{state} after {done} of {counted(len(report.steps), 'step')}"
    return replace(found, line=f"{line}; {found.line}" if done else line)


def _result(report: RunReport) -> Opening | None:
    """Describe the masks of held-out images against the true masks."""
    if report.result is None:
        return None
    return Opening(_measured(report.result), _terms(report, report.result), values_texts(report.result["conditions"]))


def _diagnostic(report: RunReport) -> Opening | None:
    """Describe the last evaluated masks of training images, if no held-out image was evaluated."""
    for split in report.splits.values():
        for step, evaluation in reversed(report.reports.items()):
            artifact = report.artifacts[step].manifest["inputs"].get("masks")
            layer = next((x for x in split.of_kind("mask") if x.artifact and x.artifact.key == artifact), None)
            if layer is not None and evaluation["metrics"]["miou"] is not None:
                line = f"{layer.name.replace('_', '-')} {_measured(evaluation)}"
                return Opening(line, _terms(report, evaluation), values_texts(evaluation["conditions"]))
    return None


def _estimated(report: RunReport) -> Opening | None:
    """Describe masks whose quality a step estimated without true masks."""
    estimate = report.last("quality_estimate")
    if estimate is None or estimate.manifest["metrics"]["estimate"]["miou"] is None:
        return None
    metrics = estimate.manifest["metrics"]
    conditions = metrics["conditions"]
    images = counted(conditions["images"], f"{conditions['split']} image")
    return Opening(
        f"mIoU {estimate_text(metrics)}",
        [f"estimated without true masks, for {conditions['masks']} of {images}"],
    )


def _unmeasured(report: RunReport) -> Opening | None:
    """Describe a run without any evaluation of masks."""
    split = report.splits.get("train") or report.splits.get("val")
    if split is None:
        return Opening("no masks yet")
    images = counted(len(split.images), f"{split.images.split} image")
    made = "masks" if split.of_kind("mask") else "seeds"
    line = f"{made} of {images}; no true masks, so the quality is not measured"
    if split.scores is None:
        return Opening(line)
    value = percent(mean(split.scores.images.values()))
    return Opening(line, [f"{split.scores.measure} {value} %: {split.scores.meaning}, which is no IoU with true masks"])


def _measured(evaluation: Mapping[str, Any]) -> str:
    values = {**evaluation["metrics"], "conditions": evaluation["conditions"]}
    weakest = weakest_class(values)
    text = result_text(values)
    return f"{text}; weakest class: {weakest[0]} ({percent(weakest[1])} %)" if weakest else text


def _terms(report: RunReport, evaluation: Mapping[str, Any]) -> list[str]:
    metrics, conditions = evaluation["metrics"], evaluation["conditions"]
    terms = [f"{metrics['classes_counted']} classes with background", f"rng_seed {conditions['rng_seed']}"]
    seeds = [m["miou"] for seed, m in report.siblings.items() if seed != conditions["rng_seed"]]
    if evaluation is report.result:
        if seeds:
            terms.append(f"over all seeds {mean_and_spread([metrics['miou'], *seeds])}")
        if report.ratio is not None and report.bound is not None:
            run, miou = report.bound
            terms.append(f"weak-to-full ratio {report.ratio:.3f} (full supervision: {percent(miou)} %, run {run})")
    return terms
