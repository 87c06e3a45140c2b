"""Findings: sentences about a run, computed from its metrics, the most important first."""

from collections.abc import Mapping
from itertools import pairwise

from wsseg.metrics.objects import SIZES
from wsseg.metrics.wording import images_text, mean_and_spread, percent, values_texts
from wsseg.report.appearance import ERRORS
from wsseg.report.quality import MaskQuality, worst_first
from wsseg.report.run_report import RunReport

_MOST = 8  # sentences; nobody reads more
_RARE = 0.02  # of a class's errors; rarer kinds are not named


def headline(report: RunReport) -> str:
    """Return the result with its conditions, in one sentence."""
    if report.result is None:
        return "There is no result: the data set has no masks of held-out images, or the run did not finish."
    metrics, conditions = report.result["metrics"], report.result["conditions"]
    values = [metrics["miou"], *(m["miou"] for s, m in report.siblings.items() if s != conditions["rng_seed"])]
    seeds = [f"over all seeds {mean_and_spread(values)}"] if len(values) > 1 else []
    classes = f"{metrics['classes_counted']} classes with background"
    parts = [
        f"mIoU {percent(metrics['miou'])} % on {images_text(conditions)}",
        classes,
        *seeds,
        *values_texts(conditions),
    ]
    return "; ".join(parts) + "."


def findings(report: RunReport) -> list[str]:
    """Return what to look at first."""
    sentences = []
    if report.ratio is not None and report.bound is not None:
        run, miou = report.bound
        sentences.append(
            f"Weak-to-full ratio {report.ratio:.3f}: full supervision reaches {percent(miou)} % mIoU (run {run})."
        )
    for split in sorted(report.splits.values(), key=lambda s: s.images.split != "val"):  # held-out images first
        if split.quality is not None:
            sentences += _of_masks(split.quality, split.images.split)
    return [*sentences, *_of_steps(report)][:_MOST]


def _of_masks(quality: MaskQuality, split: str) -> list[str]:
    """Return a sentence about each of the three worst classes, and one about the worst image."""
    classes = [(pixels.iou, class_id) for class_id, pixels in enumerate(quality.by_class) if class_id]
    worst = sorted((iou, class_id) for iou, class_id in classes if iou is not None)[:3]
    sentences = [of_class(quality, class_id, split) for _, class_id in worst]
    if images := worst_first(quality.images):
        poor = sum(miou < 0.5 for miou, _ in images)
        sentences.append(
            f"{split}: {poor} of {len(images)} images have a mean IoU below 50 %; the worst is {images[0][1]}."
        )
    return sentences


def of_class(quality: MaskQuality, class_id: int, split: str) -> str:
    """Return the kinds of a class's errors, and the size of the objects that are missed most."""
    pixels = quality.by_class[class_id]
    name = quality.classes.with_background[class_id]
    if not pixels.errors:
        return f"{name} ({split}): no errors."
    shares = {kind: getattr(pixels, kind.name) / pixels.errors for kind in ERRORS}
    ranked = sorted(ERRORS, key=lambda kind: -shares[kind])
    kinds = [
        f"{100 * shares[kind]:.0f} % {kind.label}"
        + (f" (mostly {quality.confused_with(class_id)})" if kind.name == "wrong" else "")
        for kind in ranked
        if shares[kind] > _RARE
    ]
    text = f"{name} ({split}): IoU {percent(pixels.iou)} %; its errors are {', '.join(kinds)}"
    missed = {size: m["missed"] for size, m in quality.objects.get(name, {}).items() if m["objects"]}
    if ranked[0].name == "missed" and missed:
        size = max(missed, key=lambda s: (missed[s], -SIZES[s][0]))
        text += f"; most missed pixels are in {size} objects ({size_text(size)})"
    return text + "."


def size_text(size: str) -> str:
    """Return the range of a size of objects."""
    low, high = (round(pixels**0.5) for pixels in SIZES[size])
    if not low:
        return f"under {high} x {high} px"
    return f"{low} x {low} px and more" if SIZES[size][1] > 2**60 else f"up to {high} x {high} px"


def _of_steps(report: RunReport) -> list[str]:
    """Return sentences about steps that made masks worse, lost classes and the time."""
    sentences = []
    chain = [(name, r["metrics"]["miou"]) for name, r in report.reports.items() if r["conditions"]["split"] == "train"]
    for (before, old), (after, new) in pairwise(chain):
        if old is not None and new is not None and new < old - 0.005:
            sentences.append(
                f"train: the mIoU falls from {percent(old)} % ({before}) to {percent(new)} % ({after}); check that step."
            )
    for name, classes in ((name, r["metrics"]["iou"]) for name, r in report.reports.items()):
        lost = [class_name for class_name, iou in classes.items() if iou is not None and iou < 0.01]
        if lost:
            sentences.append(f"{name}: no pixel is correct for {', '.join(lost)} (IoU below 1 %).")
    seconds = sum(step.seconds for step in report.steps)
    if seconds:
        longest = max(report.steps, key=lambda s: s.seconds)
        share = f"{100 * longest.seconds / seconds:.0f} %"
        sentences.append(f"Time: {seconds / 60:.1f} minutes in total, {share} of them in {longest.name}.")
    return sentences


def changes(report_a: RunReport, report_b: RunReport, by_image: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what changed from run A to run B.

    Args:
        report_a: run A.
        report_b: run B.
        by_image: change of the mean IoU by split and image id.
    """
    sentences = []
    if report_a.result is not None and report_b.result is not None:
        old, new = report_a.result["metrics"], report_b.result["metrics"]
        sentences.append(f"The mIoU changed from {percent(old['miou'])} % to {percent(new['miou'])} %.")
        both = {n: v - old["iou"][n] for n, v in new["iou"].items() if v is not None and old["iou"].get(n) is not None}
        name = max(both, key=lambda n: abs(both[n]), default="")
        if name and both[name]:
            sentences.append(f"The class that changed most is {name}: {100 * both[name]:+.1f} points.")
    for split, by_id in by_image.items():
        better, worse = (sum(sign * change > 0.01 for change in by_id.values()) for sign in (1, -1))
        most = max(by_id, key=lambda item_id: abs(by_id[item_id]), default="")
        if most and by_id[most]:
            sentences.append(
                f"{split}: {better} of {len(by_id)} images improved by more than a point and {worse} became worse; "
                f"{most} changed most, by {100 * by_id[most]:+.1f} points."
            )
        else:
            sentences.append(f"{split}: the mean IoU of every image is unchanged.")
    return sentences
