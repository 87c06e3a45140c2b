"""How long a recipe will take, and how much room: a few images go through all of it first, in a folder that is then removed."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from wsseg.recipe import SOURCES
from wsseg.runner import CACHED, Plan, PlannedStep, make_plan, run_plan
from wsseg.store import ArtifactStore

log = logging.getLogger("wsseg")

FEW = 64  # images that are measured; a training sees two batches at the least
_WARM_UP = 32  # images before: the first of everything is slow
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
    """Measure a few images and extrapolate, step by step.

    Rates are taken as constant: twice the images take twice the time, and twice the epochs. A step that may stop early
    (rounds of self-training) counts in full.

    Args:
        plan: what is to run.
        recipe, config, overrides: what it was made from.
    """
    if all(planned.state == CACHED for planned in plan.active):
        return [Estimate(p.step.name, p.state, 0.0, 0) for p in plan.active]
    batches = [p.config.batch_size for p in plan.active if hasattr(p.config, "epochs")]
    few = max([FEW, *(2 * size for size in batches)])
    log.info("measuring %d images", few)
    with tempfile.TemporaryDirectory(prefix="wsseg-plan-") as folder, _quiet():
        store = ArtifactStore(Path(folder))
        for images in (min(_WARM_UP, few), few):
            small = make_plan(recipe, config, store, (*overrides, *_small(plan, images)))
            run_plan(small)
        measured = {p.step.name: p for p in small.active}
        return [_extrapolated(p, plan, measured[p.step.name], small) for p in plan.active]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the few images' run says off the screen."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _small(plan: Plan, images: int) -> Iterable[str]:
    """Yield overrides that make the same recipe small."""
    for split in ("train", "val"):
        if plan.sources.has(f"data.{split}"):
            yield f"data.{split}.limit={images}"
    tables = {p.step.table: p.config for p in plan.active}
    for name, config in tables.items():
        if any(field.name == "epochs" for field in fields(config)):
            yield f"{name}.epochs=1"
    yield from (text for text in _WITHOUT_SAMPLES if text.partition(".")[0] in tables)


def _extrapolated(planned: PlannedStep, plan: Plan, measured: PlannedStep, small: Plan) -> Estimate:
    if planned.state == CACHED or measured.artifact is None:
        return Estimate(planned.step.name, planned.state, 0.0, 0)
    splits = [source.split(".")[1] for source in planned.step.inputs.values() if source in SOURCES]
    split = "val" if splits and all(s == "val" for s in splits) else "train"
    all_images, few = (len(p.sources.get(f"data.{split}")) for p in (plan, small))
    work = images = all_images / few
    if hasattr(planned.config, "epochs"):
        batch = planned.config.batch_size
        work = planned.config.epochs * max(all_images // batch, 1) / max(few // batch, 1)
    artifact = measured.artifact
    size = artifact.size * (images if artifact.kind in _BY_IMAGE else 1)
    return Estimate(
        planned.step.name, planned.state, float(artifact.manifest["made_with"]["seconds"]) * work, round(size)
    )
