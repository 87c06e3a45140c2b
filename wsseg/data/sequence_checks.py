"""What `wsseg data check` reports about sequences: shortcuts that a classifier could take, and splits that are not independent."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from wsseg.data.images import LabeledImages
from wsseg.data.sequences import LETTERS, Letters, read_records
from wsseg.errors import counted, listed
from wsseg.types import LabeledSequence

_WORD = 20  # bases of a word that two sequences share by common descent and not by chance
_PREDICTS = 0.7  # AUC from which a simple property is reported as a predictor
_CONSTANT = 0.9  # fraction of a class's sequences with one base at one position
_MOST_WORDS = 2**24  # of the training sequences; beyond that, a fixed sample of all possible words is compared


def sequence_notes(images: LabeledImages) -> list[str]:
    """Return one line per finding about the sequences of a split that may be unintended."""
    items = _items(images)
    copies = sum(count - 1 for count in Counter(item.sha256 for item in items).values())
    notes = [f"{counted(copies, 'sequence')} identical to another one of this split"] if copies else []
    if images.channels == LETTERS:
        bases = [_bases(item) for item in items]
        known = sum(int((b < 4).sum()) for b in bases)
        total = sum(map(len, bases))
        if known < total:
            notes.append(
                f"{total - known} of {total} bases are N or another ambiguity code; they are 0 in all channels"
            )
        gc = np.array([float(np.isin(b, (1, 2)).sum()) / max(int((b < 4).sum()), 1) for b in bases])
        notes += _predictor("the GC content", gc, images)
        notes += _constant_positions(bases, images)
    else:
        lengths = Counter(item.size[1] for item in items)
        notes.append(
            f"{counted(len(images.channels), 'channel')}: {listed(images.channels, 8)}; {max(lengths)} samples"
        )
    notes += _predictor("the length", np.array([item.size[1] for item in items], float), images)
    return notes + _covariates(images)


def split_findings(train: LabeledImages, val: LabeledImages, group: str) -> tuple[list[str], list[str]]:
    """Return the (problems, notes) of two splits that are not independent: one person or origin in both, shared words."""
    problems, notes = [], []
    if train.channels != val.channels:
        problems.append(
            f"its channels are {listed(val.channels, 8)}; expected: those of train, {listed(train.channels, 8)}"
        )
    if group:
        groups = [{dict(item.covariates).get(group, "") for item in _items(split)} for split in (train, val)]
        if both := sorted(groups[0] & groups[1]):
            problems.append(
                f"{counted(len(both), 'value')} of {group!r} in both splits: {listed(both)}; move each to one split, or the "
                "results show that the network knows them and not that it generalises"
            )
    if train.channels == val.channels == LETTERS:
        shared = shared_words(train, val)
        if shared:
            notes.append(
                f"{len(shared)} of {counted(len(val), 'sequence')} share {_WORD} bases in a row with train: {listed(shared, 5)}; "
                "the results look better than they are: put similar sequences into one split"
            )
    return problems, notes


def shared_words(train: LabeledImages, val: LabeledImages) -> list[str]:
    """Return the ids of `val` that share a word of 20 bases, on either strand, with `train`.

    If train has more than 16 million words, a fixed fraction of all possible words is compared.
    """
    total = sum(item.size[1] for item in train.items)
    every = max(1, -(-total // _MOST_WORDS))
    known = np.unique(np.concatenate([_words(_bases(item), every) for item in _items(train)]))
    if not len(known):
        return []

    def is_known(item: LabeledSequence) -> bool:
        words = _words(_bases(item), every)
        places = np.minimum(np.searchsorted(known, words), len(known) - 1)
        return bool((known[places] == words).any())

    return [item.id for item in _items(val) if is_known(item)]


def _words(bases: NDArray[np.uint8], every: int) -> NDArray[np.uint64]:
    """Return the words of a sequence as numbers, the smaller one of both strands; words with an unknown base are left out."""
    if len(bases) < _WORD:
        return np.zeros(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(bases, _WORD)
    windows = windows[(windows < 4).all(axis=1)].astype(np.uint64)
    powers = np.uint64(4) ** np.arange(_WORD, dtype=np.uint64)
    words: NDArray[np.uint64] = np.minimum(windows @ powers[::-1], (np.uint64(3) - windows) @ powers)
    mixed = words * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)  # Fibonacci hashing
    chosen: NDArray[np.uint64] = words[mixed % np.uint64(every) == 0]
    return chosen


def _items(images: LabeledImages) -> list[LabeledSequence]:
    return [item for item in images.items if isinstance(item, LabeledSequence)]


def _bases(item: LabeledSequence) -> NDArray[np.uint8]:
    records = read_records(item.path)
    if not isinstance(records, Letters):
        raise TypeError(f"{item.path}: not a file of letters")
    return records.bases(item.record)


def _predictor(what: str, values: NDArray[np.float64], images: LabeledImages) -> list[str]:
    """Return a note for each class that one number per sequence predicts."""
    notes = []
    for class_id, name in enumerate(images.classes.names, start=1):
        present = np.array([class_id in item.class_ids for item in images.items])
        if present.all() or not present.any():
            continue
        auc = float(roc_auc_score(present, values))
        if max(auc, 1 - auc) >= _PREDICTS:
            direction = "high" if auc >= 0.5 else "low"
            notes.append(
                f"{what} alone predicts {name!r} with AUC {max(auc, 1 - auc):.2f} ({direction} with the class); "
                "a classifier may learn it instead of the class"
            )
    return notes


def _constant_positions(bases: list[NDArray[np.uint8]], images: LabeledImages) -> list[str]:
    """Return a note for each class whose sequences have the same bases at the same positions, unlike the others."""
    if len({len(b) for b in bases}) != 1 or len(bases) < 2:
        return []
    table, notes = np.stack(bases), []
    for class_id, name in enumerate(images.classes.names, start=1):
        present = np.array([class_id in item.class_ids for item in images.items])
        if present.all() or present.sum() < 10:
            continue
        inside, outside = (
            np.stack([(table[rows] == base).mean(axis=0) for base in range(4)]) for rows in (present, ~present)
        )
        base = inside.argmax(axis=0)
        columns = np.arange(table.shape[1])
        constant = (inside[base, columns] >= _CONSTANT) & (outside[base, columns] < 0.5)
        if places := np.flatnonzero(constant).tolist():
            shown = ", ".join(f"{LETTERS[base[p]]} at {p + 1}" for p in places[:8])
            notes.append(
                f"{name!r}: {counted(len(places), 'position')} with the same base in 90 % of its sequences and not in others "
                f"({shown}); the position alone may predict the class: crop the sequences at random places"
            )
    return notes


def _covariates(images: LabeledImages) -> list[str]:
    """Return a note for each covariate whose value predicts a class; covariates with many values are left out."""
    notes, names = [], dict.fromkeys(name for item in _items(images) for name, _ in item.covariates)
    for covariate in names:
        values = [dict(item.covariates).get(covariate, "") for item in _items(images)]
        if len(set(values)) > len(values) / 10:
            continue
        for class_id, class_name in enumerate(images.classes.names, start=1):
            present = [class_id in item.class_ids for item in images.items]
            if any(present) and not all(present):
                rates = _rates(zip(values, present, strict=True))
                auc = float(roc_auc_score(present, [rates[value] for value in values]))
                if auc >= _PREDICTS:
                    notes.append(
                        f"the covariate {covariate!r} alone predicts {class_name!r} with AUC {auc:.2f}; compare the class within "
                        "its values, or balance them"
                    )
    return notes


def _rates(pairs: Iterable[tuple[str, bool]]) -> dict[str, float]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for value, present in pairs:
        counts[value][0] += present
        counts[value][1] += 1
    return {value: positive / total for value, (positive, total) in counts.items()}
