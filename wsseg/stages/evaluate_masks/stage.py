"""I/O of `evaluate_masks`: metrics with the conditions under which they hold, and the pixel counts of each image."""

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
    version = 5
    Config = values.Config
    inputs: Mapping[str, Role] = {
        "masks": Role(("seeds", "pseudo_masks", "predictions")),
        "truth": Role(("truth",)),
    }
    output = "report"
    distributed = False
    measures = True

    def check(self, config: values.Config, inputs: Mapping[str, Any]) -> None:
        """Every config fits every input."""

    def run(self, config: values.Config, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write report.json and, for masks, images.jsonl (see `image_counts`).

        The metrics are `miou`, `iou` by class name, and others that depend on the kind of masks. Seeds and predictions of
        sequences have those of `wsseg.metrics.places` as well.
        """
        from wsseg.metrics.places import PlaceJudge
        from wsseg.saliency.seeds import decode_seed
        from wsseg.stages.evaluate_masks.image_counts import FILE
        from wsseg.stages.evaluate_masks.masks import MaskJudge
        from wsseg.stages.evaluate_masks.places import place_scores
        from wsseg.stages.evaluate_masks.seeds import SeedJudge

        artifact: Artifact = inputs["masks"]
        truth: TruthSource = inputs["truth"]
        seeds = artifact.kind == "seeds"
        mask_ids, ids = set(artifact.ids(SEED_FOLDER if seeds else MASK_FOLDER, ".png")), truth.ids
        if without := sorted(set(ids) - mask_ids):
            raise StageError(
                f"{len(without)} images have a true mask and no mask to evaluate: {', '.join(without[:20])}; "
                "the same images must go into both"
            )
        masks = ArtifactMasks(artifact)
        judge: SeedJudge | MaskJudge
        if seeds:
            judge = SeedJudge(truth.classes)
        else:
            judge = MaskJudge(truth.classes, boundary=config.boundary, undecided=artifact.kind == "pseudo_masks")

        def count(item_id: str) -> Any:
            true_mask = truth.mask(item_id)
            if isinstance(judge, SeedJudge):
                return judge.count(item_id, true_mask, decode_seed(artifact.read_bytes(f"{SEED_FOLDER}/{item_id}.png")))
            confidence = None
            if artifact.kind == "predictions":
                confidence = decode_mask(artifact.read_bytes(f"{CONFIDENCE_FOLDER}/{item_id}.png"))
            return judge.count(item_id, true_mask, masks.mask(item_id), confidence)

        places = PlaceJudge(truth.classes) if truth.sequences and artifact.kind != "pseudo_masks" else None
        lines = []  # text, the most compact form of an image's counts
        counted = map_threads(count, ids, config.workers)
        for counts in track(counted, len(ids), f"evaluating {artifact.kind.replace('_', '-')}"):
            judge.add(counts)
            if not seeds:
                lines.append(counts.image.line() + "\n")
        if not seeds:
            atomic_write(out / FILE, "".join(lines).encode())
        metrics = judge.metrics()
        if places is not None:
            for item_id in ids:
                places.add(truth.mask(item_id), place_scores(artifact, item_id))
            metrics |= places.metrics()
        conditions = {**conditions_of(artifact, truth), "without_truth": len(mask_ids) - len(ids)}
        report = {"metrics": metrics, "conditions": conditions, **judge.details()}
        atomic_write(out / "report.json", json.dumps(report, indent=1).encode())
        return {**metrics, "conditions": conditions}


def conditions_of(artifact: Artifact, truth: TruthSource) -> dict[str, Any]:
    """Return the conditions under which metrics hold: split, images, seed, and the config values that decide masks."""
    made_from = artifact.manifest["provenance"]
    conditions: dict[str, Any] = {"split": truth.split, "images": len(truth.ids), "diagnostic": truth.split == "train"}
    deciding = {
        "pseudo_masks": ("background", "levels", "crf"),
        "walk": ("when",),
        "walked_masks": ("background", "levels", "crf"),
        "relabeling": ("crf", "scales", "flip", "min_confidence"),
        "predictions": ("crf", "scales", "flip"),
    }
    for table, keys in deciding.items():
        if table in made_from:
            conditions[table] = {key: made_from[table][key] for key in keys}
    seeds = {values["rng_seed"] for values in made_from.values() if "rng_seed" in values}
    conditions["rng_seed"] = seeds.pop() if len(seeds) == 1 else sorted(seeds)
    return conditions
