"""The page: the contents of a report and its pictures in one HTML file that works offline."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

import wsseg
from wsseg.data.sampling import evenly_spaced
from wsseg.errors import WssegError, counted
from wsseg.metrics.wording import percent
from wsseg.progress import track
from wsseg.report import pictures
from wsseg.report.advice import advice
from wsseg.report.appearance import ERRORS, class_colour, script_data
from wsseg.report.figures import groups
from wsseg.report.opening import opening
from wsseg.report.quality import worst_and_others
from wsseg.report.run_report import Layer, RunReport, Split
from wsseg.types import LabeledImage

MOST_PICTURES = 300  # images whose pictures are embedded in a page
_MOST_BYTES = 9_000_000  # of pictures, before base64 makes them a third larger
_SCRIPTS = (  # one job each, in order
    "elements.js", "pictures.js", "layers.js", "cards.js", "rows.js", "viewer.js", "controls.js",
)  # fmt: skip
_MOST_DOUBTS = 12  # photographs with a label that is probably wrong
_OPEN_CLASSES = 4  # classes whose rows of pictures are not folded
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("wsseg.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_ENVIRONMENT.filters["percent"] = percent


@dataclass(frozen=True)
class Row:
    """One image with its pictures side by side.

    Args:
        title: why it is shown, such as ``worst, IoU 12.3 %``.
        split: name of its split.
        item: the image.
        cells: title and layer of each picture.
    """

    title: str
    split: str
    item: LabeledImage
    cells: Sequence[tuple[str, Layer]]

    @property
    def shape(self) -> str:
        """Width / height of the pictures for CSS, between 0.5 and 2."""
        height, width = self.item.size
        return f"{min(max(width / height, 0.5), 2):.3f}"


@dataclass(frozen=True)
class RowGroup:
    """Rows of one class.

    Args:
        title: of the group.
        colour: of the class, for CSS; empty for none.
        note: a few words beside the title.
        rows: of the group.
        folded: whether a person opens the group.
    """

    title: str
    colour: str
    note: str
    rows: Sequence[Row]
    folded: bool = False


def render(report: RunReport, served: bool = False) -> str:
    """Return the page of a run.

    Args:
        report: the contents.
        served: the page requests each picture from `wsseg.report.server`; if not, pictures of up to 300 images are embedded.
    """
    examples = report.examples
    rows, doubts = row_groups(report), doubtful(report)
    shown = [*rows, *([doubts] if doubts else [])]
    embedded_pictures = {} if served else picture_uris(report.splits.values(), chosen_ids, shown)
    tables = {name: split_rows(split) for name, split in report.splits.items()}
    extra = [x for _, x in examples.columns if x not in examples.split.layers] if examples else []
    data = page_data(report, tables, embedded_pictures, served, extra)
    return rendered(
        "run.html", data, served,
        report=report, opening=opening(report), row_groups=rows, examples=examples, doubts=doubts, advice=advice(report),
        groups=groups(report), images=sum(len(s.images) for s in report.splits.values()), embedded=len(embedded_pictures),
        judged=any(split.quality is not None for split in report.splits.values()), links=_links(report, rows, doubts),
    )  # fmt: skip


def _links(report: RunReport, rows: Sequence[RowGroup], doubts: RowGroup | None) -> list[tuple[str, str]]:
    """Return id and name of each part of the page."""
    parts = [
        ("pictures", "Pictures", rows), ("advice", "What to do next", True), ("doubts", "Doubtful labels", doubts),
        ("figures", "Figures", True), ("images", "All images", report.splits),
    ]  # fmt: skip
    return [(part, name) for part, name, shown in parts if shown]


def row_groups(report: RunReport) -> list[RowGroup]:
    """Return the rows of pictures of each class."""
    examples = report.examples
    if examples is None:
        return []
    split, measure = examples.split, examples.split.scores.measure if examples.split.scores else ""
    found = []
    for place, shown in enumerate(examples.classes):
        rows = [
            Row(
                f"{row.place}: {measure} {percent(row.score)} %" if row.place else "",
                split.images.split, row.item, examples.columns,
            )
            for row in shown.rows
        ]  # fmt: skip
        note = f"{shown.images} images" + (f", median {measure} {percent(shown.median)} %" if measure else "")
        colour = f"rgb({', '.join(map(str, class_colour(shown.class_id)))})"
        name = split.images.classes.with_background[shown.class_id]
        found.append(RowGroup(name, colour, note, rows, folded=place >= _OPEN_CLASSES))
    return found


def doubtful(report: RunReport) -> RowGroup | None:
    """Return the photographs whose labels are probably wrong, if `wsseg data doubt` has judged the labels."""
    split = report.splits.get("train")
    if split is None or split.doubts is None:
        return None
    items = {item.id: item for item in split.images.items}
    wrong = [image for image in split.doubts.doubts.images if image.probably_wrong and image.id in items]
    if not wrong:
        return None
    rows = [Row(image.why, "train", items[image.id], [(image.why, split.layers[0])]) for image in wrong[:_MOST_DOUBTS]]
    return RowGroup("train", "", f"{len(wrong)} of {counted(len(items), 'photograph')}", rows)


def rendered(template: str, data: Any, served: bool, **values: Any) -> str:
    """Return a page from its template, its data, and the scripts and styles that all pages share."""
    script = Markup("\n").join(_text(name) for name in _SCRIPTS)
    return _ENVIRONMENT.get_template(template).render(
        data=embedded(data), css=_text("page.css"), script=script, errors=ERRORS, version=wsseg.__version__, served=served,
        **values,
    )  # fmt: skip


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


def page_data(
    report: RunReport, tables: Mapping[str, Any], uris: Mapping[str, Any], served: bool, extra: Iterable[Layer] = ()
) -> dict[str, Any]:
    """Return the data of the page's script.

    Args:
        report: the contents.
        tables: of `split_rows`, by split.
        uris: of `picture_uris`.
        served: see `render`.
        extra: layers that only the rows of pictures have.
    """
    classes: Sequence[str] = ()
    for split in report.splits.values():
        classes = split.images.classes.with_background
    return {
        "classes": list(classes), "splits": tables, "pictures": uris, "served": served,
        "extra": [{"name": layer.name, "kind": layer.kind} for layer in extra],
        "appearance": script_data(max(len(classes) - 1, 0)),
    }  # fmt: skip


def split_rows(split: Split) -> dict[str, Any]:
    """Return the layers and rows of one split.

    A row is [id, class ids, height, width, mean score or null, [share of each kind of error], {class id: score}]; the score is
    the measure of `Split.scores`.
    """
    shares = {image.id: image.shares for image in split.quality.images} if split.quality else {}
    scores = split.scores
    by_class: dict[str, dict[int, float]] = {}
    for class_id, values in (scores.classes if scores else {}).items():
        for item_id, value in values.items():
            by_class.setdefault(item_id, {})[class_id] = round(value, 4)
    rows = []
    for item in split.images.items:
        mean = scores.images.get(item.id) if scores else None
        kinds = [round(share, 5) for share in shares.get(item.id, ())]
        score = None if mean is None else round(mean, 4)
        rows.append([item.id, item.class_ids, *item.size, score, kinds, by_class.get(item.id, {})])
    layers = [{"name": layer.name, "kind": layer.kind} for layer in split.layers]
    without_truth = []
    if split.truth is not None:
        ids = set(split.truth.ids)
        without_truth = [item.id for item in split.images.items if item.id not in ids]
        if split.evaluated:
            layers.append({"name": "errors", "kind": "errors"})
    return {
        "layers": layers, "evaluated": split.evaluated, "judged": split.quality is not None,
        "measure": scores.measure if scores else "", "rows": rows, "without_truth": without_truth,
        "doubts": split.doubts.by_image() if split.doubts else {},
    }  # fmt: skip


def picture_uris(
    splits: Iterable[Split], choose: Callable[[Split, int], list[str]], rows: Iterable[RowGroup] = ()
) -> dict[str, dict[str, str]]:
    """Return data URIs by ``SPLIT/ID`` and layer.

    Args:
        splits: their images, of which `choose` returns the ids.
        choose: from a split and the largest number of images.
        rows: of large pictures; they are embedded first.
    """
    uris: dict[str, dict[str, str]] = {}
    by_name = {split.images.split: split for split in splits}
    bytes_left = _MOST_BYTES

    def add(split: Split, item: LabeledImage, layers: Iterable[Layer], side: int) -> None:
        nonlocal bytes_left
        by_layer: dict[str, str] = {}
        for layer in layers:
            try:
                media, data = pictures.picture(layer, item, side)
            except WssegError:
                continue  # it can no longer be read, or the layer does not have it
            by_layer[layer.name] = pictures.data_uri(media, data)
            bytes_left -= len(data)
        if bytes_left >= 0:
            uris[f"{split.images.split}/{item.id}"] = by_layer

    for row in (row for group in rows for row in group.rows):
        if bytes_left >= 0 and f"{row.split}/{row.item.id}" not in uris:
            layers = {layer.name: layer for layer in [*by_name[row.split].layers, *(layer for _, layer in row.cells)]}
            add(by_name[row.split], row.item, layers.values(), pictures.LARGE_SIDE)
    for name, split in by_name.items():
        ids = choose(split, MOST_PICTURES // len(by_name))
        items = {item.id: item for item in split.images.items}
        for item_id in track(ids, len(ids), f"report: pictures of {name}"):
            if bytes_left < 0 or len(uris) >= MOST_PICTURES:
                break
            if f"{name}/{item_id}" not in uris:
                add(split, items[item_id], split.layers, pictures.SIDE)
    return uris


def chosen_ids(split: Split, most: int) -> list[str]:
    """Return the ids of up to `most` images: half of them the worst, others up to the best; evenly spaced without scores."""
    if split.scores is None:
        return [item.id for item in evenly_spaced(split.images.items, most)]
    return worst_and_others({item.id: split.scores.images.get(item.id) for item in split.images.items}, most)
