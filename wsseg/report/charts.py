"""The page's figures as SVG, by matplotlib; text stays text and takes the page's colour, so that it is readable in the dark."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wsseg.report.contents import RunReport, StepFacts
from wsseg.report.judging import SIZES, Judgement, SeedCurves

# Okabe & Ito (2008): told apart by colour-blind people, on white and on black
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7", "#8c8c8c",
)  # fmt: skip
_TEXT = "#010203"  # stands for the page's own text colour, and is replaced by it
_SETTINGS: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": _TEXT, "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "text.parse_math": False,
}  # fmt: skip


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """Return an SVG element; `name` keeps its ids apart from those of other figures, and the same from run to run."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_TEXT, "currentColor")
    # ids such as figure_1 are equal in all figures, and a page must not have one twice
    for word in ('id="', 'href="#', "url(#"):
        text = text.replace(word, f"{word}{name}-")
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def charts(contents: RunReport) -> list[dict[str, str]]:
    """Return the figures that this run has data for: ``name``, ``title``, ``svg`` and ``text``, what it shows in words."""
    found: list[dict[str, str]] = []

    def add(name: str, title: str, text: str, figure: Figure | None) -> None:
        if figure is not None:
            found.append({"name": name, "title": title, "text": text, "svg": _svg(figure, name)})

    with matplotlib.rc_context(_SETTINGS):
        add("iou", "IoU by class", "Every step that was judged; dots are other seeds of the same run.", iou(contents))
        for split in contents.splits.values():
            name, judgement = split.images.split, split.judgement
            if judgement and judgement.counts.size:
                add(
                    f"confusion-{name}", f"Confusion, {split.judged} on {name}",
                    "Of the pixels of each true class (row), the percentage that was given each class.",
                    confusion_matrix(judgement),
                )  # fmt: skip
                add(
                    f"errors-{name}", f"Errors by class, {split.judged} on {name}",
                    "Pixels that are wrong, as a share of the pixels that truth or mask have of the class.",
                    errors(judgement),
                )  # fmt: skip
                add(
                    f"sizes-{name}", f"Errors by size of object, {split.judged} on {name}",
                    "Of the pixels of objects of each size (under 32 x 32 px, up to 96 x 96 px, larger), the share that is wrong.",
                    sizes(judgement),
                )  # fmt: skip
            if split.seeds:
                add(
                    f"threshold-{name}", f"Seeds over the background threshold, {name}",
                    "Precision and recall of the foreground, and mIoU, where all below a threshold is background.",
                    thresholds(split.seeds),
                )  # fmt: skip
                add(
                    f"calibration-{name}", f"Calibration of the seeds, {name}",
                    "How often a pixel has the class that its seed says, by the seed's value; dots are as large as their share.",
                    calibration({step: curves.calibration for step, curves in _ends(split.seeds)}, "value of the seed"),
                )  # fmt: skip
        sure = {name: r["calibration"] for name, r in contents.reports.items() if "calibration" in r}
        if sure:
            error = ", ".join(f"{100 * contents.reports[n]['metrics']['calibration_error']:.1f} % ({n})" for n in sure)
            add(
                "calibration-network", "Calibration of the network",
                "How often a pixel has the class that it was given, by how sure the network (and its CRF) was of it; dots are as large as their "
                f"share. Below the line it is too sure. Expected calibration error: {error}.",
                calibration(sure, "confidence"),
            )  # fmt: skip
        add(
            "training", "Training",
            "Mean loss of each epoch, over the first epoch's, and what the network achieved on the crops that it learnt from: "
            "F1 of a classifier, mIoU of a segmenter with its own masks, pairs of pixels told right by affinities.",
            training(contents.steps),
        )  # fmt: skip
        add(
            "cost",
            "Time and disk by step",
            "Minutes of computation (bars) and size of the result.",
            cost(contents.steps),
        )
    return found


def iou(contents: RunReport) -> Figure | None:
    """Bars of IoU by class, one colour a judged step, and dots for other seeds of the result."""
    reports = {name: r["metrics"] for name, r in contents.reports.items() if r["metrics"]["miou"] is not None}
    if not reports:
        return None
    names = list(next(iter(reports.values()))["iou"])
    shown = dict([*list(reports.items())[:1], *list(reports.items())[-3:]]) if len(reports) > 4 else reports
    figure, axes = _figure(6.5, max(2.5, (0.17 * len(shown) + 0.15) * len(names) + 1))
    height = 0.8 / len(shown)
    for index, (step, metrics) in enumerate(shown.items()):
        values = [100 * (metrics["iou"][n] or 0) for n in names]
        places = np.arange(len(names)) + (index - (len(shown) - 1) / 2) * height
        label = f"{step} ({100 * metrics['miou']:.1f})"
        axes.barh(places, values, height, color=(SKY, ORANGE, PURPLE, BLUE)[index % 4], label=label)
        if metrics is (contents.result or {}).get("metrics"):
            for other in contents.siblings.values():
                axes.plot([100 * (other["iou"].get(n) or 0) for n in names], places, "o", ms=3, color=VERMILION)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("IoU in percent")
    axes.set_xlim(0, 100)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9)
    return figure


def confusion_matrix(judgement: Judgement) -> Figure:
    """A table of percentages, each row over its sum."""
    names = [*judgement.classes.with_background]
    counts = judgement.counts.astype(float)
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
    axes.set_xlabel("given")
    axes.set_ylabel("true")
    return figure


def errors(judgement: Judgement) -> Figure:
    """Stacked bars: missed, spill, wrong class, undecided, each over the class's union."""
    names = judgement.classes.names
    found = [judgement.errors(k) for k in range(1, len(names) + 1)]
    figure, axes = _figure(6.5, max(2.2, 0.36 * len(names) + 1.2))
    left = np.zeros(len(names))
    for kind, colour, word in (
        ("missed", SKY, "missed"), ("spill", ORANGE, "spill"), ("wrong", VERMILION, "wrong class"), ("undecided", GREY, "undecided"),
    ):  # fmt: skip
        values = np.array([100 * getattr(e, kind) / max(e.hits + e.errors, 1) for e in found])
        if values.any():
            axes.barh(range(len(names)), values, left=left, color=colour, label=word)
        left += values
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("percent of the union")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize=9)
    return figure


def sizes(judgement: Judgement) -> Figure | None:
    """Stacked bars by size of object: missed and wrong class, over the pixels of such objects."""
    rows = []
    for name, _, _ in SIZES:
        found = [by[name] for by in judgement.by_size.values()]
        pixels, objects = sum(s.pixels for s in found), sum(s.objects for s in found)
        if pixels:
            missed, wrong = sum(s.missed for s in found), sum(s.wrong for s in found)
            rows.append((f"{name} ({objects})", 100 * missed / pixels, 100 * wrong / pixels))
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
    """Curves over the threshold, the last seeds' in full and the first ones' dashed."""
    figure, axes = _figure(6.5, 3.2)
    places = np.arange(1, 256) / 255
    for (step, curves), style in zip(_ends(seeds), ("-", "--"), strict=False):
        for values, colour, word in (
            (curves.miou, BLUE, "mIoU"), (curves.precision, ORANGE, "precision"), (curves.recall, GREEN, "recall"),
        ):  # fmt: skip
            axes.plot(places, 100 * np.array(values), style, color=colour, label=f"{word}, {step}")
    axes.set_xlabel("background threshold")
    axes.set_ylabel("percent")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def calibration(found: Mapping[str, Sequence[tuple[float, float, int]]], of: str) -> Figure:
    """Dots of (value, fraction right), their area by their share of the pixels; one colour a step."""
    figure, axes = _figure(5, 3.2)
    axes.plot([0, 1], [0, 100], color=GREY, lw=1)
    for (step, ranges), colour in zip(found.items(), (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        points = np.array(ranges, float).reshape(-1, 3)
        share = points[:, 2] / max(points[:, 2].sum(), 1)
        axes.plot(points[:, 0], 100 * points[:, 1], color=colour, lw=1)
        axes.scatter(points[:, 0], 100 * points[:, 1], s=8 + 300 * share, color=colour, label=step)
    axes.set_xlabel(of)
    axes.set_ylabel("percent right")
    axes.legend(fontsize=9, markerscale=0.6)
    return figure


def _ends(seeds: Mapping[str, SeedCurves]) -> list[tuple[str, SeedCurves]]:
    """Return the last and, where there are several, the first."""
    items = list(seeds.items())
    return [items[-1], items[0]] if len(items) > 1 else items


def training(steps: Sequence[StepFacts]) -> Figure | None:
    """Loss and figure of each training by epoch, one below the other."""
    curves = {s.name: s.history for s in steps if s.history}
    if not curves:
        return None
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    losses, figures = figure.subplots(2, sharex=True)
    for (name, history), colour in zip(
        curves.items(), (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, GREY) * 9, strict=False
    ):
        for measure, values in history.items():
            epochs = range(1, len(values) + 1)
            if measure == "loss":
                first = next((v for v in values if v and math.isfinite(v)), 1.0)
                losses.plot(epochs, [v / first for v in values], ".-", color=colour, label=name)
            else:
                figures.plot(epochs, [100 * v for v in values], ".-", color=colour, label=f"{name}, {measure}")
    losses.set_ylabel("loss over the first epoch's")
    losses.set_ylim(bottom=0)
    figures.set_ylabel("percent, on its crops")
    figures.set_xlabel("epoch")
    figures.set_ylim(0, 100)
    for axes in (losses, figures):
        if axes.lines:  # artifacts of before know losses alone
            axes.legend(fontsize=9)
    return figure


def cost(steps: Sequence[StepFacts]) -> Figure | None:
    """Bars of minutes, with the size written at their ends."""
    known: list[Any] = [s for s in steps if s.state == "complete"]
    if not known:
        return None
    figure, axes = _figure(6.5, max(2, 0.3 * len(known) + 0.8))
    minutes = [s.seconds / 60 for s in known]
    axes.barh(range(len(known)), minutes, color=BLUE)
    for place, step in enumerate(known):
        axes.text(
            minutes[place], place, f" {minutes[place]:.1f} min, {step.size / 2**20:.1f} MiB", va="center", fontsize=8
        )
    axes.set_yticks(range(len(known)), [s.name for s in known])
    axes.invert_yaxis()
    axes.set_xlabel("minutes")
    axes.set_xlim(0, max(1.45 * max(minutes), 1e-3))
    return figure
