"""What `data check` says about sequences: shortcuts, and splits that are not independent."""

from dataclasses import replace

import numpy as np
import pytest

from wsseg.data.check import check_data
from wsseg.data.config import SequencesData, SequencesSplit
from wsseg.data.file_memory import FileMemory

pytest.importorskip("Bio", reason="FASTA files need the extra: pip install 'wsseg[sequences]'")


def text(codes):
    return "".join(np.array(list("ACGT"))[codes])


def data_of(folder, train, val=None, columns="", **options):
    """Write (bases, class, further cells) per record and return the config."""
    parts = {}
    for split, records in (("train", train), ("val", val)):
        if records is None:
            continue
        names = [f"{split}{i}" for i in range(len(records))]
        fasta = "".join(f">{name}\n{record[0]}\n" for name, record in zip(names, records, strict=True))
        rows = "".join(f"{name},{','.join(record[1:])}\n" for name, record in zip(names, records, strict=True))
        (folder / f"{split}.fa").write_text(fasta)
        (folder / f"{split}.csv").write_text(f"image_id,classes{columns}\n{rows}")
        parts[split] = SequencesSplit(folder / f"{split}.fa", folder / f"{split}.csv")
    return SequencesData(kind="sequences", **parts, **options)


def random_records(seed, count=40, length=60):
    rng = np.random.default_rng(seed)
    return [(text(rng.integers(0, 4, length)), "site" if i % 2 else "") for i in range(count)]


def lines(data):
    reports = check_data(data, FileMemory())
    return [report.notes for report in reports], [report.problems for report in reports]


def test_random_sequences_have_no_shortcut(tmp_path):
    notes, problems = lines(data_of(tmp_path, random_records(0), random_records(1)))
    assert problems == [[], []]
    assert notes == [[], ["no masks: the quality of the results is not measured"]]


def test_gc_content_that_predicts_a_class_is_reported_with_its_auc(tmp_path):
    rng = np.random.default_rng(0)
    rich, plain = (0.1, 0.4, 0.4, 0.1), (0.25,) * 4
    records = [(text(rng.choice(4, 60, p=rich if i % 2 else plain)), "site" if i % 2 else "") for i in range(40)]
    (notes,), _ = lines(data_of(tmp_path, records))
    assert [line.partition(";")[0] for line in notes] == [
        "the GC content alone predicts 'site' with AUC 1.00 (high with the class)"
    ]


def test_a_base_that_is_always_at_one_place_is_reported(tmp_path):
    records = [(b[:29] + "GT" + b[31:] if name else b, name) for b, name in random_records(2)]
    (notes,), _ = lines(data_of(tmp_path, records))
    assert len(notes) == 1 and "2 positions" in notes[0] and "(G at 30, T at 31)" in notes[0]


def test_a_length_that_predicts_a_class_and_unknown_bases_are_reported(tmp_path):
    records = [(b + "NN" if name else b, name) for b, name in random_records(3)]
    (notes,), _ = lines(data_of(tmp_path, records))
    assert [line.split(" ")[:3] for line in notes] == [["40", "of", "2440"], ["the", "length", "alone"]]


def test_copies_and_similar_sequences_across_splits_are_reported(tmp_path):
    train, val = random_records(4), random_records(5)
    complement = str.maketrans("ACGT", "TGCA")
    val[3] = (train[7][0], "site")  # a copy
    val[4] = (val[4][0][:20] + train[8][0][10:35] + val[4][0][45:], "")
    val[5] = (train[9][0][::-1].translate(complement), "site")  # the other strand
    notes, problems = lines(data_of(tmp_path, train, val))
    assert problems == [[], []] and notes[0] == []
    assert "identical to training sequences: val3 (train: train7)" in notes[1][0]
    assert "3 of 40 sequences share 20 bases in a row with train: val3, val4, val5" in notes[1][-1]


def test_one_person_in_two_splits_is_a_problem(tmp_path):
    train, val = ([(*r, f"p{i % 5 + start}") for i, r in enumerate(random_records(6 + start))] for start in (0, 4))
    data = data_of(tmp_path, train, val, ",subject", covariates=("subject",), group="subject")
    _, problems = lines(data)
    assert problems[0] == [] and problems[1][0].startswith("1 value of 'subject' in both splits: p4")


def test_a_covariate_that_predicts_a_class_is_reported(tmp_path):
    records = [(*r, "nova" if r[1] else "old") for r in random_records(7)]
    (notes,), _ = lines(data_of(tmp_path, records, columns=",machine", covariates=("machine",)))
    assert notes[0].startswith("the covariate 'machine' alone predicts 'site' with AUC 1.00")


def test_two_splits_of_one_file_are_not_the_same_sequences(tmp_path):
    data = data_of(tmp_path, random_records(8))
    rows = data.train.labels.read_text().splitlines()
    (tmp_path / "val.csv").write_text("\n".join([rows[0], *rows[21:]]) + "\n")
    (tmp_path / "train.csv").write_text("\n".join(rows[:21]) + "\n")
    _, problems = lines(replace(data, val=replace(data.train, labels=tmp_path / "val.csv")))
    assert problems == [[], []]
