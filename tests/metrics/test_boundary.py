import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsseg.metrics.boundary import boundary_counts, boundary_iou


def slow_band(region, width):
    """Return the pixels of a region with a pixel outside of it (or of the image) within `width`, computed by loops."""
    band = np.zeros_like(region)
    for y, x in zip(*np.nonzero(region), strict=True):
        for dy in range(-width, width + 1):
            for dx in range(-width, width + 1):
                yy, xx = y + dy, x + dx
                inside = 0 <= yy < region.shape[0] and 0 <= xx < region.shape[1]
                if not inside or not region[yy, xx]:
                    band[y, x] = True
    return band


@given(st.integers(0, 2**31))
def test_equals_a_slow_implementation(seed):
    rng = np.random.default_rng(seed)
    truth, mask = (rng.integers(0, 3, (12, 15)).astype(np.uint8) for _ in range(2))
    truth[0, 0] = 255
    width = max(1, round(0.02 * np.hypot(12, 15)))
    counts = boundary_counts(truth, mask, 3)
    for c in range(3):
        true_band = slow_band(truth == c, width) & (truth != 255)
        mask_band = slow_band(mask == c, width) & (truth != 255)
        assert counts[c].tolist() == [(true_band & mask_band).sum(), (true_band | mask_band).sum()]


def test_a_shift_lowers_boundary_iou_more_than_iou():
    truth = np.zeros((100, 120), dtype=np.uint8)
    truth[20:80, 20:90] = 1
    shifted = np.roll(truth, 3, axis=1)
    iou = ((truth == 1) & (shifted == 1)).sum() / ((truth == 1) | (shifted == 1)).sum()
    bands = boundary_iou(boundary_counts(truth, shifted, 3))
    assert bands[1] < iou and np.isnan(bands[2])
    assert boundary_iou(boundary_counts(truth, truth, 2)).tolist() == [1.0, 1.0]
