"""The page that compares two runs: first the images that changed most, then results, values and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import numpy as np

from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError
from wsseg.metrics.wording import percent
from wsseg.report.agreement import MOST_IMAGES, class_iou
from wsseg.report.figures import flat
from wsseg.report.opening import opening
from wsseg.report.page import Row, RowGroup, page_data, picture_uris, rendered, split_rows
from wsseg.report.run_report import Layer, RunReport, Split

_MOST_ROWS = 6  # images that changed most, per split


@dataclass(frozen=True)
class Changes:
    """How the images of a split changed from run A to run B.

    Args:
        split: the images with the masks of both runs as layers.
        measured: whether the masks were evaluated: `images` are then changes of the mean IoU in [-1, 1]; otherwise 1 minus the
            mean IoU of the masks of A with those of B, in [0, 1].
        images: by id.
    """

    split: Split
    measured: bool
    images: Mapping[str, float]

    @property
    def most_changed(self) -> list[str]:
        """The ids, the largest change first."""
        return sorted(self.images, key=lambda item_id: (-abs(self.images[item_id]), item_id))

    def text(self, item_id: str) -> str:
        """Return the change of an image in words."""
        if self.measured:
            return f"{100 * self.images[item_id]:+.1f} points of IoU"
        return f"{percent(self.images[item_id])} % changed"


def render_comparison(report_a: RunReport, report_b: RunReport) -> str:
    """Return the page that compares two runs."""
    by_split = {}
    for name, split in report_b.splits.items():
        before = report_a.splits.get(name)
        if before is not None and (changed := changes_of(before, split)) is not None:
            by_split[name] = changed
    splits = {name: changed.split for name, changed in by_split.items()}
    groups = [_rows(name, changed) for name, changed in reversed(by_split.items())]  # held-out images first
    uris = picture_uris(splits.values(), lambda split, most: by_split[split.images.split].most_changed[:most], groups)
    tables = {name: split_rows(split) for name, split in splits.items()}
    for name, table in tables.items():
        if splits[name].truth is not None and splits[name].evaluated:
            table["layers"][-1:] = [
                {"name": f"errors {run}", "kind": "errors", "of": layer.name}
                for run, layer in zip("AB", splits[name].of_kind("mask"), strict=True)
            ]
        by_id = by_split[name].images
        table["rows"] = [[*row, round(by_id[row[0]], 4)] for row in table["rows"] if row[0] in by_id]
        table["measured"] = by_split[name].measured
    data = {**page_data(report_b, tables, uris, served=False), "compared": True}
    return rendered(
        "comparison.html", data, served=False,
        report_a=report_a, report_b=report_b, openings=[opening(report_a), opening(report_b)], row_groups=groups,
        values=differing_values(report_a.record["config"], report_b.record["config"]),
        metrics=differing_metrics(report_a, report_b), sentences=sentences(report_a, report_b, by_split),
        links=[("pictures", "Images that changed most"), ("result", "What changed"), ("images", "All images")],
        embedded=len(uris), judged=any(split.quality is not None for split in splits.values()),
    )  # fmt: skip


def _rows(name: str, changed: Changes) -> RowGroup:
    """Return the rows of the images of a split that changed most."""
    split = changed.split
    titles = {"photo": "photograph", "truth": "true mask"}
    cells = [(titles.get(layer.kind, layer.name.replace("_", "-")), layer) for layer in split.layers]
    items = {item.id: item for item in split.images.items}
    ids = [item_id for item_id in changed.most_changed if changed.images[item_id]][:_MOST_ROWS]
    rows = [Row(changed.text(item_id), name, items[item_id], cells) for item_id in ids]
    same = "" if rows else ": the masks of all images are equal" if not changed.measured else ": no IoU changed"
    return RowGroup(name, "", f"{len(changed.images)} images{same}", rows)


def changes_of(split_a: Split, split_b: Split) -> Changes | None:
    """Return how the images of a split changed; None if the images or classes differ, or a run has no masks of them."""
    if split_a.images.key != split_b.images.key or not (split_a.of_kind("mask") and split_b.of_kind("mask")):
        return None
    measured = split_a.quality is not None and split_b.quality is not None
    layers: list[Layer] = []
    for run, split in (("A", split_a), ("B", split_b)):
        named = [layer for layer in split.of_kind("mask") if layer.name == split.evaluated or not measured]
        layers.append(replace(named[-1], name=f"{run}: {named[-1].name}"))
    both = replace(split_b, layers=[split_b.layers[0], *layers, *split_b.of_kind("truth")], evaluated=layers[1].name)
    if split_a.quality is not None and split_b.quality is not None:
        before = {image.id: image.miou for image in split_a.quality.images}
        pairs = ((image.id, before.get(image.id), image.miou) for image in split_b.quality.images)
        return Changes(both, True, {i: new - old for i, old, new in pairs if old is not None and new is not None})
    both = replace(both, quality=None, evaluated="")
    return Changes(both, False, _disagreement(both, layers))


def _disagreement(split: Split, layers: list[Layer]) -> dict[str, float]:
    """Return 1 minus the mean IoU of two masks over the classes that either shows, by image id."""
    changes = {}
    for item in evenly_spaced(split.images.items, MOST_IMAGES):
        try:
            mask_a, mask_b = (layer.masks.mask(item.id) for layer in layers if layer.masks is not None)
        except WssegError:
            continue
        shown = [k for k in range(1, 1 + len(split.images.classes)) if (mask_a == k).any() or (mask_b == k).any()]
        same = float(np.array_equal(mask_a, mask_b))
        changes[item.id] = 1 - (mean(class_iou(mask_a, mask_b, k) for k in shown) if shown else same)
    return changes


def sentences(report_a: RunReport, report_b: RunReport, by_split: Mapping[str, Changes]) -> list[str]:
    """Return what changed from run A to run B, one sentence per subject."""
    texts = []
    if report_a.result is not None and report_b.result is not None:
        old, new = report_a.result["metrics"], report_b.result["metrics"]
        texts.append(f"The mIoU changed from {percent(old['miou'])} % to {percent(new['miou'])} %.")
        both = {n: v - old["iou"][n] for n, v in new["iou"].items() if v is not None and old["iou"].get(n) is not None}
        name = max(both, key=lambda n: abs(both[n]), default="")
        if name and both[name]:
            texts.append(f"The class that changed most is {name}: {100 * both[name]:+.1f} points.")
    for split, changed in by_split.items():
        images, count = changed.images, len(changed.images)
        if not any(images.values()):
            what = "mean IoU of every image is" if changed.measured else "masks of all images are"
            texts.append(f"{split}: the {what} unchanged.")
        elif changed.measured:
            better, worse = (sum(sign * change > 0.01 for change in images.values()) for sign in (1, -1))
            texts.append(f"{split}: {better} of {count} images improved by more than a point and {worse} became worse.")
        else:
            other = sum(change > 0.01 for change in images.values())
            texts.append(f"{split}: the masks of {other} of {count} images changed by more than 1 %.")
    return texts


def differing_values(config_a: Mapping[str, Any], config_b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, value in A, value in B) of the values that differ between two configs."""
    flat_a, flat_b = dict(flat(config_a)), dict(flat(config_b))
    return [
        (key, flat_a.get(key, "-"), flat_b.get(key, "-"))
        for key in sorted({*flat_a, *flat_b})
        if flat_a.get(key, "-") != flat_b.get(key, "-")
    ]


def differing_metrics(report_a: RunReport, report_b: RunReport) -> list[dict[str, Any]]:
    """Return one row per evaluated step of either run: the mIoU of both, and the change by class."""
    rows = []
    for step in dict.fromkeys([*report_a.reports, *report_b.reports]):
        metrics = [r.reports[step]["metrics"] if step in r.reports else None for r in (report_a, report_b)]
        iou_a, iou_b = (m["iou"] if m else {} for m in metrics)
        pairs = {name: (iou_a.get(name), iou_b.get(name)) for name in iou_b or iou_a}
        rows.append({
            "step": step, "miou": [m["miou"] if m else None for m in metrics],
            "classes": {name: None if old is None or new is None else new - old for name, (old, new) in pairs.items()},
        })  # fmt: skip
    return rows
