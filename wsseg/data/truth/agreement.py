"""Agreement of true masks with image-level labels.

Labels may be incomplete, and single masks may be wrong. If most images contradict their labels, the mask values have another
meaning than the config states, and all metrics computed from them would be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from wsseg.errors import listed
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap

_MOST = 0.5  # fraction of images; more contradictions are no accident
_LEAST = 3  # contradicting images; fewer are evidence only if they are more than half
_LEAST_OF_A_CLASS = 5  # likewise, for a class that is labelled beside others
_CLEARLY = 0.9  # fraction of images that another order of values has to explain
_INVERTED = 0.75  # fraction of labelled images, if there is no image without a class
_FILLED = 0.9  # fraction of the border that an inverted mask gives to a class


@dataclass(frozen=True)
class Pair:
    """The labels of one image and the counts of its mask.

    Args:
        id: id of the image.
        class_ids: image-level labels.
        pixels: number of pixels of its mask by class id, including 0 and 255.
        border: number of pixels on the border of the mask by class id.
        values: the values in the file, before their translation to class ids.
    """

    id: str
    class_ids: tuple[int, ...]
    pixels: dict[int, int]
    border: dict[int, int]
    values: frozenset[int]

    @property
    def shown(self) -> set[int]:
        """The classes in the mask."""
        return set(self.pixels) - {BACKGROUND, IGNORE_INDEX}

    @property
    def contradiction(self) -> str:
        """The contradiction between mask and labels, if they share no class; empty if they agree."""
        if not self.class_ids:
            return "no label, but a mask with classes" if self.shown else ""
        if self.shown & set(self.class_ids):
            return ""
        if self.shown:
            return "other classes in the mask than in the label"
        return "a label, but a mask without classes"


def problem_of(pairs: Sequence[Pair], names: tuple[str, ...], classes: ClassMap, named: bool) -> str:
    """Return a problem of most masks and its solution, or an empty string.

    Args:
        pairs: the images that have a mask.
        names: class names of the values 1..K in the files, according to the config.
        classes: the classes to learn.
        named: whether the config names the values (``mask_classes``), so that odd masks are intended.
    """
    labelled = [pair for pair in pairs if pair.class_ids]
    without = [pair for pair in labelled if not pair.shown]
    binary = [pair for pair in without if pair.values <= {BACKGROUND, IGNORE_INDEX} and IGNORE_INDEX in pair.values]
    if _is_most(len(binary), len(labelled)):
        return (
            f"{len(binary)} of {len(labelled)} labelled images have a mask of 0 and 255 only, and 255 means 'not evaluated'; "
            "expected 0 for the background and 1, 2, ... for the classes. If 255 marks objects of the only class, "
            "replace it by 1, for example with Pillow: mask.point(lambda v: v // 255)"
        )
    if _are_inverted(pairs, labelled, named):
        return (
            "the masks look inverted: they have a class on the border of most images and 0 inside; "
            f"expected 0 for the background and {_values(names)} for the classes"
            + ("" if named else "; if this is intended, name the mask values in data.mask_classes")
        )
    contradicted = [pair for pair in pairs if pair.contradiction]
    if _is_most(len(contradicted), len(pairs)):
        examples = ", ".join(f"{p.id} ({p.contradiction})" for p in contradicted[:3])
        return (
            f"the masks of {len(contradicted)} of {len(pairs)} images contradict the labels: {examples}; "
            f"expected mask values {_values(names)}" + _advice(pairs, names, classes)
        )
    for class_id, name in enumerate(classes.names, start=1):
        positive = [pair for pair in labelled if class_id in pair.class_ids]
        missed = [pair for pair in positive if class_id not in pair.shown]
        if len(missed) >= _LEAST_OF_A_CLASS and len(missed) > _MOST * len(positive):
            return (
                f"the masks of {len(missed)} of {len(positive)} images labelled {name!r} do not contain it, such as {missed[0].id}; "
                f"expected mask values {_values(names)}" + _advice(pairs, names, classes)
            )
    return ""


def notes_on(pairs: Sequence[Pair]) -> list[str]:
    """Return one line per kind of contradiction between single masks and their labels."""
    contradictions: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.contradiction:
            contradictions.setdefault(pair.contradiction, []).append(pair.id)
    return [f"{contradiction}: {listed(ids)}" for contradiction, ids in contradictions.items()]


def _is_most(count: int, total: int) -> bool:
    return count > _MOST * total or (count >= _LEAST and count >= _MOST * total)


def _are_inverted(pairs: Sequence[Pair], labelled: Sequence[Pair], named: bool) -> bool:
    """Return whether masks have classes in place of the background: around objects, and all over images without a class."""
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
    values = [f"{value} {name}" for value, name in enumerate(names, start=1)]
    return ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")


def _advice(pairs: Sequence[Pair], names: tuple[str, ...], classes: ClassMap) -> str:
    """Return the order of class names that explains nearly all masks and labels, if there is one, or other advice."""
    in_mask = np.array([[value in pair.values for value in range(1, len(names) + 1)] for pair in pairs])
    in_labels = np.array([[_is_labelled(pair, name, classes) for name in names] for pair in pairs])
    agreement = (in_mask[:, :, None] == in_labels[:, None, :]).mean(axis=0)  # (values, names): fraction of images
    values, order = linear_sum_assignment(-agreement)
    if agreement[values, order].min() < _CLEARLY or order.tolist() == list(range(len(names))):
        if len(classes) > 1 and len(set().union(*(pair.shown for pair in pairs))) == 1:
            return "; the masks contain only one class, so they may not distinguish the classes"
        return "; check the values of the masks, and name them in data.mask_classes if their order differs"
    ordered = ", ".join(f'"{names[n]}"' for n in order)
    return f"; the labels agree with the order data.mask_classes = [{ordered}]"


def _is_labelled(pair: Pair, name: str, classes: ClassMap) -> bool:
    return name in classes.names and classes.id_of(name) in pair.class_ids
