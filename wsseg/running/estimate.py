"""Estimates the time and disk space of a recipe by running it on a few images in a temporary store."""

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from wsseg import progress
from wsseg.running.execute import run_plan
from wsseg.running.plan import CACHED, Plan, make_plan
from wsseg.running.recipe import SOURCES
from wsseg.stages.layout import PER_IMAGE
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")

FEW = 64  # images of the first measured run, at least two training batches; the second run has twice as many
_WARM_UP = 16  # images of a run before, which is not measured because first calls are slow
# a step that first examines a fixed number of images would take too large a share of a small run
_WITHOUT_SAMPLES = ("walk.when=always",)


@dataclass(frozen=True)
class Estimate:
    """The expected time in seconds and size in bytes of one step; both are 0 for a cached step."""

    step: str
    state: str
    seconds: float
    size: int


def estimate(plan: Plan, recipe: str, config: str, overrides: tuple[str, ...]) -> list[Estimate]:
    """Run the recipe on a few images and on twice as many, and extrapolate each step linearly.

    Two points separate a step's fixed cost (loading networks, starting workers) from its cost per image. The time of a
    training is extrapolated over optimiser steps: the second run has two epochs, which also makes its masks, and their
    file sizes, more like those of a long training. A step that may stop early (rounds of self-training) counts in full.

    Args:
        plan: the plan to estimate.
        recipe, config, overrides: the arguments that the plan was made from.

    Returns:
        One estimate per active step, in order.
    """
    if all(planned.state == CACHED for planned in plan.active):
        return [Estimate(p.step.name, p.state, 0.0, 0) for p in plan.active]
    batches = [p.config.batch_size for p in plan.active if hasattr(p.config, "epochs")]
    few = max([FEW, *(2 * size for size in batches)])
    log.info("measuring %d and %d images", few, 2 * few)
    with tempfile.TemporaryDirectory(prefix="wsseg-plan-") as folder, progress.hidden():
        store = ArtifactStore(Path(folder))
        measured = []
        for images, epochs in ((max([_WARM_UP, *batches]), 1), (few, 1), (2 * few, 2)):
            measured.append(make_plan(recipe, config, store, (*overrides, *_small_overrides(plan, images, epochs))))
            run_plan(measured[-1])
        return [_extrapolate(i, plan, *measured[1:]) for i in range(len(plan.active))]


def _small_overrides(plan: Plan, images: int, epochs: int) -> Iterable[str]:
    """Yield overrides that limit the images of each split and the epochs of each training."""
    for split in ("train", "val"):
        if plan.sources.has(f"data.{split}"):
            yield f"data.{split}.limit={images}"
    tables = {p.step.table: p.config for p in plan.active}
    for name, config in tables.items():
        if any(field.name == "epochs" for field in fields(config)):
            yield f"{name}.epochs={epochs}"
    yield from (text for text in _WITHOUT_SAMPLES if text.partition(".")[0] in tables)


def _extrapolate(index: int, plan: Plan, less: Plan, more: Plan) -> Estimate:
    """Extrapolate time and size of step `index` from two small runs to the given plan."""
    planned = plan.active[index]
    points = [(_work(p, index), p.active[index].artifact) for p in (less, more)]
    made = [(work, artifact) for work, artifact in points if artifact is not None]
    if planned.state == CACHED or not made:
        return Estimate(planned.step.name, planned.state, 0.0, 0)
    work, (most, artifact) = _work(plan, index), made[-1]
    seconds = _linear([(done, float(a.manifest["made_with"]["seconds"])) for done, a in made], work)
    grows = artifact.kind in PER_IMAGE
    return Estimate(planned.step.name, planned.state, seconds, round(artifact.size * (work / most if grows else 1)))


def _linear(points: list[tuple[float, float]], work: float) -> float:
    """Return the seconds of `work` on the line through two points (work, seconds), or through one point and the origin."""
    most, seconds = points[-1]
    fewer, before = points[0]
    if most == fewer:
        return seconds * work / most
    return seconds + max(seconds - before, 0.0) / (most - fewer) * (work - most)


def _work(plan: Plan, index: int) -> float:
    """Return the work of a step: its number of images, or a training's number of optimiser steps."""
    planned = plan.active[index]
    splits = [source.split(".")[1] for source in planned.step.inputs.values() if source in SOURCES]
    split = "val" if splits and all(s == "val" for s in splits) else "train"
    images = len(plan.sources.get(f"data.{split}"))
    if hasattr(planned.config, "epochs"):
        exact = {"exact": True} if planned.step.inputs.get("masks", "").startswith("truth.") else {}
        return float(planned.config.length(images, **exact).steps(planned.config.batch_size))
    return images
