"""Everything a report says of one run, gathered from its record, its artifacts and, where they can be read, its images."""

import contextlib
import json
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from wsseg.data.images import LabeledImages
from wsseg.errors import WssegError
from wsseg.labels import ClassMap
from wsseg.parallel import map_threads
from wsseg.progress import track
from wsseg.report.judging import ClassErrors, Judged, Judgement, SeedCurves, SizeErrors, judge, seed_curves
from wsseg.running.sources import Sources, recorded_data
from wsseg.saliency.seeds import decode_seed
from wsseg.stages.evaluate_masks.judgement import SeedJudge
from wsseg.stages.layout import SEED_FOLDER, ArtifactMasks
from wsseg.stages.protocol import TruthSource
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.store.objects import ArtifactStore, key_of

log = logging.getLogger("wsseg")

Found = TypeVar("Found")
UPPER_BOUND = "full_supervision"
_MASKS = ("pseudo_masks", "predictions")


@dataclass(frozen=True)
class StepFacts:
    """One step of the run: its state, seconds, bytes and figures by epoch where its artifact is there, and the steps it needs."""

    name: str
    stage: str
    state: str
    seconds: float
    size: int
    needs: tuple[str, ...]
    metrics: Mapping[str, Any]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)  # of a training, by name: ``loss`` first


@dataclass(frozen=True)
class Layer:
    """One thing to see of each image of a split: its kind is ``photo``, ``heat`` (seeds), ``mask`` or ``truth``."""

    name: str
    kind: str
    artifact: Artifact | None = None


@dataclass
class Split:
    """The images of one split, what there is to see of them, and how the last masks do."""

    images: LabeledImages
    truth: TruthSource | None
    layers: list[Layer]
    judgement: Judgement | None = None
    judged: str = ""  # the step whose masks are judged
    seeds: dict[str, SeedCurves] = field(default_factory=dict)  # by step


@dataclass
class RunReport:
    """A run.

    Args:
        run: its id.
        record: what the store keeps of it.
        steps: in the recipe's order.
        splits: by name; empty where the data set cannot be read any more.
        result: the last figures on held-out masks (`evaluate_masks`), or None.
        reports: all figures of `evaluate_masks`, (report.json), by step.
        bound: the run of full supervision that the result is compared with: (run id, its mIoU).
        siblings: mIoU and IoU by class of the same recipe and config with other seeds, by seed.
        notes: what is missing in this report, and why.
    """

    run: str
    record: Mapping[str, Any]
    steps: list[StepFacts]
    splits: dict[str, Split] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    bound: tuple[str, float] | None = None
    siblings: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.record['recipe']} on {self.record['config_name']}"

    @property
    def ratio(self) -> float | None:
        """Weak-to-full ratio, where both figures are known."""
        if self.result is None or self.bound is None or self.record["recipe"] == UPPER_BOUND:
            return None
        return float(self.result["metrics"]["miou"]) / self.bound[1]


def gather(store: ArtifactStore, run: str, record: Mapping[str, Any], judged: bool = True) -> RunReport:
    """Gather what there is to say of a run.

    Args:
        store: where it is.
        run: its id.
        record: its record.
        judged: also compare every image with its truth, where there is one.
    """
    artifacts = {name: _artifact(store, step["key"]) for name, step in record["steps"].items()}
    contents = RunReport(run, record, [_facts(name, artifacts, record) for name in record["steps"]])
    contents.reports = {name: a.read_json("report.json") for name, a in artifacts.items() if a and a.kind == "report"}
    contents.result = _result(contents.reports)
    failed = {name: step["failed"] for name, step in record["steps"].items() if "failed" in step}
    contents.notes += [f"{name} failed: {why}" for name, why in failed.items()]
    _compare(contents, store)
    try:
        sources = Sources(recorded_data(record), store)
        for name in ("train", "val"):
            if sources.has(f"data.{name}"):
                _add_split(contents, name, sources, artifacts)
    except (WssegError, LookupError, TypeError) as error:
        contents.splits = {}
        contents.notes.append(f"No images: the data set of this run cannot be read now ({error}).")
    if judged:
        for split in contents.splits.values():
            _judge_split(split, store)
    return contents


def _artifact(store: ArtifactStore, key: str) -> Artifact | None:
    try:
        return store.get(key)
    except WssegError as error:
        log.warning("report: %s", error)
        return None


def _facts(name: str, artifacts: Mapping[str, Artifact | None], record: Mapping[str, Any]) -> StepFacts:
    step, artifact = record["steps"][name], artifacts[name]
    by_key = {other["key"]: other_name for other_name, other in record["steps"].items()}
    needs = tuple(dict.fromkeys(by_key[k] for k in step["inputs"].values() if k in by_key))
    if artifact is None:
        state = "failed" if "failed" in step else "missing"
        return StepFacts(name, step["stage"], state, 0.0, 0, needs, {})
    manifest = artifact.manifest
    seconds = float(manifest["made_with"]["seconds"])
    network = artifact.read_json("network.json") if "network.json" in artifact.files else {}
    history = network.get("history") or {"loss": network["losses"]} if network else {}  # before there were others
    return StepFacts(name, step["stage"], "complete", seconds, artifact.size, needs, manifest["metrics"], history)


def _result(reports: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last report that is no diagnostic."""
    held_out = [r for r in reports.values() if not r["conditions"]["diagnostic"] and r["metrics"]["miou"] is not None]
    return held_out[-1] if held_out else None


def _compare(contents: RunReport, store: ArtifactStore) -> None:
    """Find full supervision of the same network and data (the newest, of the same seed where it is there), and other seeds."""
    record, data = contents.record, contents.record["config"].get("data")
    seed = record["config"].get("rng_seed")
    bounds = []
    for run, other in store.runs().items():
        if other["config"].get("data") != data:
            continue
        is_sibling = (other["recipe"], other["config_name"]) == (record["recipe"], record["config_name"])
        is_sibling = is_sibling and _without_seeds(other["config"]) == _without_seeds(record["config"])
        is_bound = other["recipe"] == UPPER_BOUND and _same_network(other["config"], record["config"])
        if not is_sibling and not is_bound:
            continue
        try:
            result = _result_of(other, store)
            if result is None:
                continue
            if is_bound:
                bounds.append((other["config"].get("rng_seed") == seed, run, float(result["metrics"]["miou"])))
            if is_sibling:
                contents.siblings[int(other["config"].get("rng_seed", 0))] = result["metrics"]
        except (WssegError, LookupError, TypeError, ValueError) as error:  # another run's fault is not this one's
            log.warning("report: run %s is not compared with: %s", run, error)
    if bounds:
        _, run, miou = max(bounds, key=lambda b: (b[0], b[1]))
        contents.bound = run, miou


def _result_of(record: Mapping[str, Any], store: ArtifactStore) -> Mapping[str, Any] | None:
    artifacts = {name: _artifact(store, step["key"]) for name, step in record["steps"].items()}
    return _result({name: a.read_json("report.json") for name, a in artifacts.items() if a and a.kind == "report"})


def _same_network(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two configs train the same network for as long: only then is the ratio of their results one."""
    tables = ("segmenter", "predictions")
    return all(_without_seeds({t: one.get(t)}) == _without_seeds({t: other.get(t)}) for t in tables)


def _without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {k: v for k, v in value.items() if k != "rng_seed"} if isinstance(value, dict) else value
        for name, value in config.items()
        if name != "rng_seed"
    }


def _add_split(contents: RunReport, name: str, sources: Sources, artifacts: Mapping[str, Artifact | None]) -> None:
    images = sources.get(f"data.{name}")
    layers = [Layer("photograph", "photo")]
    for step, artifact in artifacts.items():
        if artifact is None or artifact.manifest["inputs"].get("images") != images.key:
            continue
        if artifact.kind == "seeds":
            layers.append(Layer(step, "heat", artifact))
        elif artifact.kind in _MASKS:
            layers.append(Layer(step, "mask", artifact))
    if len(layers) == 1:  # nothing was made of these images but networks
        return
    truth = sources.get(f"truth.{name}") if sources.has(f"truth.{name}") else None
    if truth is not None:
        layers.append(Layer("truth", "truth"))
    contents.splits[name] = Split(images, truth, layers)


def _judge_split(split: Split, store: ArtifactStore) -> None:
    """Compare the split's last masks and its seeds with its truth; what is found is kept in the store's folder ``reports``."""
    if split.truth is None:
        return
    truth = split.truth
    masks = [layer for layer in split.layers if layer.kind == "mask"]
    if masks and (artifact := masks[-1].artifact):
        split.judged = masks[-1].name
        given = ArtifactMasks(artifact).mask
        made = partial(judged_anew, split.images, truth, given)
        inputs = {"masks": artifact.key, "truth": truth.key}
        split.judgement = _kept(
            store, inputs, lambda: _plain(made()), partial(_judgement, classes=split.images.classes)
        )
    for layer in split.layers:
        if layer.kind == "heat" and (artifact := layer.artifact):
            curves = partial(_curves, split.images, truth, artifact)
            inputs = {"seeds": artifact.key, "truth": truth.key}
            split.seeds[layer.name] = _kept(store, inputs, lambda: asdict(curves()), lambda kept: SeedCurves(**kept))  # noqa: B023


def judged_anew(images: LabeledImages, truth: TruthSource, masks: Callable[[str], Any]) -> Judgement:
    """Compare the mask of every image that has a truth with it, on all cores."""
    labels = len(images.classes) + 1
    found = Judgement(images.classes)

    def one(item_id: str) -> Any:
        return judge(item_id, truth.mask(item_id), masks(item_id), labels)

    for judged, counts, sizes in _mapped(truth.ids, one, f"report: {images.split}"):
        found.add(judged, counts, sizes)
    return found


def _curves(images: LabeledImages, truth: TruthSource, seeds: Artifact) -> SeedCurves:
    """Judge seeds at every threshold."""
    judge_of_seeds = SeedJudge(images.classes)

    def one(item_id: str) -> Any:
        return judge_of_seeds.count(
            item_id, truth.mask(item_id), decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item_id}.png"))
        )

    for counted in _mapped(truth.ids, one, f"report: {seeds.manifest['step']}"):
        judge_of_seeds.add(counted)
    return seed_curves(judge_of_seeds.histogram)


def _mapped(ids: Sequence[str], function: Callable[[str], Any], what: str) -> Iterator[Any]:
    """Yield what a function of an id returns, in the ids' order, on all cores; few are in flight."""
    return track(map_threads(function, ids), len(ids), what)


def _kept(
    store: ArtifactStore, inputs: dict[str, str], make: Callable[[], dict[str, Any]], understood: Callable[[Any], Found]
) -> Found:
    """Return what an earlier report found of the same artifacts; it is recomputed if it is missing or damaged."""
    path = store.root / "reports" / f"{key_of('report', 1, {}, inputs)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return understood(json.loads(path.read_bytes()))
    text = json.dumps(make())
    with contextlib.suppress(OSError):  # a store that cannot be written can be looked at all the same
        atomic_write(path, text.encode())
    return understood(json.loads(text))


def _plain(judgement: Judgement) -> dict[str, Any]:
    return {
        "counts": judgement.counts.tolist(),
        "images": [[j.id, j.miou, j.shares, {k: astuple(e) for k, e in j.classes.items()}] for j in judgement.images],
        "by_size": {k: {name: asdict(s) for name, s in by.items()} for k, by in judgement.by_size.items()},
    }


def _judgement(kept: Mapping[str, Any], classes: ClassMap) -> Judgement:
    images = [
        Judged(item_id, miou, tuple(shares), {int(k): ClassErrors(*e) for k, e in own.items()})
        for item_id, miou, shares, own in kept["images"]
    ]
    sizes = {int(k): {name: SizeErrors(**s) for name, s in by.items()} for k, by in kept["by_size"].items()}
    return Judgement(classes, images, np.array(kept["counts"], np.int64), sizes)


def spread(values: list[float]) -> str:
    """Return fractions as percent: the mean, and the standard deviation where there are several."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f} ({len(values)} seeds)"
