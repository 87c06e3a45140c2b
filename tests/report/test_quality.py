"""The order in which images are shown."""

from wsseg.metrics.errors import ClassPixels
from wsseg.report.quality import worst_and_others, worst_first
from wsseg.stages.evaluate_masks.image_counts import ImageCounts

IMAGES = [ImageCounts(f"{k:02}", {0: ClassPixels(hits=k, missed=20 - k)}) for k in range(20)]
EMPTY = ImageCounts("none", {})  # every pixel of its truth is 255


def test_the_worst_come_first():
    assert worst_first([EMPTY, *reversed(IMAGES)]) == [(k / 20, f"{k:02}") for k in range(20)]


def test_half_are_the_worst_and_the_others_are_evenly_spaced():
    images = [EMPTY, *IMAGES]
    assert worst_and_others(images, 8) == ["00", "01", "02", "03", "04", "09", "14", "none"]
    assert len(worst_and_others(images, 100)) == 21 and len(set(worst_and_others(images, 20))) == 20
