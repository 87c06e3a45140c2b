import numpy as np

from wsseg.metrics.objects import MEASURES, SIZES, object_counts


def test_objects_are_connected_regions_with_a_size():
    truth = np.zeros((120, 200), np.uint8)
    truth[:10, :10] = 1  # 100 px: small
    truth[10:60, 10:60] = 1  # 2500 px; it touches the small region at a corner, so both are one object of 2600 px
    truth[:, 100:] = 1  # 12 000 px: large
    truth[100, 0] = 2
    mask = truth.copy()
    mask[:10, :10] = 0
    mask[0, 100:110] = 2
    mask[1, 100:105] = 255
    counts = object_counts(truth, mask, 3)
    by_size = {size: dict(zip(MEASURES, row, strict=True)) for size, row in zip(SIZES, counts[1].tolist(), strict=True)}
    assert by_size == {
        "small": {"objects": 0, "pixels": 0, "missed": 0, "wrong": 0},
        "medium": {"objects": 1, "pixels": 2600, "missed": 100, "wrong": 0},
        "large": {"objects": 1, "pixels": 12_000, "missed": 5, "wrong": 10},
    }
    assert counts[2, 0].tolist() == [1, 1, 0, 0] and not counts[0].any()
