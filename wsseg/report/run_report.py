"""The contents of a report on one run: its record, its artifacts and, if they can be read, its images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsseg.data.images import LabeledImages
from wsseg.errors import WssegError
from wsseg.report.agreement import agreement, confidence
from wsseg.report.label_doubts import StoredDoubts, stored_doubts
from wsseg.report.quality import MaskQuality, Scores, SeedCurves, mask_quality, scores_of, seed_curves
from wsseg.running.sources import Sources, recorded_data
from wsseg.stages.layout import ArtifactMasks
from wsseg.stages.protocol import MaskSource, TruthSource
from wsseg.store.artifact import Artifact
from wsseg.store.objects import ArtifactStore

if TYPE_CHECKING:
    from wsseg.report.examples import Examples

log = logging.getLogger("wsseg")

UPPER_BOUND = "full_supervision"
_MASKS = ("pseudo_masks", "predictions")


@dataclass(frozen=True)
class StepFacts:
    """One step of a run.

    Args:
        name: of the step.
        stage: its stage.
        state: ``complete``, ``failed`` or ``missing``.
        seconds: duration; 0 if the step has no artifact.
        size: bytes on disk; 0 if the step has no artifact.
        needs: names of the steps whose artifacts it reads.
        metrics: of its artifact.
        history: of a training, values by epoch and name, ``loss`` first.
    """

    name: str
    stage: str
    state: str
    seconds: float
    size: int
    needs: tuple[str, ...]
    metrics: Mapping[str, Any]
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """A picture that every image of a split has.

    Args:
        name: unique within the split.
        kind: ``photo``, ``heat`` (seeds), ``mask`` or ``truth``.
        artifact: that holds the seeds or masks, if there is one.
        masks: the masks of the kinds ``mask`` and ``truth``.
    """

    name: str
    kind: str
    artifact: Artifact | None = None
    masks: MaskSource | None = None


@dataclass
class Split:
    """The images of one split, their layers, and the quality of its masks and seeds.

    Args:
        images: the images.
        layers: the photograph, seeds and masks in the order of the steps, and the truth.
        truth: the true masks, if they can be read and are still those that the masks were evaluated against.
        evaluated: name of the layer that `quality` describes: the last evaluated masks.
        quality: of these masks.
        seeds: curves of evaluated seeds by step.
        scores: of each image, by which images are ordered: IoU if there is an evaluation; otherwise the agreement of the
            layers or the confidence of the network. None if there are fewer than two layers to compare.
        doubts: about the labels of exactly these images, if `wsseg data doubt` judged them.
    """

    images: LabeledImages
    layers: list[Layer]
    truth: TruthSource | None = None
    evaluated: str = ""
    quality: MaskQuality | None = None
    seeds: dict[str, SeedCurves] = field(default_factory=dict)
    scores: Scores | None = None
    doubts: StoredDoubts | None = None

    def of_kind(self, *kinds: str) -> list[Layer]:
        """Return the layers of some kinds, in the order of the steps."""
        return [layer for layer in self.layers if layer.kind in kinds]


@dataclass
class RunReport:
    """Everything that a report states about a run.

    Args:
        run: id of the run.
        record: the run's record in the store.
        steps: in the recipe's order.
        store: folder of the store.
        splits: by name; empty if the data set can no longer be read.
        result: the last report of `evaluate_masks` on held-out masks, or None.
        reports: all reports of `evaluate_masks` (report.json), by step.
        bound: (run id, mIoU) of the run with full supervision that the result is compared with.
        siblings: metrics of runs of the same recipe and config with other seeds, by seed.
        artifacts: of the complete steps, by name.
        notes: what is missing in this report, and why.
    """

    run: str
    record: Mapping[str, Any]
    steps: list[StepFacts]
    store: Path
    splits: dict[str, Split] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    bound: tuple[str, float] | None = None
    siblings: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.record['recipe']} on {self.record['config_name']}"

    @property
    def ratio(self) -> float | None:
        """Weak-to-full ratio, if both results are known."""
        if self.result is None or self.bound is None or self.record["recipe"] == UPPER_BOUND:
            return None
        return float(self.result["metrics"]["miou"]) / self.bound[1]

    @cached_property
    def examples(self) -> "Examples | None":
        """The best, the median and the worst image of each class; None if the run has no pictures. Computed at the first use."""
        from wsseg.report.examples import choose_examples  # it loads a network

        return choose_examples(self)

    def last(self, kind: str) -> Artifact | None:
        """Return the artifact of the last complete step that makes a kind, such as ``segmenter``."""
        made = [artifact for artifact in self.artifacts.values() if artifact.kind == kind]
        return made[-1] if made else None


def gather(store: ArtifactStore, run: str, record: Mapping[str, Any], sources: Sources | None = None) -> RunReport:
    """Gather the contents of a report. No step is computed again, and the true masks are needed for their pictures only.

    Args:
        store: the store that holds the run.
        run: id of the run.
        record: its record.
        sources: its data set, if it is already loaded. Otherwise it is read here, and its notes are logged.
    """
    artifacts = {name: _artifact(store, step["key"]) for name, step in record["steps"].items()}
    report = RunReport(run, record, [_facts(name, artifacts, record) for name in record["steps"]], store.root)
    report.artifacts = {name: artifact for name, artifact in artifacts.items() if artifact is not None}
    report.reports = _reports(artifacts)
    report.result = _result(report.reports)
    failed = {name: step["failed"] for name, step in record["steps"].items() if "failed" in step}
    report.notes += [f"{name} failed: {reason}" for name, reason in failed.items()]
    _compare(report, store)
    try:
        sources = sources or Sources(recorded_data(record), store)
        for name in ("train", "val"):
            if sources.has(f"data.{name}"):
                _add_split(report, name, sources, artifacts)
    except (WssegError, LookupError, TypeError) as error:
        report.splits = {}
        report.notes.append(f"The data set of this run can no longer be read, so no images are shown ({error}).")
        return report
    for name, split in report.splits.items():
        evaluation = _add_quality(report, split, artifacts)
        _add_truth(report, name, sources, evaluation)
        split.doubts = stored_doubts(store, split.images)
        if split.quality is not None:
            split.scores = scores_of(split.quality, split.evaluated)
        else:
            split.scores = agreement(split.images, split.layers) or confidence(split.images, split.layers)
    return report


def _artifact(store: ArtifactStore, key: str) -> Artifact | None:
    try:
        return store.get(key)
    except WssegError as error:
        log.warning("report: %s", error)
        return None


def _facts(name: str, artifacts: Mapping[str, Artifact | None], record: Mapping[str, Any]) -> StepFacts:
    step, artifact = record["steps"][name], artifacts[name]
    names = {entry["key"]: entry_name for entry_name, entry in record["steps"].items()}
    needs = tuple(dict.fromkeys(names[k] for k in step["inputs"].values() if k in names))
    if artifact is None:
        state = "failed" if "failed" in step else "missing"
        return StepFacts(name, step["stage"], state, 0.0, 0, needs, {})
    manifest = artifact.manifest
    seconds = float(manifest["made_with"]["seconds"])
    network = artifact.read_json("network.json") if "network.json" in artifact.files else {}
    history = network.get("history") or {"loss": network["losses"]} if network else {}  # old artifacts have losses only
    return StepFacts(name, step["stage"], "complete", seconds, artifact.size, needs, manifest["metrics"], history)


def _reports(artifacts: Mapping[str, Artifact | None]) -> dict[str, Mapping[str, Any]]:
    """Return report.json of each evaluation, by step."""
    return {name: a.read_json("report.json") for name, a in artifacts.items() if a and a.kind == "report"}


def _result(reports: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last report that is not a diagnostic."""
    held_out = [r for r in reports.values() if not r["conditions"]["diagnostic"] and r["metrics"]["miou"] is not None]
    return held_out[-1] if held_out else None


def _compare(report: RunReport, store: ArtifactStore) -> None:
    """Add full supervision of the same network and data (of the same seed if possible, then the newest), and other seeds."""
    record, data = report.record, report.record["config"].get("data")
    seed = record["config"].get("rng_seed")
    bounds = []
    for run, candidate in store.runs().items():
        if candidate["config"].get("data") != data:
            continue
        is_sibling = (candidate["recipe"], candidate["config_name"]) == (record["recipe"], record["config_name"])
        is_sibling = is_sibling and _without_seeds(candidate["config"]) == _without_seeds(record["config"])
        is_bound = candidate["recipe"] == UPPER_BOUND and _same_network(candidate["config"], record["config"])
        if not is_sibling and not is_bound:
            continue
        try:
            result = _result(
                _reports({name: _artifact(store, step["key"]) for name, step in candidate["steps"].items()})
            )
            if result is None:
                continue
            if is_bound:
                bounds.append((candidate["config"].get("rng_seed") == seed, run, float(result["metrics"]["miou"])))
            if is_sibling:
                report.siblings[int(candidate["config"].get("rng_seed", 0))] = result["metrics"]
        except (WssegError, LookupError, TypeError, ValueError) as error:  # a damaged run must not stop this report
            log.warning("report: run %s is left out of the comparison: %s", run, error)
    if bounds:
        _, run, miou = max(bounds, key=lambda b: (b[0], b[1]))
        report.bound = run, miou


def _same_network(config_a: Mapping[str, Any], config_b: Mapping[str, Any]) -> bool:
    """Return whether two configs train the same network equally long; otherwise the ratio of results means nothing."""
    tables = ("segmenter", "predictions")
    return all(_without_seeds({t: config_a.get(t)}) == _without_seeds({t: config_b.get(t)}) for t in tables)


def _without_seeds(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {k: v for k, v in value.items() if k != "rng_seed"} if isinstance(value, dict) else value
        for name, value in config.items()
        if name != "rng_seed"
    }


def _add_split(report: RunReport, name: str, sources: Sources, artifacts: Mapping[str, Artifact | None]) -> None:
    images = sources.get(f"data.{name}")
    layers = [Layer("photograph", "photo")]
    for step, artifact in artifacts.items():
        if artifact is None or artifact.manifest["inputs"].get("images") != images.key:
            continue
        if artifact.kind == "seeds":
            layers.append(Layer(step, "heat", artifact))
        elif artifact.kind in _MASKS:
            layers.append(Layer(step, "mask", artifact, ArtifactMasks(artifact)))
    if len(layers) > 1:  # else the run made networks of these images, and no seeds or masks
        report.splits[name] = Split(images, layers)


def _add_quality(report: RunReport, split: Split, artifacts: Mapping[str, Artifact | None]) -> Artifact | None:
    """Add the quality of the last evaluated masks and of all evaluated seeds; return the evaluation of the masks."""
    evaluations = {a.manifest["inputs"].get("masks"): a for a in artifacts.values() if a and a.kind == "report"}
    masks_evaluation = None
    for layer in split.layers:
        evaluation = evaluations.get(layer.artifact.key) if layer.artifact else None
        if evaluation is None:
            continue
        if layer.kind == "heat" and (curves := seed_curves(evaluation)):
            split.seeds[layer.name] = curves
        elif layer.kind == "mask" and (quality := mask_quality(evaluation, split.images.classes)):
            split.evaluated, split.quality, masks_evaluation = layer.name, quality, evaluation
        else:
            report.notes.append(
                f"{evaluation.manifest['step']}: an earlier version of wsseg made it without counts per image; "
                "run the recipe again to add them."
            )
    return masks_evaluation


def _add_truth(report: RunReport, name: str, sources: Sources, evaluation: Artifact | None) -> None:
    """Add the true masks as a layer, if they can be read and are those of the evaluation."""
    split = report.splits[name]
    try:
        if not sources.has(f"truth.{name}"):
            return
        truth = sources.get(f"truth.{name}")
    except WssegError as error:
        report.notes.append(f"{name}: the true masks can no longer be read, so they are not shown ({error}).")
        return
    if evaluation is not None and evaluation.manifest["inputs"]["truth"] != truth.key:
        report.notes.append(f"{name}: the true masks have changed since the evaluation, so they are not shown.")
        return
    split.truth = truth
    split.layers.append(Layer("truth", "truth", masks=truth))
