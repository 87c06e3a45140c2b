"""Tracks along sequences in the forms of genome browsers: BED for intervals, bedGraph for values."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsseg.labels import BACKGROUND, IGNORE_INDEX
from wsseg.types import Mask


def runs_of(values: NDArray[Any]) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, end behind the last place, value) of each run of equal values of (L,)."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    for start, end in zip([0, *edges], [*edges, len(values)], strict=True):
        yield int(start), int(end), values[start]


def bed_lines(
    item_id: str, mask: Mask, names: Sequence[str], probability: NDArray[np.float32] | None = None
) -> list[str]:
    """Return one BED line per interval of a class.

    Args:
        item_id: name of the sequence, the first column.
        mask: (1, L) class ids; 0 and 255 are no interval.
        names: names by class id, background first; blanks become ``_``, because a column ends at white space.
        probability: (L,) in [0, 1]; the score of an interval is 1000 times its mean, 0 without it.
    """
    lines = []
    for start, end, class_id in runs_of(mask[0]):
        if class_id in (BACKGROUND, IGNORE_INDEX):
            continue
        score = 0 if probability is None else round(1000 * float(probability[start:end].mean()))
        lines.append(f"{item_id}\t{start}\t{end}\t{'_'.join(names[class_id].split())}\t{score}\t.\n")
    return lines


def bedgraph_lines(item_id: str, values: NDArray[Any]) -> list[str]:
    """Return one bedGraph line per run of equal values (L,), with three significant digits."""
    return [
        f"{item_id}\t{start}\t{end}\t{value:.3g}\n" for start, end, value in runs_of(np.asarray(values, np.float64))
    ]
