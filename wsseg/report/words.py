"""What to look at first, in sentences computed from the figures."""

from collections.abc import Mapping
from itertools import pairwise

from wsseg.report.contents import RunReport, Split, spread
from wsseg.report.judging import SIZES, Judgement, worst_first

_MOST = 8  # sentences: more are not read
_SELDOM = 0.02  # of the class's errors


def headline(contents: RunReport) -> str:
    """Return the result with its conditions, in a sentence."""
    if contents.result is None:
        return "There is no result: the data set names no masks of held-out images, or the run is not finished."
    metrics, conditions = contents.result["metrics"], contents.result["conditions"]
    values = [metrics["miou"], *(m["miou"] for s, m in contents.siblings.items() if s != conditions["rng_seed"])]
    made = [
        f"{name.replace('_', '-')}: " + ", ".join(f"{k} {v}" for k, v in conditions[name].items())
        for name in ("pseudo_masks", "walk", "walked_masks", "relabeling", "predictions")
        if name in conditions
    ]
    unjudged = conditions.get("without_truth", 0)
    others = f" ({unjudged} others have no mask and are not judged)" if unjudged else ""
    several = f", over all seeds {spread(values)}" if len(values) > 1 else ""
    return (
        f"mIoU {100 * metrics['miou']:.1f} % on {conditions['images']} {conditions['split']} images{others}, "
        f"{metrics['classes_counted']} classes "
        f"with background{several}; rng_seed {conditions['rng_seed']}" + "".join(f"; {words}" for words in made) + "."
    )


def first_looks(contents: RunReport) -> list[str]:
    """Return what to look at first, the most telling at the top."""
    said = []
    if contents.ratio is not None and contents.bound is not None:
        said.append(
            f"Weak-to-full ratio {contents.ratio:.3f}: full supervision reaches {100 * contents.bound[1]:.1f} % "
            f"(run {contents.bound[0]})."
        )
    judged = [split for split in contents.splits.values() if split.judgement and split.judgement.counts.size]
    for split in sorted(judged, key=lambda s: s.images.split != "val"):  # held-out images first
        said += _of_classes(split)
    said += _of_steps(contents)
    return said[:_MOST]


def _of_classes(split: Split) -> list[str]:
    """Return a sentence for each of the three worst classes, and one about the worst image."""
    judgement = split.judgement
    if judgement is None:
        return []
    classes = [(judgement.errors(k).iou, k) for k in range(1, len(judgement.classes) + 1)]
    worst = sorted((iou, k) for iou, k in classes if iou is not None)[:3]
    said = [of_class(judgement, k, split.images.split) for _, k in worst]
    images = [j for j in worst_first(judgement.images) if j.miou is not None]
    if images:
        poor = sum(j.miou < 0.5 for j in images)  # type: ignore[operator]
        said.append(
            f"{split.images.split}: {poor} of {len(images)} images are below 50 % by themselves; the worst is {images[0].id}."
        )
    return said


def of_class(judgement: Judgement, class_id: int, split: str) -> str:
    """Return how a class goes wrong: what share of its errors is of which kind, and in objects of which size."""
    errors = judgement.errors(class_id)
    name = judgement.classes.with_background[class_id]
    if not errors.errors:
        return f"{name} ({split}): no error."
    shares = {
        "missed area": errors.missed,
        "spill over the background": errors.spill,
        "wrong class": errors.wrong,
        "undecided": errors.undecided,
    }
    kinds = sorted(((pixels / errors.errors, kind) for kind, pixels in shares.items()), reverse=True)
    other, _ = judgement.confused_with(class_id)
    parts = [
        f"{100 * share:.0f} % {kind}" + (f" (most with {other})" if kind == "wrong class" else "")
        for share, kind in kinds
        if share > _SELDOM
    ]
    text = f"{name} ({split}), IoU {100 * (errors.iou or 0):.1f}: its errors are " + ", ".join(parts)
    sizes = {n: s for n, s in judgement.by_size.get(class_id, {}).items() if s.objects}
    if kinds[0][1] == "missed area" and sizes:
        low = {n: low for n, low, _ in SIZES}
        most = max(sizes, key=lambda n: (sizes[n].missed, -low[n]))
        text += f"; most of what is missed lies in {most} objects ({_width(most)})"
    return text + "."


def _width(size: str) -> str:
    low, high = next((low, high) for name, low, high in SIZES if name == size)
    if not low:
        return f"under {round(high**0.5)} x {round(high**0.5)} px"
    return (
        f"over {round(low**0.5)} x {round(low**0.5)} px"
        if high > 2**60
        else f"up to {round(high**0.5)} x {round(high**0.5)} px"
    )


def _of_steps(contents: RunReport) -> list[str]:
    """Return what the chain of figures says: a step that made things worse, and where the time went."""
    said = []
    chain = [
        (name, r["metrics"]["miou"]) for name, r in contents.reports.items() if r["conditions"]["split"] == "train"
    ]
    for (before, old), (after, new) in pairwise(chain):
        if old is not None and new is not None and new < old - 0.005:
            said.append(
                f"train: from {before} to {after} the mIoU falls from {100 * old:.1f} to {100 * new:.1f} %: look at that step."
            )
    for name, classes in ((n, r["metrics"]["iou"]) for n, r in contents.reports.items()):
        lost = [c for c, iou in classes.items() if iou is not None and iou < 0.01]
        if lost:
            said.append(f"{name}: {', '.join(lost)} {'is' if len(lost) == 1 else 'are'} lost altogether.")
    seconds = sum(step.seconds for step in contents.steps)
    if seconds:
        longest = max(contents.steps, key=lambda s: s.seconds)
        said.append(
            f"Time: {seconds / 60:.1f} minutes in all, {100 * longest.seconds / seconds:.0f} % of it in {longest.name}."
        )
    return said


def changes(one: RunReport, other: RunReport, by_image: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what changed from one run to the other, the most telling first.

    Args:
        one, other: the runs, A and B.
        by_image: change of the mean IoU by split and id.
    """
    said = []
    if one.result is not None and other.result is not None:
        old, new = (c.result["metrics"] for c in (one, other))  # type: ignore[index]
        said.append(f"The result went from {100 * old['miou']:.1f} to {100 * new['miou']:.1f} %.")
        both = {n: v - old["iou"][n] for n, v in new["iou"].items() if v is not None and old["iou"].get(n) is not None}
        if both:
            name = max(both, key=lambda n: abs(both[n]))
            said.append(f"The class that changed most is {name}: {100 * both[name]:+.1f} points.")
    for split, own in by_image.items():
        if own:
            better, worse = (sum(sign * v > 0.01 for v in own.values()) for sign in (1, -1))
            most = max(own, key=lambda item_id: abs(own[item_id]))
            said.append(
                f"{split}: of {len(own)} images {better} are better by more than a point and {worse} worse; "
                f"{most} changed most, by {100 * own[most]:+.1f}."
            )
    return said
