"""Three things to do next, each with the figure that says so and the command that does it.

Every function below looks at one thing and returns advice, or None if the run has no reason for it. `RULES` is their order.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from wsseg.config import shipped_folder
from wsseg.errors import counted
from wsseg.metrics.wording import percent, weakest_class
from wsseg.report.run_report import UPPER_BOUND, RunReport, Split

MOST = 3
_POOR = 0.9  # mAP below which the classifier is named
_POINTS = 0.02  # of mIoU; smaller differences are no reason to change a value
_LARGE = 0.6  # of the image, the median area of a class above which its masks are suspicious
_FALLING = 0.05  # of the loss in the last epoch


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Args:
        text: what to do, in a few words.
        figure: the measured reason.
        command: that does it, to be pasted into a shell.
    """

    text: str
    figure: str
    command: str


def advice(report: RunReport) -> list[Advice]:
    """Return the first three that apply, one per subject and with different commands."""
    found: dict[str, Advice] = {}
    for subject, rule in RULES:
        one = rule(report) if subject not in found else None
        if one is not None and all(one.command != other.command for other in found.values()):
            found[subject] = one
    return list(found.values())[:MOST]


def command(report: RunReport, *words: str) -> str:
    """Return a command of wsseg on the report's store, quoted for a shell."""
    store = [] if report.store.name == "wsseg-store" else ["--store", _near(report.store)]
    return shlex.join(["wsseg", *words, *store])


def config_command(report: RunReport, *words: str, settings: Sequence[str] = ()) -> str:
    """Return a command that reads the report's config; `settings` follow it."""
    path = Path(report.record["config_path"])
    config = path.stem if path.parent == shipped_folder("configs") else _near(path)
    return command(report, *words, "-c", config, *settings)


def run_command(report: RunReport, *, recipe: str = "", **values: Any) -> str:
    """Return the command that runs the report's config, by default with its recipe; `values` are ``TABLE__KEY=VALUE``."""
    settings = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    words = [word for setting in settings for word in ("--set", setting)]
    return config_command(report, "run", recipe or report.record["recipe"], settings=words)


def _near(path: Path) -> str:
    """Return a path relative to the working folder if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


# --- runs that did not finish ------------------------------------------------------------------------------------


def _resume(report: RunReport) -> Advice | None:
    missing = [step for step in report.steps if step.state != "complete"]
    if not missing:
        return None
    done = len(report.steps) - len(missing)
    figure = f"{done} of {counted(len(report.steps), 'step')} are complete; next: {missing[0].name}"
    return Advice("Run the same command again; it resumes", figure, run_command(report))


# --- what limits the result --------------------------------------------------------------------------------------


def _classifier(report: RunReport) -> Advice | None:
    """All later stages read the classifier: a poor one comes first."""
    for step in report.steps:
        metrics = step.metrics
        if metrics.get("map") is not None and metrics["map"] < _POOR:
            lowest = min((ap, name) for name, ap in metrics["ap"].items() if ap is not None)
            figure = f"average precision {percent(metrics['map'])} % (mean); lowest: {lowest[1]} {percent(lowest[0])} %"
            epochs = 2 * max(
                (len(x.history.get("loss", ())) for x in report.steps if x.stage == "train_classifier"), default=5
            )
            return Advice(
                "Train the classifier longer, or give it more labels", figure,
                run_command(report, classifier__epochs=epochs),
            )  # fmt: skip
    return None


def _doubts(report: RunReport) -> Advice | None:
    """`wsseg data doubt` found labels that are probably wrong."""
    split = report.splits.get("train")
    wrong = [x for x in split.doubts.doubts.images if x.probably_wrong] if split is not None and split.doubts else []
    if split is None or not wrong:
        return None
    figure = f"{len(wrong)} of {counted(len(split.images), 'image')}; first: {wrong[0].id} {wrong[0].why}"
    return Advice("Check the labels that are probably wrong", figure, config_command(report, "data", "doubt"))


def _level(report: RunReport) -> Advice | None:
    """The curve of the last seeds has its maximum elsewhere than at the level of the pseudo-masks."""
    split, step = report.splits.get("train"), _refinement(report)
    if split is None or not split.seeds or step is None:
        return None
    *_, (name, curves) = split.seeds.items()
    levels = step.values["levels"]
    if step.values["background"] != "threshold" or len(levels) != 1:
        return None
    used = min(zip(curves.thresholds, curves.miou, strict=True), key=lambda point: abs(point[0] - levels[0]))
    best = max(zip(curves.thresholds, curves.miou, strict=True), key=lambda point: point[1])
    if best[1] - used[1] < _POINTS:
        return None
    figure = f"mIoU of {name}: {percent(used[1])} % at level {levels[0]:g}, {percent(best[1])} % at {best[0]:.2f}"
    return Advice(
        "Try another background level", figure,
        run_command(report, **{f"{step.table}__levels": f"[{best[0]:.2f}]"}),
    )  # fmt: skip


def _worse_step(report: RunReport) -> Advice | None:
    """A step made the masks of the training images worse."""
    for (before, old), (after, new) in pairwise(_chain(report)):
        if new < old - _POINTS:
            figure = f"mIoU falls from {percent(old)} % ({before}) to {percent(new)} % ({after})"
            if report.artifacts[after].manifest["stage"] == "relabel_masks":
                return Advice(
                    "Let the rounds keep only confident pixels",
                    figure,
                    run_command(report, relabeling__min_confidence=0.8),
                )
            step = _refinement(report)
            if step is not None and step.values["crf"] != "auto":
                return Advice("Let wsseg choose the CRF", figure, run_command(report, **{f"{step.table}__crf": "auto"}))
    return None


def _weakest(report: RunReport) -> Advice | None:
    """The commonest kind of error of the weakest class says what to change."""
    split = _judged(report)
    if split is None or split.quality is None:
        return None
    quality = split.quality
    measured = [(p.iou, k) for k, p in enumerate(quality.by_class) if k and p.iou is not None and p.errors]
    if not measured:
        return None
    iou, class_id = min(measured)
    pixels, name = quality.by_class[class_id], quality.classes.with_background[class_id]
    kinds = {kind: getattr(pixels, kind) for kind in ("missed", "spill", "wrong")}
    worst = max(kinds, key=lambda kind: kinds[kind])
    share = f"{100 * kinds[worst] / pixels.errors:.0f} %"
    step = _refinement(report)
    texts = {"missed": "are missed", "spill": "spill over the background", "wrong": "have another class"}
    figure = f"{name}: IoU {percent(iou)} % on {split.images.split}; {share} of its wrong pixels {texts[worst]}"
    if worst == "wrong":
        other = quality.confused_with(class_id)
        text = f"Check the labels: {name} and {other} are confused"
        return Advice(text, figure, config_command(report, "data", "doubt"))
    if step is None or step.values["background"] != "threshold" or len(step.values["levels"]) != 1:
        return Advice(f"Look at the images of {name}", figure, _view(report))
    level = step.values["levels"][0]
    changed, text = (level * 2 / 3, "Lower") if worst == "missed" else ((level + 1) / 2, "Raise")
    changed = min(max(changed, 0.01), 0.99)
    return Advice(
        f"{text} the background level", figure, run_command(report, **{f"{step.table}__levels": f"[{changed:.2f}]"})
    )


def _loss(report: RunReport) -> Advice | None:
    """The loss of the last network still fell when its training ended."""
    trainings = [step for step in report.steps if step.stage == "train_segmenter" and step.history.get("loss")]
    losses = trainings[-1].history["loss"] if trainings else []
    if len(losses) < 2 or losses[-2] <= 0 or (fall := 1 - losses[-1] / losses[-2]) < _FALLING:
        return None
    figure = f"its loss fell by {100 * fall:.0f} % in the last of {len(losses)} epochs ({trainings[-1].name})"
    return Advice(
        "Train the network longer", figure,
        run_command(report, segmenter__epochs=2 * len(losses)),
    )  # fmt: skip


# --- what is not known yet ---------------------------------------------------------------------------------------


def _network(report: RunReport) -> Advice | None:
    """The recipe ends with masks."""
    split = report.splits.get("train")
    if split is None or any(step.stage == "train_segmenter" for step in report.steps) or not split.of_kind("mask"):
        return None
    figure = f"the run ends with masks of {counted(len(split.images), 'photograph')}"
    return Advice("Train a network on the masks", figure, run_command(report, recipe="best"))


def _unmeasured(report: RunReport) -> Advice | None:
    """Nothing was evaluated."""
    made = report.last("pseudo_masks")
    if report.reports or made is None:
        return None
    images = sum(len(split.images) for split in report.splits.values())
    text = "Correct some masks, and name them as data.val.masks: then the quality is measured"
    figure = f"0 of {counted(images, 'image')} have a true mask"
    return Advice(text, figure, command(report, "export", made.manifest["step"], "--format", "label_studio"))


def _area(report: RunReport) -> Advice | None:
    """Without true masks: masks that cover whole images agree with each other, and are seldom right."""
    split = report.splits.get("train")
    if split is None or split.scores is None or split.quality is not None:
        return None
    medians = {k: median(values.values()) for k, values in split.scores.areas.items() if values}
    class_id = max(medians, key=lambda k: (medians[k], k), default=0)
    if not class_id or medians[class_id] < _LARGE:
        return None
    name = split.images.classes.with_background[class_id]
    figure = f"{name}: half of its masks cover {100 * medians[class_id]:.0f} % of the image and more"
    step = _refinement(report)
    if step is None or step.values["background"] != "threshold" or len(step.values["levels"]) != 1:
        return Advice(f"Look at the masks of {name}: they are large", figure, _view(report))
    level = f"[{(step.values['levels'][0] + 1) / 2:.2f}]"
    return Advice("Raise the background level", figure, run_command(report, **{f"{step.table}__levels": level}))


def _least_agreement(report: RunReport) -> Advice | None:
    """Without true masks: the class that seeds and masks disagree about, or that the network is least sure of."""
    split = report.splits.get("train") or report.splits.get("val")
    if split is None or split.scores is None or split.quality is not None:
        return None
    by_class = {k: mean(values.values()) for k, values in split.scores.classes.items() if values}
    class_id = min(by_class, key=lambda k: (by_class[k], k))
    name = split.images.classes.with_background[class_id]
    low = sum(value < 0.2 for value in split.scores.classes[class_id].values())
    figure = (
        f"{name}: {split.scores.measure} {percent(by_class[class_id])} %, the lowest of "
        f"{counted(len(by_class), 'class')}; {low} of {counted(len(split.scores.classes[class_id]), 'image')} below 20 %"
    )
    return Advice(f"Look at the images of {name}", figure, _view(report))


def _bound(report: RunReport) -> Advice | None:
    """The network's own limit on these images is not known."""
    judged = report.splits.get("train")
    if report.result is None or report.bound is not None or report.record["recipe"] == UPPER_BOUND:
        return None
    if judged is None or judged.truth is None:
        return None
    figure = f"mIoU {percent(report.result['metrics']['miou'])} %; with full supervision: not measured"
    return Advice("Measure the upper bound of the network", figure, run_command(report, recipe=UPPER_BOUND))


def _use(report: RunReport) -> Advice | None:
    network = report.last("segmenter")
    if network is None:
        return None
    figure = f"the network is complete ({network.size / 2**20:.0f} MiB)"
    if report.result is not None:
        weakest = weakest_class(report.result["metrics"])
        more = f"; weakest class: {weakest[0]} ({percent(weakest[1])} %)" if weakest else ""
        figure = f"mIoU {percent(report.result['metrics']['miou'])} % on photographs that it has not seen{more}"
    return Advice(
        "Segment other photographs", figure,
        command(report, "predict", network.manifest["step"], "photos", "-o", "masks"),
    )  # fmt: skip


def _use_masks(report: RunReport) -> Advice | None:
    made = report.last("pseudo_masks")
    if made is None:
        return None
    figure = f"{counted(made.manifest['metrics'].get('images', 0), 'mask')}, {made.size / 2**20:.1f} MiB"
    return Advice(
        "Give the masks to another tool", figure, command(report, "export", made.manifest["step"], "--format", "coco")
    )


# what each rule is about; the page gives one advice per subject, that of the first rule which applies
RULES: Sequence[tuple[str, Callable[[RunReport], Advice | None]]] = (
    ("run", _resume), ("labels", _doubts), ("classifier", _classifier), ("network", _network), ("truth", _unmeasured),
    ("level", _area), ("images", _least_agreement), ("level", _level), ("level", _weakest), ("masks", _worse_step),
    ("network", _loss), ("bound", _bound), ("use", _use), ("use", _use_masks),
)  # fmt: skip


# --- what the rules read -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Refinement:
    """The step that made the first pseudo-masks: its config table, and its values with those that it chose itself."""

    table: str
    values: Mapping[str, Any]


def _refinement(report: RunReport) -> _Refinement | None:
    for artifact in report.artifacts.values():
        if artifact.kind == "pseudo_masks" and artifact.manifest["stage"] == "refine_masks":
            for table in ("walked_masks", "pseudo_masks"):
                if table in artifact.manifest["provenance"]:
                    return _Refinement(table, artifact.manifest["provenance"][table])
    return None


def _judged(report: RunReport) -> Split | None:
    """Return the split whose masks were evaluated; the held-out one if both were."""
    judged = [split for name in ("val", "train") if (split := report.splits.get(name)) and split.quality is not None]
    return judged[0] if judged else None


def _chain(report: RunReport) -> list[tuple[str, float]]:
    """Return step and mIoU of each evaluated pseudo-mask, in the order of the steps."""
    steps = {artifact.key: name for name, artifact in report.artifacts.items() if artifact.kind == "pseudo_masks"}
    chain = []
    for name, evaluation in report.reports.items():
        step = steps.get(report.artifacts[name].manifest["inputs"].get("masks", ""))
        if step and evaluation["metrics"]["miou"] is not None:
            chain.append((step, float(evaluation["metrics"]["miou"])))
    return chain


def _view(report: RunReport) -> str:
    return command(report, "view", report.run, "--open")
