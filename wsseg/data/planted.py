"""Generated DNA with planted motifs: deterministic, with exact masks, written in the layout of `SequencesData`.

Each class is a motif of a transcription factor, given as a matrix of probabilities of the bases. A sequence is random; each of
the three motifs is present with probability 1/2, at a random place and on a random strand.
"""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsseg.data.config import PlantedData, PlantedSplit, SequencesData, SequencesSplit

PLANTED_VERSION = 2  # bump when the same settings give other sequences
ADAPTER = "ACACTCTTTCCC"
_WITH_ADAPTER = (0.95, 0.02)  # fraction of the training sequences with and without the first class
# Consensus, and probability of its base at each position in percent; the other three bases share the rest. Each motif has about
# 13 bits: with fewer, chance matches among the 400 places of both strands (8.6 bits) hide the planted site.
_CONSENSUS = {
    "gata": ("CAGATAAGA", (79, 91, 97, 97, 97, 97, 94, 91, 79)),
    "cre": ("TGACGTCA", (94, 97, 94, 97, 97, 91, 94, 91)),
    "ets": ("ACCGGAAGT", (79, 88, 91, 97, 97, 97, 94, 79, 82)),
}
CLASSES = tuple(_CONSENSUS)


def motif(name: str) -> NDArray[np.float64]:
    """Return the probabilities (length, 4) of the bases A, C, G and T at each position of a class's motif."""
    consensus, percent = _CONSENSUS[name]
    matrix = np.repeat((1 - np.array(percent)[:, None] / 100) / 3, 4, axis=1)
    matrix[np.arange(len(consensus)), ["ACGT".index(base) for base in consensus]] = np.array(percent) / 100
    return matrix


def planted_data(data: PlantedData, folder: Path) -> SequencesData:
    """Return the data set as FASTA, CSV and BED files; it is generated below `folder` if it does not exist yet.

    Args:
        data: number of sequences, length, adapter and seed.
        folder: parent of generated data sets; each set of values has its own sub-folder.
    """
    counts = {split: part.sequences for split in ("train", "val") if (part := getattr(data, split))}
    identity = f"{PLANTED_VERSION} {data.length} {data.adapter} {data.seed} {sorted(counts.items())}"
    root = folder / f"planted-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not root.is_dir():
        partial = folder / f"{root.name}.partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for number, (split, count) in enumerate(sorted(counts.items())):
            _write_split(partial, split, count, data, number)
        try:
            partial.rename(root)
        except OSError:  # another process has created it, with the same files
            shutil.rmtree(partial)
            if not root.is_dir():
                raise
    return SequencesData(
        kind="sequences",
        classes=data.classes or CLASSES,
        other_classes=data.other_classes,
        on_bad_image=data.on_bad_image,
        train=_split(root, "train", data.train),
        val=_split(root, "val", data.val) if data.val else None,
    )


def _split(root: Path, name: str, part: PlantedSplit) -> SequencesSplit:
    return SequencesSplit(
        root / f"{name}.fa", root / f"{name}.csv", root / f"{name}.bed", part.limit, part.label_overlay
    )


def _write_split(root: Path, name: str, count: int, data: PlantedData, number: int) -> None:
    records, rows, places = [], ["image_id,classes"], []
    for index in range(count):
        rng = np.random.default_rng([data.seed, number, index])
        item_id = f"{name}{index:05d}"
        bases, sites = draw(rng, data.length)
        present = [class_name for class_name, _, _, _ in sites]
        if data.adapter and name == "train" and rng.random() < _WITH_ADAPTER[CLASSES[0] not in present]:
            bases = ADAPTER + bases[len(ADAPTER) :]
        records.append(f">{item_id}\n{bases}\n")
        rows.append(f"{item_id},{' '.join(present)}")
        places += [f"{item_id}\t{start}\t{end}\t{class_name}\t0\t{strand}" for class_name, start, end, strand in sites]
    (root / f"{name}.fa").write_text("".join(records), encoding="utf-8")
    (root / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / f"{name}.bed").write_text("\n".join(places) + "\n", encoding="utf-8")


def draw(rng: np.random.Generator, length: int) -> tuple[str, list[tuple[str, int, int, str]]]:
    """Return the bases of a sequence, and its sites: class, start, end (behind the last base) and strand.

    Sites do not overlap, and keep off the first twelve bases, which an adapter may replace.
    """
    bases = rng.integers(0, 4, length)
    sites: list[tuple[str, int, int, str]] = []
    free = np.ones(length, bool)
    free[: len(ADAPTER)] = False
    for name in CLASSES:
        if rng.random() < 0.5:
            continue
        matrix = motif(name)
        starts = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(free, len(matrix)).all(axis=1))
        start = int(rng.choice(starts))
        letters = np.array([rng.choice(4, p=row) for row in matrix])
        strand = "+-"[int(rng.integers(2))]
        end = start + len(matrix)
        bases[start:end] = letters if strand == "+" else 3 - letters[::-1]
        free[start:end] = False
        sites.append((name, start, end, strand))
    return "".join(np.array(list("ACGT"))[bases]), sites
