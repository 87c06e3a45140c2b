"""How long a recipe will take, and how much room: a few images go through all of it first, in a folder that is then removed."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from wsseg.running.execute import run_plan
from wsseg.running.plan import CACHED, Plan, make_plan
from wsseg.running.recipe import SOURCES
from wsseg.store.objects import ArtifactStore

log = logging.getLogger("wsseg")

FEW = 64  # images that are measured, and then twice as many; a training sees two batches at the least
_WARM_UP = 16  # images before: the first of everything is slow
_BY_IMAGE = ("seeds", "pseudo_masks", "predictions")  # kinds whose size grows with the images
# what looks at a fixed number of images first would weigh too much among a few
_WITHOUT_SAMPLES = ("walk.when=always",)


@dataclass(frozen=True)
class Estimate:
    """What one step will take: seconds and bytes, 0 where it is cached already."""

    step: str
    state: str
    seconds: float
    size: int


def estimate(plan: Plan, recipe: str, config: str, overrides: tuple[str, ...]) -> list[Estimate]:
    """Measure a few images, twice as many, and draw the line through both, step by step.

    Two points tell what a step costs whatever it is given (networks loaded, workers started) from what each image
    costs. A training's line is over its optimiser's steps: twice the epochs are twice the work, and so the second run
    has two of them (which also makes its masks, and with them their files, more like those of a long training). A step
    that may stop early (rounds of self-training) counts in full.

    Args:
        plan: what is to run.
        recipe, config, overrides: what it was made from.
    """
    if all(planned.state == CACHED for planned in plan.active):
        return [Estimate(p.step.name, p.state, 0.0, 0) for p in plan.active]
    batches = [p.config.batch_size for p in plan.active if hasattr(p.config, "epochs")]
    few = max([FEW, *(2 * size for size in batches)])
    log.info("measuring %d and %d images", few, 2 * few)
    with tempfile.TemporaryDirectory(prefix="wsseg-plan-") as folder, _quiet():
        store = ArtifactStore(Path(folder))
        measured = []
        for images, epochs in ((max([_WARM_UP, *batches]), 1), (few, 1), (2 * few, 2)):
            measured.append(make_plan(recipe, config, store, (*overrides, *_small(plan, images, epochs))))
            run_plan(measured[-1])
        return [_extrapolated(i, plan, *measured[1:]) for i in range(len(plan.active))]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the few images' run says off the screen."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _small(plan: Plan, images: int, epochs: int) -> Iterable[str]:
    """Yield overrides that make the same recipe small."""
    for split in ("train", "val"):
        if plan.sources.has(f"data.{split}"):
            yield f"data.{split}.limit={images}"
    tables = {p.step.table: p.config for p in plan.active}
    for name, config in tables.items():
        if any(field.name == "epochs" for field in fields(config)):
            yield f"{name}.epochs={epochs}"
    yield from (text for text in _WITHOUT_SAMPLES if text.partition(".")[0] in tables)


def _extrapolated(index: int, plan: Plan, less: Plan, more: Plan) -> Estimate:
    """Draw the line through what step `index` took in two small plans, and read it off at the real one."""
    planned = plan.active[index]
    points = [(_work(p, index), p.active[index].artifact) for p in (less, more)]
    made = [(work, artifact) for work, artifact in points if artifact is not None]
    if planned.state == CACHED or not made:
        return Estimate(planned.step.name, planned.state, 0.0, 0)
    work, (most, artifact) = _work(plan, index), made[-1]
    seconds = _line([(done, float(a.manifest["made_with"]["seconds"])) for done, a in made], work)
    grows = artifact.kind in _BY_IMAGE
    return Estimate(planned.step.name, planned.state, seconds, round(artifact.size * (work / most if grows else 1)))


def _line(points: list[tuple[float, float]], work: float) -> float:
    """Return the seconds of `work` on the line through one or two (work, seconds); one through nothing for a single one."""
    most, seconds = points[-1]
    fewer, before = points[0]
    if most == fewer:
        return seconds * work / most
    return seconds + max(seconds - before, 0.0) / (most - fewer) * (work - most)


def _work(plan: Plan, index: int) -> float:
    """Return how much a step has to do: images, or a training's optimiser steps."""
    planned = plan.active[index]
    splits = [source.split(".")[1] for source in planned.step.inputs.values() if source in SOURCES]
    split = "val" if splits and all(s == "val" for s in splits) else "train"
    images = len(plan.sources.get(f"data.{split}"))
    if hasattr(planned.config, "epochs"):
        return float(planned.config.epochs * max(images // planned.config.batch_size, 1))
    return images
