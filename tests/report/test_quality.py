"""The order in which images are shown."""

from wsseg.labels import ClassMap
from wsseg.metrics.errors import ClassPixels
from wsseg.report.quality import MaskQuality, scores_of, worst_and_others
from wsseg.stages.evaluate_masks.image_counts import ImageCounts

SCORES = {f"{k:02}": k / 20 for k in range(20)} | {"none": None}


def test_half_are_the_worst_and_the_others_are_evenly_spaced():
    assert worst_and_others(SCORES, 8) == ["00", "01", "02", "03", "04", "09", "14", "none"]
    assert len(worst_and_others(SCORES, 100)) == 21 and len(set(worst_and_others(SCORES, 20))) == 20


def test_images_are_scored_by_their_iou():
    images = [
        ImageCounts("a", {0: ClassPixels(hits=9, missed=1), 1: ClassPixels(hits=1, spill=3)}),
        ImageCounts("b", {}),
    ]
    scores = scores_of(MaskQuality(ClassMap(("scratch",)), images, None, {}), "predictions")
    assert scores.measure == "IoU" and "predictions" in scores.meaning
    assert scores.classes == {1: {"a": 0.25}} and scores.images == {"a": (0.9 + 0.25) / 2}  # b has no evaluated pixel
