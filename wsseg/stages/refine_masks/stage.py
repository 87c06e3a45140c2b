"""I/O of `refine_masks`: one indexed PNG an image, made by several processes."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.stages.layout import SEED_FOLDER, mask_path, mask_shares
from wsseg.stages.protocol import Role
from wsseg.stages.refine_masks import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage

if TYPE_CHECKING:
    from wsseg.stages.refine_masks.choice import CandidateScore

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class _Job:
    image: LabeledImage
    seed: bytes
    config: values.Config
    target: Path


class RefineMasks:
    name = "refine_masks"
    table = "pseudo_masks"
    version = 6
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "seeds": Role(("seeds",)),
        "classifier": Role(("classifier",), optional=True),
    }
    output = "pseudo_masks"
    distributed = False
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Look for the classifier that choices are made with, and for the CRF's engine."""
        if (config.crf == "auto" or not config.levels) and "classifier" not in inputs:
            raise StageError(_asks_classifier(config))
        if config.crf != "off" and config.engine == "reference":
            from wsseg.crf.reference import check_installed

            check_installed()

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<id>.png for every image; metrics: fraction of pixels that are background, and undecided."""
        images: LabeledImages = inputs["images"]
        seeds: Artifact = inputs["seeds"]
        chosen: dict[str, Any] = {}
        if config.crf == "auto" or not config.levels:
            chosen = _choice(config, images, seeds, inputs.get("classifier"), out)
            config = replace(config, crf=chosen["crf"], levels=tuple(chosen["levels"]))
        missing = [item for item in images.items if not mask_path(out, item.id).is_file()]

        def jobs() -> Iterator[_Job]:
            for item in missing:
                seed = seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png")
                yield _Job(item, seed, config, mask_path(out, item.id))

        # one process drives a GPU; numba and pydensecrf take one core each
        workers = 1 if config.engine == "torch" else worker_count(config.workers)
        results = map_processes(_refine_one, jobs(), workers)
        for _ in track(results, len(images), "pseudo-masks", done=len(images) - len(missing)):
            pass
        return {"images": len(images), **mask_shares(images, out), **({"chosen": chosen} if chosen else {})}


def _choice(
    config: values.Config, images: LabeledImages, seeds: Artifact, classifier: Artifact | None, out: Path
) -> dict[str, Any]:
    """Return the levels and the CRF preset that `config` leaves open, and why; kept in choice.json."""
    path = out / "choice.json"
    if path.is_file():
        return dict(json.loads(path.read_bytes()))
    if classifier is None:
        raise StageError(_asks_classifier(config))
    from wsseg.data.reading import read_photograph
    from wsseg.models.classifier import load_classifier
    from wsseg.models.device import resolve_device
    from wsseg.saliency.seeds import decode_seed
    from wsseg.stages.refine_masks.choice import CANDIDATES, LEVELS, Candidate, evidence_of, sample_of, tightest

    sample = sample_of(images.items)
    if not sample:  # nothing will be refined: these stand for none
        return {"levels": list(config.levels) or [LEVELS[config.background][0]], "crf": "off"}
    model, spec = load_classifier(classifier.read_bytes, str(classifier.folder))
    device = resolve_device("auto")
    model.to(device)
    found: dict[Candidate, CandidateScore] = {}

    def best_of(candidates: list[Candidate], among: Candidate | None = None) -> Candidate:
        photographs = (read_photograph(item) for item in sample)  # one at a time
        maps = (decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png")) for item in sample)
        evidence = evidence_of(photographs, maps, candidates, model, spec, device)
        found.update(evidence)
        for way, own in evidence.items():
            log.info(
                "%s %g, crf %s: classifier's score on the masks %.3f, their area %.3f",
                way.background, way.level, way.crf, own.score, own.area,
            )  # fmt: skip
        return tightest(evidence, among)

    levels, crf = config.levels, str(config.crf)
    if not levels:  # with the CRF that is to come, as far as it is known
        known = "off" if crf == "auto" else crf
        levels = (best_of([Candidate(config.background, level, known) for level in LEVELS[config.background]]).level,)
    if crf == "auto":
        candidates = [Candidate(config.background, levels[0], name) for name in CANDIDATES]
        crf = best_of(candidates, among=candidates[0]).crf
    log.info("%s %s, crf %s: chosen", config.background, ", ".join(f"{level:g}" for level in levels), crf)
    evidence = [{**asdict(way), **asdict(own)} for way, own in found.items()]
    chosen = {"levels": list(levels), "crf": crf, "evidence": evidence}
    atomic_write(path, json.dumps(chosen, indent=1).encode())
    return chosen


def _refine_one(job: _Job) -> None:
    """Make one pseudo-mask; runs in a worker process."""
    from wsseg.crf.dense_crf import DenseCrf
    from wsseg.crf.settings import PRESETS
    from wsseg.data.masks import encode_mask
    from wsseg.data.reading import read_photograph
    from wsseg.saliency.seeds import decode_seed, enlarged
    from wsseg.stages.refine_masks.policy import Refinement, pseudo_mask

    config = job.config
    seed = enlarged(decode_seed(job.seed))
    refinements: list[Refinement] = []
    if config.pamr_iterations and seed.class_ids:
        from wsseg.saliency.pixel_adaptive import adapted

        refinements.append(partial(adapted, image=read_photograph(job.image), iterations=config.pamr_iterations))
    if config.crf != "off" and seed.class_ids:
        settings = PRESETS[config.crf]
        settings = replace(settings, iterations=config.iterations or settings.iterations)
        refinements.append(DenseCrf(read_photograph(job.image), settings, config.engine, config.exact).refine)
    mask = pseudo_mask(seed, config.background, config.levels, refinements)
    atomic_write(job.target, encode_mask(mask))


def _asks_classifier(config: values.Config) -> str:
    left_open = 'pseudo_masks.crf = "auto"' if config.levels else "pseudo_masks.levels = []"
    return f"{left_open} asks the classifier, but the recipe gives this step none"
