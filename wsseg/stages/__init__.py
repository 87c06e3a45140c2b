"""The stages in their usual order. A new stage needs a folder and an entry here."""

from wsseg.stages.doubt_labels.stage import DoubtLabels
from wsseg.stages.embed_images.stage import EmbedImages
from wsseg.stages.estimate_quality.stage import EstimateQuality
from wsseg.stages.evaluate_masks.stage import EvaluateMasks
from wsseg.stages.make_seeds.stage import MakeSeeds
from wsseg.stages.make_segments.config import SamSegments
from wsseg.stages.make_segments.stage import MakeSegments
from wsseg.stages.measure_classifier.stage import MeasureClassifier
from wsseg.stages.predict_masks.stage import PredictMasks
from wsseg.stages.protocol import Stage
from wsseg.stages.refine_masks.config import AffinityLabels, WalkedMasks
from wsseg.stages.refine_masks.stage import RefineMasks
from wsseg.stages.relabel_masks.stage import RelabelMasks
from wsseg.stages.snap_masks.config import SamSnapping
from wsseg.stages.snap_masks.stage import SnapMasks
from wsseg.stages.train_affinity.stage import TrainAffinity
from wsseg.stages.train_classifier.stage import TrainClassifier
from wsseg.stages.train_segmenter.stage import TrainSegmenter
from wsseg.stages.walk_seeds.stage import WalkSeeds

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        TrainClassifier(), MeasureClassifier(), DoubtLabels(), MakeSeeds(), RefineMasks(), TrainAffinity(), WalkSeeds(), TrainSegmenter(),
        RelabelMasks(), PredictMasks(), EvaluateMasks(), EstimateQuality(), MakeSegments(), SnapMasks(),
        EmbedImages(),
    )
}  # fmt: skip

# tables of a config: one per stage, and those with which a recipe runs a stage a second time with other values
TABLES: dict[str, type] = {stage.table: stage.Config for stage in STAGES.values()} | {
    "affinity_labels": AffinityLabels,
    "walked_masks": WalkedMasks,
    "sam_segments": SamSegments,
    "sam_snapping": SamSnapping,
}
