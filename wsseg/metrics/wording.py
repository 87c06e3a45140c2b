"""Metrics and the conditions under which they hold, in words: for the terminal and for reports."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_TRUSTED = 30  # points; of a wider interval only the ends are shown


def percent(fraction: float | None) -> str:
    """Return a fraction in percent with one decimal, or a dash for a class that does not occur."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean of fractions as percent, and the standard deviation if there are several."""
    mean = percent(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {percent(statistics.stdev(values))} ({len(values)} seeds)"


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the main metrics of a step in a few words."""
    if "estimate" in metrics:
        return f"mIoU {estimate_text(metrics)}"
    if "miou" in metrics:
        return f"mIoU {percent(metrics['miou'])}"
    if "map" in metrics:
        return f"mAP {percent(metrics['map'])}, exact match {percent(metrics['exact_match'])}"
    if "bytes_per_image" in metrics:
        return f"{metrics['bytes_per_image'] / 1000:.1f} kB per image"
    if "undecided" in metrics:
        changed = f", {percent(metrics['changed'])} % changed" if "changed" in metrics else ""
        return f"{percent(metrics['background'])} % background, {percent(metrics['undecided'])} % undecided{changed}"
    if "stopped" in metrics:
        return f"{percent(metrics['stopped'])} % changed: training skipped, previous network kept"
    if "loss" in metrics:
        return f"loss {metrics['loss']:.4f}"
    return f"{metrics['images']} images" if "images" in metrics else ""


def estimate_text(metrics: Mapping[str, Any]) -> str:
    """Return the mean IoU that `estimate_quality` expects, such as ``about 62 (55 to 68); weakest class: inclusion``.

    An interval of more than 30 points is all that can be trusted: ``between 40 and 75``. The weakest class is the
    foreground class with the lowest estimate; it is named if there are several.
    """
    estimate = metrics["estimate"]
    if estimate["miou"] is None:
        return "cannot be estimated: the masks contain no class"
    value, low, high = (round(100 * fraction) for fraction in estimate["miou"])
    classes = {n: iou[0] for n, iou in estimate["iou"].items() if iou is not None and n != "background"}
    weakest = f"; weakest class: {min(classes, key=lambda n: classes[n])}" if len(classes) > 1 else ""
    return f"about {value} ({low} to {high}){weakest}" if high - low <= _TRUSTED else f"between {low} and {high}"


def images_text(conditions: Mapping[str, Any]) -> str:
    """Return the number of evaluated images and their split, and how many images of the split have no true mask."""
    text = f"{conditions['images']} {conditions['split']} images"
    if without_truth := conditions.get("without_truth"):
        text += f" ({without_truth} others have no mask and are not evaluated)"
    return text


def result_text(metrics: Mapping[str, Any]) -> str:
    """Return the mIoU with the images that it was measured on, and whether it is a diagnostic."""
    conditions = metrics["conditions"]
    text = f"mIoU {percent(metrics['miou'])} % on {images_text(conditions)}"
    return f"{text}, a diagnostic" if conditions["diagnostic"] else text


def weakest_class(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return name and IoU of the class with the lowest IoU, the background excluded; None if no class was measured."""
    measured = [(iou, name) for name, iou in metrics["iou"].items() if iou is not None and name != "background"]
    return min(measured)[::-1] if measured else None


def values_texts(conditions: Mapping[str, Any]) -> list[str]:
    """Return the config values that decide masks, one text per table, and the seed."""
    tables = ("pseudo_masks", "walk", "walked_masks", "relabeling", "predictions")
    texts = [
        f"{name.replace('_', '-')}: {', '.join(f'{key} {value}' for key, value in conditions[name].items())}"
        for name in tables
        if name in conditions
    ]
    return [*texts, f"rng_seed {conditions['rng_seed']}"]


def conditions_text(metrics: Mapping[str, Any]) -> str:
    """Return the conditions under which metrics of `evaluate_masks` hold, in one line."""
    conditions = metrics["conditions"]
    texts = [images_text(conditions), f"{metrics['classes_counted']} classes with background"]
    if "best_threshold" in metrics:
        texts.append(f"best threshold {metrics['best_threshold']:.2f}, chosen on these masks: a diagnostic")
    elif conditions["diagnostic"]:
        texts.append("a diagnostic")
    if "coverage" in metrics:
        texts.append(f"{percent(metrics['coverage'])} % decided, mIoU there {percent(metrics['miou_decided'])}")
    if "boundary_miou" in metrics:
        texts.append(f"boundary mIoU {percent(metrics['boundary_miou'])}")
    return "; ".join([*texts, *values_texts(conditions)])
