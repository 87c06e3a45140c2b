"""Sequences as data: FASTA, arrays, labels, covariates, true masks, and files with mistakes."""

import gzip
import sys
from dataclasses import replace

import numpy as np
import pytest

from wsseg.data.config import SequencesData, SequencesSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.items import read_item
from wsseg.data.sequences import read_records
from wsseg.data.truth.loading import has_truth, load_truth
from wsseg.errors import DatasetError, MissingExtraError


def needs_biopython():
    pytest.importorskip("Bio", reason="FASTA files need the extra: pip install 'wsseg[sequences]'")


def fasta_data(folder, fasta=">one some words\nACGT\nnacg\n>two\nTTUURA\n>three\nGGGG\n", **options):
    """Write three short sequences, two of them with a label, and return their config."""
    (folder / "train.fa").write_text(fasta)
    (folder / "train.csv").write_text("image_id,classes\none,gata cre\ntwo,\n")
    (folder / "train.bed").write_text("# sites\none\t0\t2\tgata\none\t4\t7\tcre\t0\t-\n")
    part = SequencesSplit(folder / "train.fa", folder / "train.csv", folder / "train.bed")
    return SequencesData(kind="sequences", train=part, **options)


def signal_data(folder, values, ids=("a", "b"), rows="a,left\nb,\n", **options):
    np.savez(folder / "eeg.npz", values=values, ids=np.array(ids), channels=np.array(["C3", "C4"]))
    (folder / "labels.csv").write_text("image_id,classes\n" + rows)
    part = SequencesSplit(folder / "eeg.npz", folder / "labels.csv")
    return SequencesData(kind="sequences", train=part, **options)


def load(data, split="train"):
    return load_images(data, split, FileMemory())


def test_letters_become_four_channels_and_unknown_bases_are_zero(tmp_path):
    needs_biopython()
    images = load(fasta_data(tmp_path))
    assert images.channels == ("A", "C", "G", "T")
    assert [(item.id, item.size, item.class_ids) for item in images.items] == [
        ("one", (1, 8), (1, 2)),
        ("two", (1, 6), ()),
    ]
    assert images.classes.names == ("cre", "gata")
    one, two = (read_item(item) for item in images.items)
    assert one.shape == (1, 8, 4) and one.dtype == np.uint8 and set(np.unique(one)) == {0, 255}
    decoded = ["".join("ACGT"[row.argmax()] if row.any() else "N" for row in values[0]) for values in (one, two)]
    assert decoded == ["ACGTNACG", "TTTTNA"]


def test_gzip_and_lower_case_give_the_same_items(tmp_path):
    needs_biopython()
    data = fasta_data(tmp_path)
    packed = tmp_path / "other.fa.gz"
    packed.write_bytes(gzip.compress(b">one\nACGTNACG\n>two\nTTTTRA\n>three\nGGGG\n"))
    again = load(replace(data, train=replace(data.train, sequences=packed)))
    assert again.key == load(data).key


@pytest.mark.parametrize(
    ("fasta", "message"),
    [
        (">one\nACEF\n>two\nA\n", "one: found 'E' at base 3; expected: the letters of DNA"),
        (">one\nAC\n>one\nAC\n", "1 names occur twice, such as 'one'"),
        (">one\n>two\nA\n", "one: the record has no sequence"),
        ("one\nACGT\n", "expected FASTA, whose first line starts with '>'"),
        ("", "it holds no sequence"),
        (">two\nACGT\n", "1 labels have no image: one"),
    ],
)
def test_a_fasta_file_with_a_mistake_is_one_line(tmp_path, fasta, message):
    needs_biopython()
    with pytest.raises(DatasetError) as error:
        load(fasta_data(tmp_path, fasta))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_archive_is_one_line(tmp_path):
    needs_biopython()
    data = fasta_data(tmp_path)
    whole = gzip.compress((tmp_path / "train.fa").read_bytes())
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cut\.fa\.gz: cannot be read"):
        load(replace(data, train=replace(data.train, sequences=tmp_path / "cut.fa.gz")))


def test_without_biopython_fasta_names_the_extra(tmp_path, monkeypatch):
    for name in ("Bio", "Bio.SeqIO", "Bio.SeqIO.FastaIO"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wsseg\[sequences\]'"):
        load(fasta_data(tmp_path))


def test_two_tables_can_share_one_file(tmp_path):
    needs_biopython()
    data = fasta_data(tmp_path)
    (tmp_path / "val.csv").write_text("image_id,classes\nthree,gata\n")
    data = replace(data, val=replace(data.train, labels=tmp_path / "val.csv"))
    images = load_images(data, "val", FileMemory(), load(data).classes)
    assert [item.id for item in images.items] == ["three"]


def test_intervals_become_masks_of_one_row(tmp_path):
    needs_biopython()
    data = fasta_data(tmp_path)
    assert has_truth(data, "train")
    truth = load_truth(data, load(data), FileMemory())
    assert truth.mask("one").tolist() == [[2, 2, 0, 0, 1, 1, 1, 0]]
    assert truth.mask("two").tolist() == [[0] * 6]


def test_a_base_that_two_classes_share_is_not_evaluated(tmp_path):
    needs_biopython()
    data = fasta_data(tmp_path)
    (tmp_path / "train.bed").write_text("one\t0\t4\tgata\none\t2\t6\tcre\n")
    mask = load_truth(data, load(data), FileMemory()).mask("one")
    assert mask.tolist() == [[2, 2, 255, 255, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("bed", "message"),
    [
        ("one\t0\t9\tgata\n", "line 1: found 0 to 9; expected: 0 <= start < end <= 8"),
        ("one\t3\t3\tgata\n", "found 3 to 3"),
        ("one\ta\t3\tgata\n", "expected: two whole numbers"),
        ("one 0 3 gata\n", "found 1 fields; expected: sequence, start, end and class, with tabs"),
        ("chr1\t0\t3\tgata\n", "none of its 1 intervals is in a sequence of train; expected names such as 'one'"),
    ],
)
def test_a_bed_file_with_a_mistake_is_one_line(tmp_path, bed, message):
    needs_biopython()
    data = fasta_data(tmp_path)
    (tmp_path / "train.bed").write_text(bed)
    with pytest.raises(DatasetError) as error:
        load_truth(data, load(data), FileMemory())
    assert message in str(error.value) and "\n" not in str(error.value)


def test_signals_keep_their_values_and_channel_names(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 2, 50)).astype(np.float32)
    images = load(signal_data(tmp_path, values))
    assert images.channels == ("C3", "C4") and images.items[1].size == (1, 50)
    np.testing.assert_array_equal(read_item(images.items[1])[0], values[1].T)


def test_an_array_file_stays_on_the_disk_and_numbers_its_records(tmp_path):
    np.save(tmp_path / "eeg.npy", np.ones((3, 20), np.int16))
    records = read_records(tmp_path / "eeg.npy")
    assert records.ids == ["0", "1", "2"] and isinstance(records._array.base, np.memmap)
    assert records.values(2).shape == (1, 20, 1) and records.values(2).dtype == np.float32


def test_truth_of_signals_is_an_array_of_class_ids(tmp_path):
    data = signal_data(tmp_path, np.ones((2, 2, 5), np.float32))
    np.save(tmp_path / "truth.npy", np.array([[0, 1, 1, 0, 255], [0] * 5]))
    data = replace(data, train=replace(data.train, masks=tmp_path / "truth.npy"))
    assert load_truth(data, load(data), FileMemory()).mask("a").tolist() == [[0, 1, 1, 0, 255]]
    np.save(tmp_path / "truth.npy", np.array([[0, 1, 7, 0, 0], [0] * 5]))
    with pytest.raises(DatasetError, match="a: found 7; expected: class ids 0 to 1, or 255"):
        load_truth(data, load(data), FileMemory())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.ones((2, 2, 4))}, "found the arrays data; expected: 'values'"),
        ({"values": np.ones(4)}, r"found an array \(4,\) of float64"),
        ({"values": np.ones((1, 2, 4)), "ids": np.array(["a", "b"])}, "ids: found"),
        ({"values": np.full((1, 2, 4), np.nan), "ids": np.array(["a"])}, "a: it holds NaN or infinity"),
        ({"values": np.array([{}], object)}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_an_array_with_a_mistake_is_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "eeg.npz", **arrays)
    (tmp_path / "labels.csv").write_text("image_id,classes\na,left\n")
    part = SequencesSplit(tmp_path / "eeg.npz", tmp_path / "labels.csv")
    with pytest.raises(DatasetError, match=message):
        load(SequencesData(kind="sequences", train=part))


def test_a_changed_file_is_noticed_while_a_run_reads_it(tmp_path):
    images = load(signal_data(tmp_path, np.ones((2, 2, 5), np.float32)))
    signal_data(tmp_path, np.zeros((2, 2, 5), np.float32))
    with pytest.raises(DatasetError, match="it has changed since this run started"):
        read_item(images.items[0])


def test_covariates_are_columns_of_the_label_table(tmp_path):
    data = signal_data(tmp_path, np.ones((2, 2, 5), np.float32), covariates=("subject",))
    (tmp_path / "labels.csv").write_text("image_id,subject,classes\na,p1,left\nb,p2,\n")
    assert [item.covariates for item in load(data).items] == [(("subject", "p1"),), (("subject", "p2"),)]
    with pytest.raises(DatasetError, match=r"no column 'site' \(data\.covariates\); found image_id, subject, classes"):
        load(replace(data, covariates=("subject", "site")))
    with pytest.raises(DatasetError, match="expected the header 'image_id,classes' and no other columns"):
        load(replace(data, covariates=()))
