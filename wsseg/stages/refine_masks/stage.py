"""The stage `refine_masks`: writes one indexed PNG per image, computed by several processes."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsseg import processes
from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.parallel import map_processes, worker_count
from wsseg.progress import track
from wsseg.stages.layout import SEED_FOLDER, mask_path, mask_shares
from wsseg.stages.protocol import MarkSource, Role, check_crf
from wsseg.stages.refine_masks import config as values
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write
from wsseg.types import LabeledImage, Mask

if TYPE_CHECKING:
    from wsseg.stages.refine_masks.choice import CandidateScore

log = logging.getLogger("wsseg")


@dataclass(frozen=True)
class _Job:
    image: LabeledImage
    seed: bytes
    config: values.Config
    target: Path
    mark: Mask | None


class RefineMasks:
    name = "refine_masks"
    table = "pseudo_masks"
    version = 7
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "images": Role(("images",)),
        "seeds": Role(("seeds",)),
        "classifier": Role(("classifier",), optional=True),
        "marks": Role(("marks",), optional=True),
    }
    output = "pseudo_masks"
    distributed = True
    measures = False

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Check that the recipe gives the classifier that choices require, and that the CRF's engine is installed."""
        check_crf(config.crf, inputs["images"])
        if inputs["images"].channels and (config.pamr_iterations or not config.levels):
            raise StageError(
                "found pamr_iterations above 0, or no levels; expected for sequences: pamr_iterations = 0, and one level or two"
            )
        if (config.crf == "auto" or not config.levels) and "classifier" not in inputs:
            raise StageError(_no_classifier(config))
        if config.crf not in ("off", "chain") and config.engine == "reference":
            from wsseg.crf.reference import check_installed

            check_installed()

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<id>.png for each image; pixels of which a mark says something have its value.

        Metrics: `images`, the fractions `background` and `undecided` of all pixels, and `chosen` if values were chosen.
        """
        images: LabeledImages = inputs["images"]
        seeds: Artifact = inputs["seeds"]
        chosen: dict[str, Any] = {}
        if config.crf == "auto" or not config.levels:
            with processes.main_goes_first():  # the others read its choice.json
                chosen = _choice(config, images, seeds, inputs.get("classifier"), out)
            config = replace(config, crf=chosen["crf"], levels=tuple(chosen["levels"]))
        items = processes.share(images.items)
        missing = [item for item in items if not mask_path(out, item.id).is_file()]

        marks: MarkSource | None = inputs.get("marks")
        marked = set(marks.ids) if marks else set()

        def jobs() -> Iterator[_Job]:
            for item in missing:
                seed = seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png")
                mark = marks.mask(item.id) if marks and item.id in marked else None
                yield _Job(item, seed, config, mask_path(out, item.id), mark)

        # one process uses the GPU; numba and pydensecrf use one core per process
        workers = 1 if config.engine == "torch" else worker_count(config.workers, processes.local_count())
        results = map_processes(_refine_one, jobs(), workers)
        for _ in track(results, len(items), "pseudo-masks", done=len(items) - len(missing)):
            pass
        if not processes.all_done():
            return {}
        return {"images": len(images), **mask_shares(images, out), **({"chosen": chosen} if chosen else {})}


def _choice(
    config: values.Config, images: LabeledImages, seeds: Artifact, classifier: Artifact | None, out: Path
) -> dict[str, Any]:
    """Return the chosen levels and CRF preset with the scores of all candidates; they are kept in choice.json."""
    path = out / "choice.json"
    if path.is_file():
        return dict(json.loads(path.read_bytes()))
    if classifier is None:
        raise StageError(_no_classifier(config))
    from wsseg.data.reading import read_photograph
    from wsseg.models.classifier import load_classifier
    from wsseg.models.device import resolve_device
    from wsseg.saliency.seeds import decode_seed
    from wsseg.stages.refine_masks.choice import (
        CANDIDATES,
        LEVELS,
        Candidate,
        candidates_for,
        evidence_of,
        sample_of,
        tightest,
    )

    sample = sample_of(images.items)
    if not sample:  # no image has a class, so that the values are not used
        return {"levels": list(config.levels) or [LEVELS[config.background][0]], "crf": "off"}
    model, spec = load_classifier(classifier.read_bytes, str(classifier.folder))
    device = resolve_device("auto")
    model.to(device)
    scores: dict[Candidate, CandidateScore] = {}

    def best_of(candidates: list[Candidate], among: Candidate | None = None) -> Candidate:
        photographs = (read_photograph(item) for item in sample)  # one in memory at a time
        maps = (decode_seed(seeds.read_bytes(f"{SEED_FOLDER}/{item.id}.png")) for item in sample)
        evidence = evidence_of(photographs, maps, candidates, model, spec, device, config.crf_size)
        scores.update(evidence)
        for candidate, entry in evidence.items():
            log.info(
                "pseudo-masks: %s %g, crf %s: classifier score %.3f, mask area %.3f of the image",
                candidate.background, candidate.level, candidate.crf, entry.score, entry.area,
            )  # fmt: skip
        return tightest(evidence, among)

    levels, crf = config.levels, str(config.crf)
    if levels:
        candidates = [Candidate(config.background, levels[0], name) for name in CANDIDATES]
        crf = best_of(candidates, among=candidates[0]).crf
    else:
        best = best_of(candidates_for(config.background, crf))
        levels, crf = (best.level,), best.crf
    levels_text = ", ".join(f"{level:g}" for level in levels)
    log.info("pseudo-masks: chosen: %s %s, crf %s", config.background, levels_text, crf)
    evidence = [{**asdict(candidate), **asdict(score)} for candidate, score in scores.items()]
    chosen = {"levels": list(levels), "crf": crf, "evidence": evidence}
    atomic_write(path, json.dumps(chosen, indent=1).encode())
    return chosen


def _refine_one(job: _Job) -> None:
    """Write one pseudo-mask; runs in a worker process."""
    from wsseg.crf.chain import chain_marginals
    from wsseg.crf.dense_crf import DenseCrf
    from wsseg.crf.settings import PRESETS
    from wsseg.data.masks import encode_mask, with_mark
    from wsseg.data.reading import read_photograph
    from wsseg.saliency.seeds import decode_seed, enlarged
    from wsseg.stages.refine_masks.policy import Refinement, marked_scores, pseudo_mask

    config = job.config
    seed = enlarged(decode_seed(job.seed))
    refinements: list[Refinement] = []
    if job.mark is not None:  # first, so that the CRF spreads what was said
        refinements.append(partial(marked_scores, class_ids=seed.class_ids, mark=job.mark))
    if config.pamr_iterations and seed.class_ids:
        from wsseg.saliency.pixel_adaptive import adapted

        refinements.append(partial(adapted, image=read_photograph(job.image), iterations=config.pamr_iterations))
    if config.crf == "chain":
        refinements.append(chain_marginals)
    elif config.crf != "off" and seed.class_ids:
        settings = PRESETS[config.crf]
        settings = replace(settings, iterations=config.iterations or settings.iterations)
        crf = DenseCrf(read_photograph(job.image), settings, config.engine, config.exact, config.crf_size)
        refinements.append(crf.refine)
    mask = pseudo_mask(seed, config.background, config.levels, refinements)
    atomic_write(job.target, encode_mask(mask if job.mark is None else with_mark(mask, job.mark)))


def _no_classifier(config: values.Config) -> str:
    value = 'pseudo_masks.crf = "auto"' if config.levels else "pseudo_masks.levels = []"
    return f"{value} requires a classifier, but the recipe gives this step none"
