"""The choice of some images out of many."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    """Return `most` of the items at even distances, in their order, starting with the first; all if there are no more."""
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]
