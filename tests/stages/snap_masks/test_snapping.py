"""The rule of snapping on masks and segments that are drawn by hand."""

import numpy as np
import pytest

from wsseg.data.segments import layered, partition
from wsseg.stages.snap_masks.snapping import snapped


def mask_of(*rows):
    return np.array([[255 if c == "?" else int(c) for c in row] for row in rows], np.uint8)


def boxes(shape, *segments):
    """Return overlapping segments from (rows, columns, class id, score)."""
    masks = []
    for rows, columns, *_ in segments:
        masks.append(np.zeros(shape, bool))
        masks[-1][rows, columns] = True
    return layered(masks, [s[2] for s in segments], [s[3] for s in segments], shape)


HALVES = partition(np.array([[0, 0, 0, 0, 1, 1, 1, 1]] * 2), (2, 8))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("11100000", "11000000"), ("11110000", "11110000")),  # 5 of 8 pixels: more than half
        (("11100000", "10000011"), ("11100000", "10000011")),  # 4 of 8 is no majority, and 4 of 6 no 85 %
        (("00001000", "00000000"), ("00001111", "00001111")),  # all of the mask is in one segment
        (("11111000", "11100000"), ("11110000", "11110000")),  # the pixel outside becomes background
        (("1110000?", "11?00000"), ("1111000?", "11110000")),  # undecided pixels only change inside of what joins
        (("11111222", "11122222"), ("11112222", "11112222")),  # each class gets its majority
        (("00000000", "0000000?"), ("00000000", "0000000?")),
    ],
)
def test_majorities_of_a_partition(before, after):
    assert snapped(mask_of(*before), HALVES).tolist() == mask_of(*after).tolist()


def test_the_two_limits():
    mask = mask_of("11100000", "10000011")  # 4 of 8 pixels inside; 4 of 6 of the mask
    assert snapped(mask, HALVES, min_inside=0.49).tolist() == mask_of("11110000", "11110000").tolist()
    assert snapped(mask, HALVES, min_covered=0.66).tolist() == mask_of("11110000", "11110000").tolist()
    small = mask_of("00001000", "00010000")
    assert snapped(small, HALVES, min_covered=0.49).tolist() == mask_of("11111111", "11111111").tolist()
    inside = mask_of("00001000", "00000000")
    assert snapped(inside, HALVES, min_covered=1.0).tolist() == inside.tolist()
    assert snapped(small, HALVES, min_covered=1.0).tolist() == small.tolist()


def test_pixels_without_a_segment_stay():
    segments = boxes((1, 8), (0, slice(0, 4), 0, 1.0))
    assert snapped(mask_of("11101100"), segments).tolist() == mask_of("11111100").tolist()
    assert snapped(mask_of("11002200"), segments, min_covered=0.9).tolist() == mask_of("11112200").tolist()  # 85 % of 1
    none = layered([], [], [], (1, 8))
    none = type(none)(np.zeros((1, 1, 8), np.uint16), none.class_ids, none.scores, none.size)
    assert snapped(mask_of("11002?00"), none).tolist() == mask_of("11002?00").tolist()


def test_where_segments_of_two_classes_overlap_the_product_of_score_and_fraction_inside_decides():
    mask = mask_of("11112222")
    for scores, expected in (((0.9, 0.5), "11111222"), ((0.5, 0.9), "11122222")):
        segments = boxes((1, 8), (0, slice(0, 5), 0, scores[0]), (0, slice(3, 8), 0, scores[1]))
        assert snapped(mask, segments).tolist() == mask_of(expected).tolist()  # both are 4/5 inside


def test_a_segment_that_was_prompted_with_a_class_only_joins_this_class():
    mask = mask_of("11112222")
    segments = boxes((1, 8), (0, slice(0, 5), 2, 1.0), (0, slice(3, 8), 2, 1.0))
    assert snapped(mask, segments).tolist() == mask_of("11122222").tolist()


def test_equal_to_a_literal_vote_on_random_masks():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.choice([0, 1, 2, 255], (12, 10), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        mask[:6] = rng.choice([0, 1], p=[0.3, 0.7])
        masks = [np.zeros(mask.shape, bool) for _ in range(6)]
        for segment in masks:
            y, x = rng.integers(0, 8, 2)
            segment[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
        scores = np.round(rng.random(6), 4)
        expected, best, covered = mask.copy(), np.zeros(mask.shape), np.any(masks, axis=0)
        for class_id in (1, 2):
            pixels = mask == class_id
            joined = [
                (segment, score * (segment & pixels).sum() / segment.sum())
                for segment, score in zip(masks, scores, strict=True)
                if (segment & pixels).sum() > 0.5 * segment.sum() or (segment & pixels).sum() > 0.85 * pixels.sum()
            ]
            if joined:
                expected[pixels & covered & (best == 0)] = 0
            for segment, rank in joined:
                expected[segment & (rank > best)] = class_id
                best[segment & (rank > best)] = rank
        assert np.array_equal(snapped(mask, layered(masks, [0] * 6, scores, mask.shape)), expected)
