"""The page's charts as SVG, drawn by matplotlib; text stays text and takes the page's colour, so that dark mode works.

`wsseg.report.figures` says where each of them is shown.
"""

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsseg.metrics.objects import SIZES
from wsseg.metrics.wording import percent
from wsseg.report.appearance import BLUE, ERRORS, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from wsseg.report.quality import MaskQuality, Scores, SeedCurves
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


def page_style() -> AbstractContextManager[None]:
    """Return a context in which figures get the page's fonts and colours."""
    return matplotlib.rc_context(_SETTINGS)


def svg(figure: Figure, name: str) -> str:
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


def spread(scores: Scores, names: Sequence[str], measure: str) -> Figure:
    """Draw the median of each class as a dot, and the range of 80 % of its images as a line; the lowest class is on top."""
    values = {names[k]: 100 * np.array(list(by_id.values())) for k, by_id in scores.classes.items() if by_id}
    ranked = sorted(values, key=lambda name: float(np.median(values[name])))
    figure, axes = _figure(6.5, max(1.6, 0.36 * len(ranked) + 0.9))
    for place, name in enumerate(ranked):
        low, middle, high = np.percentile(values[name], (10, 50, 90))
        axes.plot([low, high], [place, place], color=SKY, lw=5, solid_capstyle="round")
        axes.plot([middle], [place], "o", ms=8, color=BLUE)
        axes.text(middle, place - 0.24, f"{middle:.0f}", ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(ranked)), [f"{name} ({len(values[name])})" for name in ranked])
    axes.set_ylim(len(ranked) - 0.5, -0.7)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{measure} in percent")
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
    for (step, curves), style in zip(ends(seeds), ("-", "--"), strict=False):
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


def ends(seeds: Mapping[str, SeedCurves]) -> list[tuple[str, SeedCurves]]:
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
