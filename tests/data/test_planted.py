"""The generated DNA: reproducible, with the motifs where the truth says, and with the adapter in train only."""

from itertools import pairwise

import numpy as np
import pytest

from wsseg.data.config import PlantedData, PlantedSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.planted import ADAPTER, CLASSES, draw, motif, planted_data
from wsseg.data.truth.loading import load_truth


def planted(**options):
    return PlantedData(kind="planted_dna", train=PlantedSplit(40), val=PlantedSplit(20), **options)


def test_motifs_are_probabilities():
    for name in CLASSES:
        np.testing.assert_allclose(motif(name).sum(axis=1), 1)


def test_sites_hold_the_motif_on_their_strand_and_do_not_overlap():
    complement = str.maketrans("ACGT", "TGCA")
    hits = []
    for seed in range(200):
        bases, sites = draw(np.random.default_rng(seed), 100)
        taken = sorted((start, end) for _, start, end, _ in sites)
        assert all(end <= start for (_, end), (start, _) in pairwise(taken))
        for name, start, end, strand in sites:
            letters = bases[start:end] if strand == "+" else bases[start:end][::-1].translate(complement)
            consensus = "".join("ACGT"[row.argmax()] for row in motif(name))
            hits.append(sum(a == b for a, b in zip(letters, consensus, strict=True)) / len(consensus))
    assert np.mean(hits) > 0.85


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (planted_data(planted(), tmp_path / name).train for name in ("a", "b"))
    for name in ("sequences", "labels", "masks"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    other = planted_data(planted(seed=1), tmp_path / "a").train
    assert other.sequences.read_bytes() != first.sequences.read_bytes()


def test_the_adapter_is_in_train_and_with_the_first_class_only(tmp_path):
    data = planted_data(planted(adapter=True), tmp_path)
    with_adapter = {
        split: sum(line.startswith(ADAPTER) for line in getattr(data, split).sequences.read_text().splitlines())
        for split in ("train", "val")
    }
    rows = data.train.labels.read_text().splitlines()
    assert with_adapter["val"] == 0
    assert abs(with_adapter["train"] - sum(CLASSES[0] in row for row in rows)) <= 5


def test_labels_and_truth_agree(tmp_path):
    pytest.importorskip("Bio", reason="FASTA files need the extra: pip install 'wsseg[sequences]'")
    data = planted_data(planted(), tmp_path)
    images = load_images(data, "train", FileMemory())
    truth = load_truth(data, images, FileMemory())
    for item in images.items:
        assert set(np.unique(truth.mask(item.id))) - {0} == set(item.class_ids)
