"""Measure how far estimates of `estimate_quality` are off, on runs whose data sets have true masks.

wsseg run mine.toml -c demo;  wsseg run mine.toml -c demo --set segmenter.epochs=1;  wsseg run mine.toml -c neu_seg ...
python scripts/measure_estimates.py                        # all runs of the store
python scripts/measure_estimates.py --runs RUN_A,RUN_B     # some of them

The recipe mine.toml has the steps of docs/howto/quality.md. Each estimate whose masks were also evaluated is a case. The values of a case (`CORRECTIONS` and `ERROR` of
`wsseg.stages.estimate_quality.estimating`) are fitted on the cases of all *other* data sets, so that no set is judged with
values that have seen it. The last lines are the values fitted on all sets, which the stage uses.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from ablate import markdown
from numpy.typing import NDArray
from scipy.stats import spearmanr

from wsseg.cli.options import Command, open_store, store_option
from wsseg.errors import ArtifactError
from wsseg.stages.estimate_quality.estimating import (
    CORRECTIONS,
    Estimate,
    centres,
    estimate_classes,
    estimate_mean,
    log_odds,
)
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_run

_CLOSE = 0.05  # an estimate is near the truth within so much


class Case(NamedTuple):
    """Masks with an estimate and their true IoU.

    Args:
        name: of the case.
        data: the data set: the name of its config.
        evidence: an IoU by class id of each kind of evidence.
        true: the true IoU by class id; NaN for a class that does not occur.
    """

    name: str
    data: str
    evidence: Mapping[str, NDArray[np.float64]]
    true: NDArray[np.float64]


def cases_of(store: ArtifactStore, run_ids: Sequence[str]) -> list[Case]:
    """Return the cases of some runs. Masks that two runs share are one case."""
    cases: dict[str, Case] = {}
    for run_id in run_ids:
        _, record = find_run(store, run_id)
        steps = [(name, step, store.get(step["key"])) for name, step in record["steps"].items()]
        true = {
            artifact.manifest["inputs"]["masks"]: artifact.manifest["metrics"]["iou"]
            for _, _, artifact in steps
            if artifact is not None and artifact.kind == "report"
        }
        for name, step, artifact in steps:
            masks = step["inputs"].get("masks")
            if artifact is not None and artifact.kind == "quality_estimate" and masks in true:
                evidence = {k: _array(iou) for k, iou in artifact.manifest["metrics"]["evidence"].items()}
                case = Case(f"{run_id} {name}", record["config_name"], evidence, _array(true[masks]))
                cases.setdefault(artifact.key, case)
    return list(cases.values())


def _array(iou: Mapping[str, float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in iou.values()])


def fit(cases: Sequence[Case]) -> dict[str, float]:
    """Return the correction of each kind of evidence: the mean over data sets of the mean difference to the truth in log odds."""
    corrections = {}
    for kind in CORRECTIONS:
        by_set: dict[str, list[float]] = {}
        for case in (case for case in cases if kind in case.evidence):
            difference = log_odds(case.true) - log_odds(case.evidence[kind])
            by_set.setdefault(case.data, []).extend(difference[~np.isnan(difference)].tolist())
        means = [float(np.mean(values)) for values in by_set.values() if values]
        if means:
            corrections[kind] = float(np.mean(means))
    return corrections


def error_on_other_sets(cases: Sequence[Case]) -> float:
    """Return the root mean square error in log odds of classes whose data set was left out of the fit; 1 with a single set."""
    errors = []
    for case in cases:
        others = [other for other in cases if other.data != case.data]
        if others:
            mean, _ = centres(case.evidence, fit(others))
            errors += (log_odds(case.true) - mean).tolist()
    return float(np.sqrt(np.nanmean(np.square(errors)))) if errors else 1.0


def judged(case: Case, cases: Sequence[Case]) -> tuple[list[Estimate | None], Estimate]:
    """Return the estimates of a case by class and of the mean, with values that were fitted on the other data sets."""
    others = [other for other in cases if other.data != case.data]
    estimates = estimate_classes(case.evidence, fit(others), error_on_other_sets(others))
    estimates = [None if np.isnan(true) else e for e, true in zip(estimates, case.true, strict=True)]
    mean = estimate_mean(estimates)
    if mean is None:
        raise ArtifactError(f"{case.name}: no class has both a true IoU and an estimate")
    return estimates, mean


def rank_correlation(estimates: Sequence[Estimate | None], true: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation over the foreground classes; NaN with fewer than three."""
    pairs = [(e[0], t) for e, t in zip(estimates[1:], true[1:], strict=True) if e is not None]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else float("nan")


def table(cases: Sequence[Case]) -> tuple[list[str], list[list[str]], str]:
    """Return header and rows of all cases, and a line that sums them up."""
    rows, near, inside, all_pairs = [], 0, 0, []
    for case in cases:
        estimates, (value, low, high) = judged(case, cases)
        true = float(np.nanmean(case.true))
        near += abs(value - true) <= _CLOSE
        inside += low <= true <= high
        all_pairs += [(e[0], t) for e, t in zip(estimates[1:], case.true[1:], strict=True) if e is not None]
        texts = [f"{100 * v:.0f}" for v in (true, value, low, high)]
        rank = f"{rank_correlation(estimates, case.true):.2f}"
        rows.append([case.name, case.data, texts[0], f"{texts[1]} ({texts[2]} to {texts[3]})", rank])
    rank = float(spearmanr(*zip(*all_pairs, strict=True)).statistic)
    summary = (
        f"{near} of {len(cases)} within {100 * _CLOSE:.0f} points, {inside} inside their interval; "
        f"rank correlation over the {len(all_pairs)} foreground classes of all cases {rank:.2f}"
    )
    return ["case", "data set", "true mIoU", "estimate", "rank correlation"], rows, summary


@click.command(cls=Command)
@click.option("--runs", default="", help="Runs, separated by commas; by default all of the store.")
@store_option
def main(runs: str, store: Path) -> None:
    """Measure estimates against true masks."""
    opened = open_store(store)
    cases = cases_of(opened, runs.split(",") if runs else list(opened.runs()))
    if len({case.data for case in cases}) < 2:
        raise ArtifactError(
            f"{store}: found {len(cases)} estimates with true masks, of fewer than two data sets; "
            "expected: runs of a recipe with estimate_quality on two or more configs with masks"
        )
    header, rows, summary = table(cases)
    click.echo(markdown(header, rows))
    click.echo(summary)
    corrections = {kind: round(value, 2) for kind, value in fit(cases).items()}
    click.echo(f"CORRECTIONS = {corrections}\nERROR = {error_on_other_sets(cases):.2f}")


if __name__ == "__main__":
    main()
