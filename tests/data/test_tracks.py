"""BED and bedGraph lines."""

import numpy as np

from wsseg.data.tracks import bed_lines, bedgraph_lines


def test_intervals_of_classes_become_bed_lines():
    mask = np.array([[0, 1, 1, 2, 255, 0, 1]], np.uint8)
    probability = np.array([0, 0.5, 0.7, 1, 0, 0, 0.25], np.float32)
    assert bed_lines("chr1", mask, ("background", "gata", "two words"), probability) == [
        "chr1\t1\t3\tgata\t600\t.\n",
        "chr1\t3\t4\ttwo_words\t1000\t.\n",
        "chr1\t6\t7\tgata\t250\t.\n",
    ]


def test_equal_neighbours_are_one_line_of_a_bedgraph():
    assert bedgraph_lines("a", np.array([0.5, 0.5, 0, 1 / 3])) == ["a\t0\t2\t0.5\n", "a\t2\t3\t0\n", "a\t3\t4\t0.333\n"]
