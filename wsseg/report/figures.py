"""The figures of the page in groups that fold: classes, errors, trainings, calibration, time and disk.

Each function of `GROUPS` returns one group, or None if the run has no data for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsseg.metrics.wording import percent
from wsseg.report import charts
from wsseg.report.recipe_graph import Graph, cost_text, drawn_recipe
from wsseg.report.run_report import RunReport


@dataclass(frozen=True)
class Chart:
    """One chart.

    Args:
        name: unique in the page.
        title: what it shows.
        text: how to read it, in one or two sentences.
        svg: the SVG element.
    """

    name: str
    title: str
    text: str
    svg: str


@dataclass(frozen=True)
class Table:
    """One table; the first cell of a row is its name.

    Args:
        title: what it shows.
        header: names of the columns.
        rows: texts by column.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Group:
    """One group of figures.

    Args:
        name: unique in the page.
        title: of the group.
        figure: the figure of the group that matters most; it is shown while the group is folded.
        charts: its charts.
        tables: its tables.
        graph: the drawn recipe.
        config: the run's values by key.
        opened: whether the page shows it unfolded.
    """

    name: str
    title: str
    figure: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    graph: Graph | None = None
    config: Sequence[tuple[str, str]] = field(default=())
    opened: bool = False


def groups(report: RunReport) -> list[Group]:
    """Return the groups that the run has data for."""
    with charts.page_style():
        return [group for make in GROUPS if (group := make(report)) is not None]


def _chart(name: str, title: str, text: str, figure: Any) -> list[Chart]:
    """Return the chart of a figure in a list, or an empty list without a figure."""
    return [Chart(name, title, text, charts.svg(figure, name))] if figure is not None else []


def _classes(report: RunReport) -> Group | None:
    drawn = _chart(
        "iou",
        "IoU by class",
        "Every evaluated step. Dots are runs of the same config with other seeds.",
        charts.iou(report),
    )
    figure = ""
    for name, split in report.splits.items():
        if split.scores is not None and split.quality is None:
            measure = split.scores.measure
            drawn += _chart(
                f"{measure}-{name}", f"{measure.capitalize()} by class, {name}",
                f"Images of each class: the median, and the range of 80 % of them. It is {split.scores.meaning}.",
                charts.spread(split.scores, split.images.classes.with_background, measure),
            )  # fmt: skip
    table = _metrics(report)
    if table is not None:
        figure = f"mIoU {table.rows[-1][-3]} % ({table.rows[-1][0]})"
    return Group("classes", "Classes", figure, drawn, [table] if table else [], opened=True) if drawn else None


def _metrics(report: RunReport) -> Table | None:
    """Return the table of all metrics: one row per evaluated step."""
    reports = {name: r for name, r in report.reports.items() if r["metrics"]["miou"] is not None}
    if not reports:
        return None
    names = list(next(iter(reports.values()))["metrics"]["iou"])
    rows = []
    for step, evaluation in reports.items():
        metrics, conditions = evaluation["metrics"], evaluation["conditions"]
        note = "diagnostic" if conditions["diagnostic"] else "result"
        if "best_threshold" in metrics:
            note = f"diagnostic, best threshold {metrics['best_threshold']:.2f}"
        by_class = [percent(metrics["iou"].get(n)) for n in names]
        rows.append([step, *by_class, percent(metrics["miou"]), conditions["split"], note])
    return Table("IoU in percent", ["step", *names, "mean", "split", "kind"], rows)


def _errors(report: RunReport) -> Group | None:
    drawn: list[Chart] = []
    figure = ""
    for name in ("val", "train"):  # held-out images first
        split = report.splits.get(name)
        if split is None or split.quality is None:
            continue
        where = f"{split.evaluated} on {name}"
        wrong = [image.shares for image in split.quality.images]
        if not figure and wrong:
            share = sum(sum(shares) for shares in wrong) / len(wrong)
            figure = f"{percent(share)} % of the pixels are wrong ({where})"
        drawn += _chart(
            f"errors-{name}", f"Errors by class, {where}",
            "Wrong pixels in percent of the union of the class in truth and mask.", charts.errors(split.quality),
        )  # fmt: skip
        drawn += _chart(
            f"confusion-{name}", f"Confusion matrix, {where}",
            "Percentage of the pixels of each true class (row) that are predicted as each class (column).",
            charts.confusion_matrix(split.quality),
        )  # fmt: skip
        drawn += _chart(
            f"sizes-{name}", f"Errors by object size, {where}",
            "Wrong pixels of small (under 32 x 32 px), medium (up to 96 x 96 px) and large objects; their number in parentheses.",
            charts.sizes(split.quality),
        )  # fmt: skip
    return Group("errors", "Errors", figure, drawn) if drawn else None


def _trainings(report: RunReport) -> Group | None:
    drawn = _chart(
        "training", "Losses and scores by epoch",
        "Top: mean loss, relative to the first epoch. Bottom: scores on the training crops (F1 of a classifier, mIoU of a "
        "segmenter against its training masks, correct pairs of pixels for affinities).",
        charts.training(report.steps),
    )  # fmt: skip
    trained = ", ".join(step.name for step in report.steps if step.history)
    precisions = [
        Table(
            f"Average precision of the classifier in percent ({step.name})", ["metric", *step.metrics["ap"], "mean"],
            [["average precision", *(percent(ap) for ap in step.metrics["ap"].values()), percent(step.metrics["map"])]],
        )
        for step in report.steps if "map" in step.metrics
    ]  # fmt: skip
    return Group("trainings", "Trainings", trained, drawn, precisions) if drawn or precisions else None


def _calibration(report: RunReport) -> Group | None:
    drawn: list[Chart] = []
    calibrated = {name: r for name, r in report.reports.items() if "calibration_error" in r["metrics"]}
    errors = ", ".join(f"{percent(r['metrics']['calibration_error'])} % ({name})" for name, r in calibrated.items())
    if calibrated:
        drawn += _chart(
            "calibration-network", "Calibration of the network",
            "Fraction of correct pixels by the network's confidence. The network is overconfident where the curve is below the "
            "line. The area of a dot is the fraction of pixels.",
            charts.calibration({name: r["calibration"] for name, r in calibrated.items()}, "confidence"),
        )  # fmt: skip
    for name, split in report.splits.items():
        if not split.seeds:
            continue
        drawn += _chart(
            f"threshold-{name}", f"Seeds by background threshold, {name}",
            "Precision and recall of the foreground, and mIoU, if all values below the threshold are background.",
            charts.thresholds(split.seeds),
        )  # fmt: skip
        ends = charts.ends(split.seeds)
        drawn += _chart(
            f"calibration-{name}", f"Calibration of the seeds, {name}",
            "Fraction of pixels that have the seed's class, by the seed's value. The area of a dot is the fraction of pixels.",
            charts.calibration({step: curves.calibration for step, curves in ends}, "value of the seed"),
        )  # fmt: skip
    figure = f"expected calibration error {errors}" if errors else ""
    return Group("calibration", "Calibration", figure, drawn) if drawn else None


def _cost(report: RunReport) -> Group | None:
    rows = [[s.name, s.stage, s.state, cost_text(s), ", ".join(s.needs)] for s in report.steps]
    drawn = _chart(
        "cost", "Time and disk space by step", "Minutes (bars) and size of the artifact.", charts.cost(report.steps)
    )
    seconds, size = (sum(getattr(step, what) for step in report.steps) for what in ("seconds", "size"))
    return Group(
        "cost", "Time and disk", f"{seconds / 60:.1f} min, {size / 2**20:.0f} MiB", drawn,
        [Table("Steps", ["step", "stage", "state", "time and size", "needs"], rows)],
        drawn_recipe(report.steps), list(flat(report.record["config"])),
    )  # fmt: skip


def flat(table: Any, prefix: str = "") -> "list[tuple[str, str]]":
    """Return (dotted key, value) of each value of a config."""
    values: list[tuple[str, str]] = []
    for key, value in table.items():
        values += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", str(value))]
    return values


GROUPS: Sequence[Callable[[RunReport], Group | None]] = (_classes, _errors, _trainings, _calibration, _cost)
