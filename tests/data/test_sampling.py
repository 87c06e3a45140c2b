"""The choice of some images out of many."""

import pytest

from wsseg.data.sampling import evenly_spaced


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (10, 5, [0, 2, 4, 6, 8]),
        (10, 3, [0, 3, 6]),
        (10, 4, [0, 2, 5, 7]),
        (3, 3, [0, 1, 2]),
        (3, 5, [0, 1, 2]),
        (0, 5, []),
    ],
)
def test_items_are_chosen_at_even_distances(count, most, expected):
    assert evenly_spaced(range(count), most) == expected


def test_a_large_sample_has_the_requested_length():
    assert len(set(evenly_spaced(range(1001), 500))) == 500
