"""Whether true masks and image-level labels speak of the same classes.

Labels may be incomplete and single masks wrong. What contradicts most of the images is no accident: the masks mean
something else than the config says, and every figure that they give is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap

_MOST = 0.5  # of the images: that is no accident
_LEAST = 3  # images that contradict: fewer are evidence only if they are more than half
_LEAST_OF_A_CLASS = 5  # likewise, of a class that is labelled beside others
_CLEARLY = 0.9  # of the images: what other values would explain
_INVERTED = 0.75  # of the labelled images, if no image without a class tells
_FILLED = 0.9  # of the border of an image that an inverted mask gives to a class
_SHOWN = 20  # ids in a note


@dataclass(frozen=True)
class Pair:
    """One image's labels and what its mask holds.

    Args:
        id: of the image.
        class_ids: the image-level labels.
        pixels: pixels of its mask by class id, 0 and 255 too.
        border: pixels on the mask's border by class id.
        values: the values in the file, before they are translated to class ids.
    """

    id: str
    class_ids: tuple[int, ...]
    pixels: dict[int, int]
    border: dict[int, int]
    values: frozenset[int]

    @property
    def shown(self) -> set[int]:
        """The classes that the mask shows."""
        return set(self.pixels) - {BACKGROUND, IGNORE_INDEX}

    @property
    def contradiction(self) -> str:
        """What is said of an image whose mask and labels share no class; empty if they agree."""
        if not self.class_ids:
            return "no label, a mask with classes" if self.shown else ""
        if self.shown & set(self.class_ids):
            return ""
        if self.shown:
            return "other classes in the mask than in the label"
        return "a label, a mask without classes"


def problem_of(pairs: Sequence[Pair], names: tuple[str, ...], classes: ClassMap, named: bool) -> str:
    """Return what is wrong with most of the masks, and what to do; empty if nothing is.

    Args:
        pairs: the images that have a mask.
        names: what the values 1..K of the files mean, as the config has it.
        classes: the classes that are learned.
        named: whether the config itself names the values (``mask_classes``), so that odd masks are meant.
    """
    labelled = [pair for pair in pairs if pair.class_ids]
    without = [pair for pair in labelled if not pair.shown]
    binary = [pair for pair in without if pair.values <= {BACKGROUND, IGNORE_INDEX} and IGNORE_INDEX in pair.values]
    if _is_most(len(binary), len(labelled)):
        return (
            f"{len(binary)} of {len(labelled)} labelled images have a mask of 0 and 255 only, and 255 means 'not judged'; "
            "expected: 0 for the background and 1, 2, ... for the classes. If 255 marks an object of the only class, "
            "write 1 in its place, e.g. with Pillow: mask.point(lambda v: v // 255)"
        )
    if _are_inverted(pairs, labelled, named):
        return (
            "the masks look inverted: they give a class to the border of most images and 0 to what lies inside; "
            f"expected: 0 for the background and {_values(names)} for the classes"
            + ("" if named else "; if they are meant so, name their values in data.mask_classes")
        )
    contradicted = [pair for pair in pairs if pair.contradiction]
    if _is_most(len(contradicted), len(pairs)):
        found = ", ".join(f"{p.id} ({p.contradiction})" for p in contradicted[:3])
        return (
            f"the masks of {len(contradicted)} of {len(pairs)} images contradict the labels: {found}; "
            f"expected: mask values {_values(names)}" + _advice(pairs, names, classes)
        )
    for class_id, name in enumerate(classes.names, start=1):
        own = [pair for pair in labelled if class_id in pair.class_ids]
        missed = [pair for pair in own if class_id not in pair.shown]
        if len(missed) >= _LEAST_OF_A_CLASS and len(missed) > _MOST * len(own):
            return (
                f"the masks of {len(missed)} of {len(own)} images labelled {name!r} do not show it, such as {missed[0].id}; "
                f"expected: mask values {_values(names)}" + _advice(pairs, names, classes)
            )
    return ""


def notes_on(pairs: Sequence[Pair]) -> list[str]:
    """Return a line for each kind of contradiction between single masks and their labels."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.contradiction:
            found.setdefault(pair.contradiction, []).append(pair.id)
    return [
        f"{reason}: {', '.join(ids[:_SHOWN])}" + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
        for reason, ids in found.items()
    ]


def _is_most(count: int, total: int) -> bool:
    return count > _MOST * total or (count >= _LEAST and count >= _MOST * total)


def _are_inverted(pairs: Sequence[Pair], labelled: Sequence[Pair], named: bool) -> bool:
    """Return whether classes lie where the background is: around what is shown, and on all of an image that shows nothing."""
    around = [pair for pair in labelled if _is_around(pair)]
    empty = [pair for pair in pairs if not pair.class_ids]
    if empty:
        filled = [pair for pair in empty if pair.shown and BACKGROUND not in pair.pixels]
        supported = len(filled) >= _LEAST or len(around) > _MOST * len(labelled)
        return len(filled) > _MOST * len(empty) and supported
    return not named and bool(labelled) and len(around) >= _INVERTED * len(labelled)


def _is_around(pair: Pair) -> bool:
    edge = sum(pair.border.values())
    on_edge = sum(count for value, count in pair.border.items() if value not in (BACKGROUND, IGNORE_INDEX))
    return on_edge >= _FILLED * edge and pair.pixels.get(BACKGROUND, 0) > pair.border.get(BACKGROUND, 0)


def _values(names: tuple[str, ...]) -> str:
    known = [f"{value} {name}" for value, name in enumerate(names, start=1)]
    return ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")


def _advice(pairs: Sequence[Pair], names: tuple[str, ...], classes: ClassMap) -> str:
    """Return the order of names that the masks and labels agree on, if there is one that explains nearly all of them."""
    shows = np.array([[value in pair.values for value in range(1, len(names) + 1)] for pair in pairs])
    says = np.array([[_is_labelled(pair, name, classes) for name in names] for pair in pairs])
    together = (shows[:, :, None] == says[:, None, :]).mean(axis=0)  # (values, names): images that agree on both
    values, order = linear_sum_assignment(-together)
    if together[values, order].min() < _CLEARLY or order.tolist() == list(range(len(names))):
        if len(classes) > 1 and len(set().union(*(pair.shown for pair in pairs))) == 1:
            return "; the masks hold one class only, as if they did not tell the classes apart"
        return "; look at the masks' values, and name them in data.mask_classes if they stand in another order"
    found = ", ".join(f'"{names[n]}"' for n in order)
    return f"; the labels agree with the order data.mask_classes = [{found}]"


def _is_labelled(pair: Pair, name: str, classes: ClassMap) -> bool:
    return name in classes.names and classes.id_of(name) in pair.class_ids
