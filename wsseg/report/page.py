"""The page: the contents of a report and its pictures in one HTML file that works offline."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jinja2
from markupsafe import Markup

import wsseg
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError
from wsseg.labels import BACKGROUND
from wsseg.metrics.wording import percent
from wsseg.progress import track
from wsseg.report import pictures
from wsseg.report.appearance import ERRORS, script_data
from wsseg.report.charts import charts
from wsseg.report.findings import changes, findings, headline
from wsseg.report.quality import worst_and_others
from wsseg.report.run_report import RunReport, Split, StepFacts

MOST_PICTURES = 300  # images whose pictures are embedded in a page
_MOST_BYTES = 9_000_000  # of pictures, before base64 makes them a third larger
_SCRIPTS = ("elements.js", "pictures.js", "layers.js", "cards.js", "viewer.js", "controls.js")  # one job each, in order
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("wsseg.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_ENVIRONMENT.filters["percent"] = percent
_BOX = 150, 50, 42, 16  # px: width and height of a step in the drawn recipe, and the gaps between steps


@dataclass(frozen=True)
class Box:
    """One step of the drawn recipe, with the position of its box in pixels."""

    step: StepFacts
    left: int
    top: int
    text: str


def render(report: RunReport, served: bool = False) -> str:
    """Return the page of a run.

    Args:
        report: the contents.
        served: the page requests each picture from `wsseg.report.server`; if not, pictures of up to 300 images are embedded.
    """
    embedded_pictures = {} if served else picture_uris(report.splits.values(), chosen_ids)
    data = page_data(
        report, {name: split_rows(split) for name, split in report.splits.items()}, embedded_pictures, served
    )
    boxes, lines, size = drawn_recipe(report.steps)
    return _rendered(
        "run.html", data, served,
        report=report, headline=headline(report), findings=findings(report), charts=charts(report), boxes=boxes, lines=lines,
        size=size, box=_BOX, metrics=_metrics(report), images=sum(len(s.images) for s in report.splits.values()),
        embedded=len(embedded_pictures),
    )  # fmt: skip


def render_comparison(report_a: RunReport, report_b: RunReport) -> str:
    """Return the page that compares two runs: values, metrics, and the images that changed most."""
    splits = {}
    for name, split in report_b.splits.items():
        before = report_a.splits.get(name)
        if before is not None and (both := together(before, split)) is not None:
            splits[name] = both
    by_image = {name: changes_of(report_a.splits[name], report_b.splits[name]) for name in splits}

    def most_changed(split: Split, most: int) -> list[str]:
        by_id = by_image[split.images.split]
        return sorted(by_id, key=lambda item_id: -abs(by_id[item_id]))[:most]

    embedded_pictures = picture_uris(splits.values(), most_changed)
    rows = {name: split_rows(split) for name, split in splits.items()}
    for name, table in rows.items():
        if splits[name].truth is not None:
            table["layers"][-1:] = [
                {"name": f"errors {run}", "kind": "errors", "of": layer.name}
                for run, layer in zip("AB", [x for x in splits[name].layers if x.kind == "mask"], strict=True)
            ]
        by_id = by_image[name]
        table["rows"] = [[*row, round(by_id[row[0]], 4)] for row in table["rows"] if row[0] in by_id]
    data = {**page_data(report_b, rows, embedded_pictures, served=False), "compared": True}
    return _rendered(
        "comparison.html", data, served=False,
        report_a=report_a, report_b=report_b, headlines=[headline(report_a), headline(report_b)],
        values=differing_values(report_a.record["config"], report_b.record["config"]),
        metrics=differing_metrics(report_a, report_b), findings=changes(report_a, report_b, by_image),
        embedded=len(embedded_pictures),
    )  # fmt: skip


def _rendered(template: str, data: Any, served: bool, **values: Any) -> str:
    script = Markup("\n").join(_text(name) for name in _SCRIPTS)
    return _ENVIRONMENT.get_template(template).render(
        data=embedded(data), css=_text("page.css"), script=script, errors=ERRORS, version=wsseg.__version__, served=served,
        **values,
    )  # fmt: skip


def together(split_a: Split, split_b: Split) -> Split | None:
    """Return a split with the evaluated masks of both runs as layers.

    None if the masks of a run were not evaluated, or the images or classes differ.
    """
    if split_a.images.key != split_b.images.key or split_a.quality is None or split_b.quality is None:
        return None
    masks = [
        replace(
            next(layer for layer in split.layers if layer.name == split.evaluated), name=f"{run}: {split.evaluated}"
        )
        for run, split in (("A", split_a), ("B", split_b))
    ]
    photograph, *truth = [layer for layer in split_b.layers if layer.kind in ("photo", "truth")]
    return replace(split_b, layers=[photograph, *masks, *truth], evaluated=masks[1].name)


def changes_of(split_a: Split, split_b: Split) -> dict[str, float]:
    """Return the change of the mean IoU, by id, of each image that both runs evaluated."""
    if split_a.quality is None or split_b.quality is None:
        return {}
    before = {image.id: image.miou for image in split_a.quality.images}
    pairs = ((image.id, before.get(image.id), image.miou) for image in split_b.quality.images)
    return {item_id: new - old for item_id, old, new in pairs if old is not None and new is not None}


def differing_values(config_a: Mapping[str, Any], config_b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, value in A, value in B) of the values that differ between two configs."""
    flat_a, flat_b = dict(_flat(config_a)), dict(_flat(config_b))
    return [
        (key, str(flat_a.get(key, "-")), str(flat_b.get(key, "-")))
        for key in sorted({*flat_a, *flat_b})
        if flat_a.get(key, "-") != flat_b.get(key, "-")
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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


def _text(name: str) -> Markup:
    """Return the text of a template file, which is trusted."""
    loader = _ENVIRONMENT.loader
    if loader is None:
        raise WssegError("the page's templates are missing: install wsseg again")
    return Markup(loader.get_source(_ENVIRONMENT, name)[0])  # noqa: S704 (a file of this package)


def embedded(data: Any) -> Markup:
    """Return JSON for a script element: no text in it can close the element or start a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def page_data(report: RunReport, rows: Mapping[str, Any], uris: Mapping[str, Any], served: bool) -> dict[str, Any]:
    """Return the data of the page's script."""
    images = next((split.images for split in report.splits.values()), None)
    names = images.classes.with_background if images else ()
    appearance = script_data(max(len(names) - 1, 0))
    return {"served": served, "classes": names, "splits": rows, "pictures": uris, "appearance": appearance}


def split_rows(split: Split) -> dict[str, Any]:
    """Return the layers and rows of one split.

    A row is [id, class ids, height, width, mean IoU or null, [share of each kind of error], {class id: IoU}].
    """
    by_id = {image.id: image for image in split.quality.images} if split.quality else {}
    rows: list[Any] = []
    for item in split.images.items:
        counts = by_id.get(item.id)
        miou, shares, by_class = None, [], {}
        if counts is not None:
            miou = None if counts.miou is None else round(counts.miou, 4)
            shares = [round(share, 5) for share in counts.shares]
            by_class = {k: round(c.iou, 4) for k, c in counts.classes.items() if k != BACKGROUND and c.iou is not None}
        rows.append([item.id, item.class_ids, *item.size, miou, shares, by_class])
    layers = [{"name": layer.name, "kind": layer.kind} for layer in split.layers]
    without_truth = []
    if split.truth is not None:
        ids = set(split.truth.ids)
        without_truth = [item.id for item in split.images.items if item.id not in ids]
        if split.evaluated:
            layers.append({"name": "errors", "kind": "errors"})
    return {"layers": layers, "evaluated": split.evaluated, "rows": rows, "without_truth": without_truth}


def picture_uris(splits: Iterable[Split], choose: Callable[[Split, int], list[str]]) -> dict[str, dict[str, str]]:
    """Return data URIs by ``SPLIT/ID`` and layer of the chosen images; pictures that cannot be read are left out."""
    uris: dict[str, dict[str, str]] = {}
    splits = list(splits)
    share = MOST_PICTURES // max(len(splits), 1)
    bytes_left = _MOST_BYTES
    for split in splits:
        ids = choose(split, share)
        items = {item.id: item for item in split.images.items}
        for item_id in track(ids, len(ids), f"report: pictures of {split.images.split}"):
            by_layer: dict[str, str] = {}
            for layer in split.layers:
                try:
                    media, data = pictures.picture(split, layer, items[item_id], pictures.SIDE)
                except WssegError:
                    continue
                by_layer[layer.name] = pictures.data_uri(media, data)
                bytes_left -= len(data)
            if bytes_left < 0:
                break
            uris[f"{split.images.split}/{item_id}"] = by_layer
    return uris


def chosen_ids(split: Split, most: int) -> list[str]:
    """Return the ids of up to `most` images: the worst and others up to the best, or evenly spaced without an evaluation."""
    if split.quality:
        return worst_and_others(split.quality.images, most)
    return [item.id for item in evenly_spaced(split.images.items, most)]


def drawn_recipe(steps: list[StepFacts]) -> tuple[list[Box], list[str], tuple[int, int]]:
    """Place each step to the right of all steps that it needs.

    Returns:
        The boxes, the SVG paths between them, and (width, height) of the drawing.
    """
    width, height, across, down = _BOX
    depth: dict[str, int] = {}
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[n] for n in step.needs if n in depth), default=-1)
    for step in sorted(
        steps, key=lambda s: s.stage == "evaluate_masks"
    ):  # evaluations are below the steps they evaluate
        column = depth[step.name]
        row = rows.get(column, 0)
        rows[column] = row + 1
        places[step.name] = column * (width + across), row * (height + down)
    boxes = [Box(s, *places[s.name], _cost(s)) for s in steps]
    lines = []
    for step in steps:
        right, bottom = places[step.name]
        for need in step.needs:
            if need in places:
                left, top = places[need]
                x1, y1, x2, y2 = left + width, top + height // 2, right, bottom + height // 2
                lines.append(f"M{x1} {y1}C{x1 + across // 2} {y1} {x2 - across // 2} {y2} {x2} {y2}")
    size = (
        max((left for left, _ in places.values()), default=0) + width,
        max((top for _, top in places.values()), default=0) + height,
    )
    return boxes, lines, size


def _cost(step: StepFacts) -> str:
    if step.state != "complete":
        return step.state
    time = f"{step.seconds:.0f} s" if step.seconds < 120 else f"{step.seconds / 60:.1f} min"
    size = f"{step.size / 2**20:.1f} MiB" if step.size >= 2**17 else f"{step.size / 2**10:.0f} KiB"
    return f"{time}, {size}"


def _metrics(report: RunReport) -> dict[str, Any]:
    """Return the table of all metrics: the class names, and one row per evaluated step."""
    reports = {name: r for name, r in report.reports.items() if r["metrics"]["miou"] is not None}
    if not reports:
        return {}
    names = list(next(iter(reports.values()))["metrics"]["iou"])
    rows = []
    for step, evaluation in reports.items():
        metrics, conditions = evaluation["metrics"], evaluation["conditions"]
        note = "diagnostic" if conditions["diagnostic"] else "result"
        if "best_threshold" in metrics:
            note = f"diagnostic, best threshold {metrics['best_threshold']:.2f}"
        values = [metrics["iou"].get(n) for n in names]
        rows.append(
            {"step": step, "split": conditions["split"], "note": note, "values": values, "miou": metrics["miou"]}
        )
    return {"names": names, "rows": rows}
