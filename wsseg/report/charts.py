"""The page's charts as SVG, drawn by matplotlib; text stays text and takes the page's colour, so that dark mode works."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsseg.metrics.objects import SIZES
from wsseg.metrics.wording import percent
from wsseg.report.appearance import BLUE, ERRORS, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from wsseg.report.quality import MaskQuality, SeedCurves
from wsseg.report.run_report import RunReport, StepFacts

_TEXT = "#010203"  # placeholder of the page's text colour
_SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": _TEXT, "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "text.parse_math": False,
}  # fmt: skip


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """Return an SVG element; `name` makes its ids unique in the page and equal from run to run."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_TEXT, "currentColor")
    # matplotlib gives ids such as figure_1 to every chart, and ids must be unique in a page
    for start in ('id="', 'href="#', "url(#"):
        text = text.replace(start, f"{start}{name}-")
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def charts(report: RunReport) -> list[dict[str, str]]:
    """Return the charts that the run has data for: ``name``, ``title``, ``svg``, and ``text`` that describes the chart."""
    drawn: list[dict[str, str]] = []

    def add(name: str, title: str, text: str, figure: Figure | None) -> None:
        if figure is not None:
            drawn.append({"name": name, "title": title, "text": text, "svg": _svg(figure, name)})

    with matplotlib.rc_context(_SETTINGS):
        add(
            "iou",
            "IoU by class",
            "Every evaluated step. Dots are runs of the same config with other seeds.",
            iou(report),
        )
        for name, split in report.splits.items():
            if split.quality:
                add(
                    f"confusion-{name}", f"Confusion matrix, {split.evaluated} on {name}",
                    "Percentage of the pixels of each true class (row) that are predicted as each class (column).",
                    confusion_matrix(split.quality),
                )  # fmt: skip
                add(
                    f"errors-{name}", f"Errors by class, {split.evaluated} on {name}",
                    "Wrong pixels as a percentage of the union of the class in truth and mask.",
                    errors(split.quality),
                )  # fmt: skip
                add(
                    f"sizes-{name}", f"Errors by object size, {split.evaluated} on {name}",
                    "Wrong pixels as a percentage of the pixels of small (under 32 x 32 px), medium (up to 96 x 96 px) and large "
                    "objects. The number of objects is in parentheses.",
                    sizes(split.quality),
                )  # fmt: skip
            if split.seeds:
                add(
                    f"threshold-{name}", f"Seeds by background threshold, {name}",
                    "Precision and recall of the foreground, and mIoU, if all values below the threshold are background.",
                    thresholds(split.seeds),
                )  # fmt: skip
                add(
                    f"calibration-{name}", f"Calibration of the seeds, {name}",
                    "Fraction of pixels that have the seed's class, by the seed's value. The area of a dot is the fraction of pixels.",
                    calibration({step: curves.calibration for step, curves in _ends(split.seeds)}, "value of the seed"),
                )  # fmt: skip
        calibrated = {name: r for name, r in report.reports.items() if "calibration_error" in r["metrics"]}
        if calibrated:
            error = ", ".join(
                f"{percent(r['metrics']['calibration_error'])} % ({name})" for name, r in calibrated.items()
            )
            add(
                "calibration-network", "Calibration of the network",
                "Fraction of correct pixels by the confidence of the network (after its CRF). The area of a dot is the fraction of "
                f"pixels. The network is overconfident where the curve is below the line. Expected calibration error: {error}.",
                calibration({name: r["calibration"] for name, r in calibrated.items()}, "confidence"),
            )  # fmt: skip
        add(
            "training", "Training",
            "Top: mean loss of each epoch, relative to the first epoch. Bottom: scores on the training crops: F1 of a "
            "classifier, mIoU of a segmenter against its training masks, fraction of correct pairs of pixels for affinities.",
            training(report.steps),
        )  # fmt: skip
        add(
            "cost",
            "Time and disk space by step",
            "Minutes of computation (bars) and size of the artifact.",
            cost(report.steps),
        )
    return drawn


def iou(report: RunReport) -> Figure | None:
    """Draw bars of IoU by class, one colour per evaluated step, and dots for other seeds of the result."""
    evaluated = {name: r["metrics"] for name, r in report.reports.items() if r["metrics"]["miou"] is not None}
    if not evaluated:
        return None
    names = list(next(iter(evaluated.values()))["iou"])
    shown = dict([*list(evaluated.items())[:1], *list(evaluated.items())[-3:]]) if len(evaluated) > 4 else evaluated
    figure, axes = _figure(6.5, max(2.5, (0.17 * len(shown) + 0.15) * len(names) + 1))
    height = 0.8 / len(shown)
    for index, (step, metrics) in enumerate(shown.items()):
        values = [100 * (metrics["iou"][n] or 0) for n in names]
        places = np.arange(len(names)) + (index - (len(shown) - 1) / 2) * height
        label = f"{step} ({percent(metrics['miou'])})"
        axes.barh(places, values, height, color=(SKY, ORANGE, PURPLE, BLUE)[index % 4], label=label)
        if metrics is (report.result or {}).get("metrics"):
            for sibling in report.siblings.values():
                axes.plot([100 * (sibling["iou"].get(n) or 0) for n in names], places, "o", ms=3, color=VERMILION)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("IoU in percent")
    axes.set_xlim(0, 100)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9)
    return figure


def confusion_matrix(quality: MaskQuality) -> Figure:
    """Draw the confusion matrix as percentages of each row."""
    names = [*quality.classes.with_background]
    counts = quality.confusion.astype(float)
    columns = [*names]
    if counts[:, -1].any():
        columns.append("undecided")
    else:
        counts = counts[:, :-1]
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(max(4.5, 0.62 * len(columns) + 2), max(3, 0.5 * len(names) + 1.4))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    if len(names) <= 25:
        for row, column in np.ndindex(share.shape):
            dark = share[row, column] > 50
            axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=8,
                      color="#ffffff" if dark else "#222222")  # fmt: skip
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def errors(quality: MaskQuality) -> Figure:
    """Draw stacked bars of each kind of error, relative to the union of the class."""
    names = quality.classes.names
    pixels = quality.by_class[1:]
    figure, axes = _figure(6.5, max(2.2, 0.36 * len(names) + 1.2))
    left = np.zeros(len(names))
    for kind in ERRORS:
        values = np.array([100 * getattr(p, kind.name) / max(p.hits + p.errors, 1) for p in pixels])
        if values.any():
            axes.barh(range(len(names)), values, left=left, color=kind.colour, label=kind.label)
        left += values
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("percent of the union")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize=9)
    return figure


def sizes(quality: MaskQuality) -> Figure | None:
    """Draw stacked bars by object size: missed pixels and pixels of another class."""
    rows = []
    for size in SIZES:
        by_class = [by_size[size] for by_size in quality.objects.values()]
        objects, pixels, missed, wrong = (
            sum(counts[measure] for counts in by_class) for measure in ("objects", "pixels", "missed", "wrong")
        )
        if pixels:
            rows.append((f"{size} ({objects})", 100 * missed / pixels, 100 * wrong / pixels))
    if not rows:
        return None
    figure, axes = _figure(6.5, 2.2)
    places = range(len(rows))
    axes.barh(places, [r[1] for r in rows], color=SKY, label="missed or undecided")
    axes.barh(places, [r[2] for r in rows], left=[r[1] for r in rows], color=VERMILION, label="wrong class")
    axes.set_yticks(places, [r[0] for r in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("percent of the objects' pixels")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9)
    return figure


def thresholds(seeds: Mapping[str, SeedCurves]) -> Figure:
    """Draw curves over the threshold: solid for the last seeds, dashed for the first."""
    figure, axes = _figure(6.5, 3.2)
    for (step, curves), style in zip(_ends(seeds), ("-", "--"), strict=False):
        for values, colour, measure in (
            (curves.miou, BLUE, "mIoU"), (curves.precision, ORANGE, "precision"), (curves.recall, GREEN, "recall"),
        ):  # fmt: skip
            axes.plot(curves.thresholds, 100 * np.array(values), style, color=colour, label=f"{measure}, {step}")
    axes.set_xlabel("background threshold")
    axes.set_ylabel("percent")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def calibration(by_step: Mapping[str, Sequence[tuple[float, float, int]]], value: str) -> Figure:
    """Draw the fraction of correct pixels by a value, one colour per step; the area of a dot is its fraction of pixels."""
    figure, axes = _figure(5, 3.2)
    axes.plot([0, 1], [0, 100], color=GREY, lw=1)
    for (step, ranges), colour in zip(by_step.items(), (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        points = np.array(ranges, float).reshape(-1, 3)
        share = points[:, 2] / max(points[:, 2].sum(), 1)
        axes.plot(points[:, 0], 100 * points[:, 1], color=colour, lw=1)
        axes.scatter(points[:, 0], 100 * points[:, 1], s=8 + 300 * share, color=colour, label=step)
    axes.set_xlabel(value)
    axes.set_ylabel("percent correct")
    axes.legend(fontsize=9, markerscale=0.6)
    return figure


def _ends(seeds: Mapping[str, SeedCurves]) -> list[tuple[str, SeedCurves]]:
    """Return the last seeds and, if there are several, the first."""
    items = list(seeds.items())
    return [items[-1], items[0]] if len(items) > 1 else items


def training(steps: Sequence[StepFacts]) -> Figure | None:
    """Draw the losses of all trainings by epoch, and their scores below."""
    curves = {s.name: s.history for s in steps if s.history}
    if not curves:
        return None
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    losses, scores = figure.subplots(2, sharex=True)
    for (name, history), colour in zip(
        curves.items(), (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, GREY) * 9, strict=False
    ):
        for measure, values in history.items():
            epochs = range(1, len(values) + 1)
            if measure == "loss":
                first = next((v for v in values if v and math.isfinite(v)), 1.0)
                losses.plot(epochs, [v / first for v in values], ".-", color=colour, label=name)
            else:
                scores.plot(epochs, [100 * v for v in values], ".-", color=colour, label=f"{name}, {measure}")
    losses.set_ylabel("relative loss")
    losses.set_ylim(bottom=0)
    scores.set_ylabel("percent, on training crops")
    scores.set_xlabel("epoch")
    scores.set_ylim(0, 100)
    for axes in (losses, scores):
        if axes.lines:  # old artifacts have losses only
            axes.legend(fontsize=9)
    return figure


def cost(steps: Sequence[StepFacts]) -> Figure | None:
    """Draw bars of minutes with the size at their ends."""
    complete = [s for s in steps if s.state == "complete"]
    if not complete:
        return None
    figure, axes = _figure(6.5, max(2, 0.3 * len(complete) + 0.8))
    minutes = [s.seconds / 60 for s in complete]
    axes.barh(range(len(complete)), minutes, color=BLUE)
    for place, step in enumerate(complete):
        text = f" {minutes[place]:.1f} min, {step.size / 2**20:.1f} MiB"
        axes.text(minutes[place], place, text, va="center", fontsize=8)
    axes.set_yticks(range(len(complete)), [s.name for s in complete])
    axes.invert_yaxis()
    axes.set_xlabel("minutes")
    axes.set_xlim(0, max(1.45 * max(minutes), 1e-3))
    return figure
