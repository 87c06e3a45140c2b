"""The page: contents and pictures into one HTML file that asks nobody for anything."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jinja2
from markupsafe import Markup

import wsseg
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError
from wsseg.progress import track
from wsseg.report import pictures, words
from wsseg.report.charts import charts
from wsseg.report.contents import RunReport, Split, StepFacts
from wsseg.report.judging import KINDS, shown

MOST_PICTURES = 300  # images whose pictures a page holds itself
_MOST_BYTES = 9_000_000  # of pictures, before base64 makes them a third larger
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("wsseg.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_BOX = 150, 50, 42, 16  # px: width and height of a step in the drawn recipe, and the gaps between


@dataclass(frozen=True)
class Box:
    """One step of the drawn recipe, at its place in pixels."""

    step: StepFacts
    left: int
    top: int
    text: str


def render(contents: RunReport, served: bool = False) -> str:
    """Return the page of a run.

    Args:
        contents: what it tells of.
        served: pictures are asked for one by one (`wsseg.report.server`); if not, the page holds up to 300 images' itself.
    """
    held = {} if served else held_pictures(contents.splits.values(), worst_and_others)
    data = page_data(contents, {name: split_rows(split) for name, split in contents.splits.items()}, held, served)
    boxes, lines, size = drawn_recipe(contents.steps)
    return _ENVIRONMENT.get_template("run.html").render(
        contents=contents, headline=words.headline(contents), looks=words.first_looks(contents), charts=charts(contents),
        boxes=boxes, lines=lines, size=size, box=_BOX, figures=_figures(contents), data=embedded(data), css=_text("page.css"),
        js=_text("page.js"), version=wsseg.__version__, images=sum(len(s.images) for s in contents.splits.values()),
        held=len(held), served=served,
    )  # fmt: skip


def render_comparison(one: RunReport, other: RunReport) -> str:
    """Return the page that sets two runs side by side: what changed in values, in figures, and on which images most."""
    splits = {}
    for name, split in other.splits.items():
        before = one.splits.get(name)
        if before is not None and (both := together(before, split)) is not None:
            splits[name] = both
    changes = {name: changes_of(one.splits[name], other.splits[name]) for name in splits}

    def most_changed(split: Split, most: int) -> list[str]:
        own = changes[split.images.split]
        return sorted(own, key=lambda item_id: -abs(own[item_id]))[:most]

    held = held_pictures(splits.values(), most_changed)
    rows = {name: split_rows(split) for name, split in splits.items()}
    for name, own in rows.items():
        own["layers"][-1:] = [
            {"name": f"errors {which}", "kind": "errors", "of": layer.name}
            for which, layer in zip("AB", [x for x in splits[name].layers if x.kind == "mask"], strict=True)
        ]
        own["rows"] = [[*row, round(changes[name][row[0]], 4)] for row in own["rows"] if row[0] in changes[name]]
    data = {**page_data(other, rows, held, served=False), "compared": True}
    return _ENVIRONMENT.get_template("comparison.html").render(
        one=one, other=other, values=differing_values(one.record["config"], other.record["config"]),
        figures=differing_figures(one, other), headlines=[words.headline(one), words.headline(other)],
        looks=words.changes(one, other, changes), data=embedded(data), css=_text("page.css"), js=_text("page.js"),
        version=wsseg.__version__, served=False, held=len(held),
    )  # fmt: skip


def together(one: Split, other: Split) -> Split | None:
    """Return what there is to see of both runs' last masks, A's and B's.

    None where one of them was not judged, or they are not of the same images and classes.
    """
    if one.images.key != other.images.key:
        return None
    masks = [[layer for layer in split.layers if layer.kind == "mask"] for split in (one, other)]
    if one.judgement is None or other.judgement is None or not all(masks):
        return None
    named = [replace(own[-1], name=f"{which}: {own[-1].name}") for which, own in zip("AB", masks, strict=True)]
    kept = [layer for layer in other.layers if layer.kind in ("photo", "truth")]
    return replace(other, layers=[kept[0], *named, *kept[1:]], judged=named[1].name)


def changes_of(one: Split, other: Split) -> dict[str, float]:
    """Return by how much the mean IoU of each image that both runs judged changed, by id."""
    if one.judgement is None or other.judgement is None:
        return {}
    before = {j.id: j.miou for j in one.judgement.images}
    pairs = ((j.id, before.get(j.id), j.miou) for j in other.judgement.images)
    return {item_id: after - old for item_id, old, after in pairs if old is not None and after is not None}


def differing_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (key, before, after) of the values in which two configs differ."""
    flat = [dict(_flat(config)) for config in (one, other)]
    return [
        (key, str(flat[0].get(key, "-")), str(flat[1].get(key, "-")))
        for key in sorted({*flat[0], *flat[1]})
        if flat[0].get(key, "-") != flat[1].get(key, "-")
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differing_figures(one: RunReport, other: RunReport) -> list[dict[str, Any]]:
    """Return a row for each judged step of either run: mIoU of both, and the change by class."""
    rows = []
    for step in dict.fromkeys([*one.reports, *other.reports]):
        found = [c.reports[step]["metrics"] if step in c.reports else None for c in (one, other)]
        classes = {
            name: (found[0]["iou"].get(name), found[1]["iou"].get(name)) if found[0] and found[1] else (None, None)
            for name in (found[1] or found[0] or {"iou": {}})["iou"]
        }
        rows.append({
            "step": step, "miou": [f["miou"] if f else None for f in found],
            "classes": {n: None if a is None or b is None else b - a for n, (a, b) in classes.items()},
        })  # fmt: skip
    return rows


def _text(name: str) -> Markup:
    """Return a template's own text, which is trusted."""
    loader = _ENVIRONMENT.loader
    if loader is None:
        raise WssegError("the page's templates are missing: install wsseg again")
    return Markup(loader.get_source(_ENVIRONMENT, name)[0])  # noqa: S704 (a file of this package)


def embedded(data: Any) -> Markup:
    """Return JSON that can stand in a script element: no text in it can close the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def page_data(contents: RunReport, rows: Mapping[str, Any], held: Mapping[str, Any], served: bool) -> dict[str, Any]:
    """Return what the script works on."""
    images = next((split.images for split in contents.splits.values()), None)
    names = images.classes.with_background if images else ()
    return {"served": served, "classes": names, "splits": rows, "pictures": held}


def split_rows(split: Split) -> dict[str, Any]:
    """Return layers and rows of one split.

    A row is [id, class ids, height, width, mean IoU or null, [share of each of `KINDS`], {class id: IoU}].
    """
    judged = {j.id: j for j in split.judgement.images} if split.judgement else {}
    rows: list[Any] = []
    for item in split.images.items:
        own = judged.get(item.id)
        by_class = {k: round(e.iou, 4) for k, e in own.classes.items() if e.iou is not None} if own else {}
        shares = [round(s, 5) for s in own.shares] if own else []
        miou = None if own is None or own.miou is None else round(own.miou, 4)
        rows.append([item.id, item.class_ids, *item.size, miou, shares, by_class])
    layers = [{"name": layer.name, "kind": layer.kind} for layer in split.layers]
    if split.judged and split.truth is not None:
        layers.append({"name": "errors", "kind": "errors"})
    judged_ids = set(split.truth.ids) if split.truth is not None else set()
    unjudged = [item.id for item in split.images.items if split.truth is not None and item.id not in judged_ids]
    return {"layers": layers, "judged": split.judged, "kinds": KINDS, "rows": rows, "unjudged": unjudged}


def held_pictures(splits: Iterable[Split], choose: Callable[[Split, int], list[str]]) -> dict[str, dict[str, str]]:
    """Return data URIs by ``SPLIT/ID`` and layer, of the images that `choose` gives; what cannot be read is left out."""
    found: dict[str, dict[str, str]] = {}
    wanted = list(splits)
    share = MOST_PICTURES // max(len(wanted), 1)
    bytes_left = _MOST_BYTES
    for split in wanted:
        ids = choose(split, share)
        items = {item.id: item for item in split.images.items}
        for item_id in track(ids, len(ids), f"report: pictures of {split.images.split}"):
            own: dict[str, str] = {}
            for layer in split.layers:
                try:
                    media, data = pictures.picture(split, layer, items[item_id], pictures.SIDE)
                except WssegError:
                    continue
                own[layer.name] = pictures.data_uri(media, data)
                bytes_left -= len(data)
            if bytes_left < 0:
                break
            found[f"{split.images.split}/{item_id}"] = own
    return found


def worst_and_others(split: Split, most: int) -> list[str]:
    """Return the ids of up to `most` images: the worst and others up to the best, or evenly spaced where there is no truth."""
    if split.judgement:
        return shown(split.judgement.images, most)
    return [item.id for item in evenly_spaced(split.images.items, most)]


def drawn_recipe(steps: list[StepFacts]) -> tuple[list[Box], list[str], tuple[int, int]]:
    """Place the steps in columns, each to the right of all it needs: (boxes, SVG paths between them, (width, height))."""
    width, height, across, down = _BOX
    depth: dict[str, int] = {}
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[n] for n in step.needs if n in depth), default=-1)
    for step in sorted(steps, key=lambda s: s.stage == "evaluate_masks"):  # what is made stands above what is measured
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


def _figures(contents: RunReport) -> dict[str, Any]:
    """Return the table of all figures: header, and a row a judged step."""
    reports = {name: r for name, r in contents.reports.items() if r["metrics"]["miou"] is not None}
    if not reports:
        return {}
    names = list(next(iter(reports.values()))["metrics"]["iou"])
    rows = []
    for step, report in reports.items():
        metrics, conditions = report["metrics"], report["conditions"]
        note = "diagnostic" if conditions["diagnostic"] else "result"
        if "best_threshold" in metrics:
            note = f"diagnostic, best threshold {metrics['best_threshold']:.2f}"
        values = [metrics["iou"].get(n) for n in names]
        rows.append(
            {"step": step, "split": conditions["split"], "note": note, "values": values, "miou": metrics["miou"]}
        )
    return {"names": names, "rows": rows}
