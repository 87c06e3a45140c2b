"""Polygons and runs of COCO: valid ones are read as pycocotools reads them, invalid ones never reach it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from wsseg.data.outlines import Polygons, Runs, read_box, read_outline

SQUARE = [2.0, 2.0, 8.0, 2.0, 8.0, 6.0, 2.0, 6.0]  # x, y: columns 2..7, rows 2..5
SIZE = (8, 10)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_compressed_runs_are_read_as_pycocotools_writes_them(height, width, share, seed):
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    encoded = coco_mask.encode(np.asfortranarray(mask))
    outline = read_outline({"size": [height, width], "counts": encoded["counts"].decode()})
    assert outline is None if not mask.any() else np.array_equal(outline.region(), mask.astype(bool))


def test_long_runs_take_several_characters():
    mask = np.zeros((700, 900), np.uint8, order="F")
    mask[100:650, 30:800] = 1
    mask[300, 400] = 0
    encoded = coco_mask.encode(mask)
    outline = read_outline({"size": [700, 900], "counts": encoded["counts"].decode()})
    assert np.array_equal(outline.region(), mask.astype(bool))


def test_uncompressed_runs_go_down_the_columns():
    outline = read_outline({"size": [2, 3], "counts": [1, 2.0, 3]})
    assert outline.region().tolist() == [[False, True, False], [True, False, False]]


def test_a_polygon_is_drawn_as_pycocotools_draws_it():
    expected = np.zeros(SIZE, bool)
    expected[2:6, 2:8] = True
    assert np.array_equal(read_outline([SQUARE]).region(SIZE), expected)
    assert np.array_equal(read_outline([SQUARE, [], [1, 1], [1, 1, 5, 5], [3, 3] * 3]).region(SIZE), expected)


def test_a_polygon_may_extend_slightly_beyond_the_image():
    expected = np.ones(SIZE, bool)
    assert np.array_equal(read_outline([[-0.5, -0.5, 10.5, -0.5, 10.5, 8.5, -0.5, 8.5]]).region(SIZE), expected)


@pytest.mark.parametrize(
    "nothing", [None, [], [[]], [[30, 30]], [[20, 20, 60, 50]], [[5, 5] * 4], [[0, 1, 9, 1, 5, 1]]]
)
def test_points_and_lines_are_not_an_outline(nothing):
    assert read_outline(nothing) is None


def test_runs_without_a_pixel_are_not_an_outline():
    assert read_outline({"size": [8, 10], "counts": [80]}) is None


ODD = {
    "odd count": ([[1, 2, 3, 4, 5]], "5 coordinates; expected an even number"),
    "texts": ([["20", "20", "60", "20", "60", "50"]], "its polygon holds '20'"),
    "nan": ([[float("nan"), *SQUARE[1:]]], "holds nan; expected finite"),
    "infinity": ([[float("inf"), *SQUARE[1:]]], "holds inf; expected finite"),
    "a huge whole number": ([[10**400, *SQUARE[1:]]], "expected finite"),
    "true": ([[True, *SQUARE[1:]]], "holds True"),
    "pairs": ([[[2, 2], [8, 2], [8, 6]]], r"holds \[2, 2\]"),
    "flat": (SQUARE, "its segmentation holds 2.0"),
    "a text": ("nonsense", "its segmentation is 'nonsense'"),
    "a number": (7, "its segmentation is 7"),
    "objects": ([{"size": [8, 10]}], "its segmentation holds"),
    "short runs": ({"size": [8, 10], "counts": [10, 20]}, "cover 30 pixels; expected 8 x 10 = 80"),
    "long runs": ({"size": [8, 10], "counts": [10, 20, 300]}, "the length 300; expected 0 to 80"),
    "negative runs": ({"size": [8, 10], "counts": [90, -20, 10]}, "the length -20"),
    "runs of nan": ({"size": [8, 10], "counts": [float("nan"), 80]}, "hold nan; expected integers"),
    "runs of texts": ({"size": [8, 10], "counts": ["80"]}, "hold '80'; expected integers"),
    "nested runs": ({"size": [8, 10], "counts": [[80]]}, r"hold \[80\]"),
    "no runs": ({"size": [8, 10], "counts": []}, "cover 0 pixels"),
    "no counts": ({"size": [8, 10]}, "have the counts None"),
    "no size": ({"counts": [80]}, "have the size None"),
    "a size of texts": ({"size": ["8", "10"], "counts": [80]}, "have the size"),
    "an empty text": ({"size": [8, 10], "counts": ""}, "cover 0 pixels"),
    "other characters": ({"size": [8, 10], "counts": "é \n"}, "a character beyond"),
    "an unfinished text": ({"size": [8, 10], "counts": "o"}, "end within a number"),
    "an endless number": ({"size": [8, 10], "counts": "o" * 40 + "0"}, "more than 45 bits"),
    "a text of other runs": ({"size": [8, 10], "counts": "0P3"}, "expected"),
    "a huge image": ({"size": [2**40, 2**40], "counts": [80]}, "cover 80 pixels"),
}  # fmt: skip


@pytest.mark.parametrize(("odd", "message"), ODD.values(), ids=ODD.keys())
def test_invalid_numbers_are_refused(odd, message):
    with pytest.raises(ValueError, match=message):
        read_outline(odd)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([1e9, 2, 8, 2, 8, 6], "spans x 8 to 1e[+]09 .* inside the image of 10 x 8 px"),
        ([-1e300, 2, 8, 2, 8, 6], "inside the image"),
        ([12.5, 2, 13, 2, 13, 6], "inside the image"),  # as if the image were larger
        ([0, 0, 10, 8] * 5000, "its polygon has a line of"),  # pycocotools' memory grows with the length
    ],
)
def test_polygons_that_do_not_fit_the_image_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        read_outline([points]).region(SIZE)


def test_boxes():
    assert read_box([2, 3, 4, 5]).parts[0].tolist() == [[2, 3], [6, 3], [6, 8], [2, 8]]
    for odd in (None, [], [1, 2, 3], ["1", 2, 3, 4], [1, 2, 0, 4], [1, 2, -3, 4], [float("nan"), 2, 3, 4], {"x": 1}):
        assert read_box(odd) is None


NUMBERS = st.one_of(
    st.integers(-20, 100), st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3),
    st.lists(st.integers(0, 9), max_size=2),
)  # fmt: skip
SEGMENTATIONS = st.one_of(
    st.lists(st.lists(NUMBERS, max_size=12), max_size=3),
    st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=12), max_size=3),
    st.fixed_dictionaries({"size": st.just([8, 10]) | st.lists(NUMBERS, max_size=3)},
                          optional={"counts": st.lists(NUMBERS) | st.text(max_size=9) | st.text("0123P1o`", max_size=9)}),
    NUMBERS,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SEGMENTATIONS)
def test_any_value_is_read_within_the_image_or_refused_in_one_line(segmentation):
    segmentation = json.loads(json.dumps(segmentation))
    try:
        outline = read_outline(segmentation)
        if isinstance(outline, Polygons):
            assert outline.region(SIZE).shape == SIZE
        elif isinstance(outline, Runs):
            assert outline.region().shape == outline.size
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
