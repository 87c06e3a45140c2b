"""I/O of `evaluate_masks`: report.json, with the conditions under which each number holds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.data.masks import decode_mask
from wsseg.errors import StageError
from wsseg.parallel import map_threads
from wsseg.progress import track
from wsseg.stages.evaluate_masks import config as values
from wsseg.stages.layout import CONFIDENCE_FOLDER, MASK_FOLDER, SEED_FOLDER, ArtifactMasks
from wsseg.stages.protocol import Role, TruthSource
from wsseg.store.artifact import Artifact
from wsseg.store.files import atomic_write


class EvaluateMasks:
    name = "evaluate_masks"
    table = "evaluation"
    version = 3
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "masks": Role(("seeds", "pseudo_masks", "predictions")),
        "truth": Role(("truth",)),
    }
    output = "report"
    distributed = False
    measures = True

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """All values fit all inputs."""

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write report.json; metrics: `miou`, `iou` per class name, and what else the kind of masks allows."""
        from wsseg.saliency.seeds import decode_seed
        from wsseg.stages.evaluate_masks.judgement import MaskJudge, SeedJudge

        artifact: Artifact = inputs["masks"]
        truth: TruthSource = inputs["truth"]
        seeds = artifact.kind == "seeds"
        folder = SEED_FOLDER if seeds else MASK_FOLDER
        given_ids, ids = set(artifact.ids(folder, ".png")), truth.ids
        if without := sorted(set(ids) - given_ids):
            raise StageError(
                f"{len(without)} images have a truth and no mask to judge: {', '.join(without[:20])}; "
                "the same images must go into both"
            )
        masks = ArtifactMasks(artifact)
        judge: SeedJudge | MaskJudge
        if seeds:
            judge = SeedJudge(truth.classes)
        else:
            judge = MaskJudge(truth.classes, boundary=config.boundary, undecided=artifact.kind == "pseudo_masks")

        def one(item_id: str) -> Any:
            if seeds:
                given: Any = decode_seed(artifact.read_bytes(f"{SEED_FOLDER}/{item_id}.png"))
            else:
                given = masks.mask(item_id)
            return judge.count(item_id, truth.mask(item_id), given, *sure(item_id))

        def sure(item_id: str) -> list[Any]:
            if artifact.kind != "predictions":
                return []
            return [decode_mask(artifact.read_bytes(f"{CONFIDENCE_FOLDER}/{item_id}.png"))]

        counted = map_threads(one, ids, config.workers)
        for counts in track(counted, len(ids), f"judging {artifact.kind.replace('_', '-')}"):
            judge.add(counts)
        metrics = judge.metrics()
        conditions = {**terms_of(artifact, truth), "without_truth": len(given_ids) - len(ids)}
        report = {"metrics": metrics, "conditions": conditions, **judge.details()}
        atomic_write(out / "report.json", json.dumps(report, indent=1).encode())
        return {**metrics, "conditions": conditions}


def terms_of(artifact: Artifact, truth: TruthSource) -> dict[str, Any]:
    """Return what must stand beside a number: split, images, seed, and the values that decide masks."""
    made_from = artifact.manifest["provenance"]
    conditions: dict[str, Any] = {"split": truth.split, "images": len(truth.ids), "diagnostic": truth.split == "train"}
    told = {
        "pseudo_masks": ("background", "levels", "crf"),
        "walk": ("when",),
        "walked_masks": ("background", "levels", "crf"),
        "relabeling": ("crf", "scales", "flip", "min_confidence"),
        "predictions": ("crf", "scales", "flip"),
    }
    for table, keys in told.items():
        if table in made_from:
            conditions[table] = {key: made_from[table][key] for key in keys}
    seeds = {values["rng_seed"] for values in made_from.values() if "rng_seed" in values}
    conditions["rng_seed"] = seeds.pop() if len(seeds) == 1 else sorted(seeds)
    return conditions
