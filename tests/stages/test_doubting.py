"""Labels that are probably wrong: who judges them, how they are ranked, and what the table says."""

import numpy as np
import pytest

from wsseg.data.images import LabeledImages
from wsseg.data.label_overlay import read_overlay
from wsseg.labels import ClassMap
from wsseg.stages.doubt_labels import judging
from wsseg.stages.doubt_labels.config import Config
from wsseg.stages.doubt_labels.judging import confidently_wrong, doubts, held_out_probabilities, parts
from wsseg.stages.doubt_labels.listing import (
    DoubtedImage,
    DoubtedLabel,
    LabelDoubts,
    NearDuplicate,
    decode,
    overlay_table,
    tenth,
)
from wsseg.stages.doubt_labels.stage import judged
from wsseg.types import LabeledImage


@pytest.fixture
def planted():
    """Return descriptors of 120 images of two classes, labels with eight errors, and the rows with errors.

    Each class is seen at one of four places.
    """
    rng = np.random.default_rng(0)
    labels = rng.random((120, 2)) < 0.5
    descriptors = rng.normal(0, 0.5, (120, 4, 8))
    for k in range(2):
        descriptors[np.arange(120), rng.integers(0, 4, 120), k] += 6.0 * labels[:, k]
    wrong = rng.choice(120, 8, replace=False)
    labels[wrong, rng.integers(0, 2, 8)] ^= True
    return descriptors.astype(np.float16), labels, set(wrong)


@pytest.fixture(autouse=True)
def _short_trainings(monkeypatch):
    monkeypatch.setattr(judging, "_SEEN", 2000)


def images_of(labels, names=("scratch", "patch"), digests=None):
    items = [
        LabeledImage(
            f"{n:03d}", None, tuple(k + 1 for k in np.flatnonzero(row)), (8, 8), digests[n] if digests else str(n)
        )
        for n, row in enumerate(labels)
    ]
    return LabeledImages("train", ClassMap(names), tuple(items), {}, "key")


def test_copies_of_a_file_are_in_one_part_and_all_parts_are_used():
    part = parts([f"{n // 2}" for n in range(40)], 4, rng_seed=0)
    assert all(part[0::2] == part[1::2]) and set(part) == {0, 1, 2, 3}
    assert any(part != parts([f"{n // 2}" for n in range(40)], 4, rng_seed=1))


def test_planted_errors_come_first(planted):
    descriptors, labels, wrong = planted
    images, not_judged, average_precision = judged(images_of(labels), descriptors, Config())
    assert len({int(image.id) for image in images[:8]} & wrong) >= 7 and not not_judged
    assert all(image.doubt > 0.5 for image in images[:8]) and images[-1].doubt < 0.2 and 0.8 < average_precision < 1
    assert judged(images_of(labels), descriptors, Config())[0] == images  # the same seed
    assert judged(images_of(labels), descriptors, Config(rng_seed=1))[0] != images


def test_no_head_learns_the_label_that_it_judges():
    # each image has a feature of its own, so that a head that had learned its label would repeat it
    labels = np.random.default_rng(0).random((60, 1)) < 0.5
    part = parts([str(n) for n in range(60)], 5, 0)
    probabilities = held_out_probabilities(3 * np.eye(60, dtype=np.float32)[:, None], labels, part, 0)
    assert abs(probabilities[labels].mean() - probabilities[~labels].mean()) < 0.3


def test_a_class_of_too_few_images_is_not_judged():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.random(60) < 0.5, np.arange(60) < 3, np.ones(60, bool)], axis=1)
    descriptors = rng.normal(size=(60, 1, 4)).astype(np.float32)
    images, not_judged, _ = judged(images_of(labels, ("a", "rare", "always")), descriptors, Config())
    assert not_judged == ["rare", "always"]
    assert all(label.name == "a" for image in images for label in image.labels)


def test_the_doubt_is_the_probability_that_a_label_is_wrong_at_equal_frequency():
    probabilities = np.array([[0.9, 0.2], [np.nan, 0.7]])
    labels = np.array([[True, True], [False, False]])  # both classes are in half of the images
    assert np.allclose(doubts(probabilities, labels), [[0.1, 0.8], [np.nan, 0.7]], equal_nan=True)
    rare = np.zeros((10, 1), bool)
    rare[0] = True  # in a tenth of the images: odds of 1 to 9 are no evidence
    assert np.allclose(doubts(np.full((10, 1), 0.1), rare), 0.5)


def test_thresholds_are_the_means_of_each_class():
    # a class that is hard to recognise: 0.55 on average where it is labelled, 0.35 where it is not
    probabilities = np.array([[0.6], [0.5], [0.7], [0.4], [0.2], [0.3], [0.3], [0.6]])
    labels = np.array([[True]] * 4 + [[False]] * 4)
    assert confidently_wrong(probabilities, labels)[:, 0].tolist() == [False] * 7 + [True]
    assert not confidently_wrong(1 - probabilities, labels).any()  # heads that are worse than chance


def label(name, labelled, doubt=0.9, wrong=True):
    return DoubtedLabel(name, labelled, doubt, wrong)


@pytest.mark.parametrize(("labels", "why"), [
    ([label("scratch", True), label("patch", False)], "says scratch, looks like patch"),
    ([label("boat", False)], "shows boat that no label names"),
    ([label("boat", True)], "says boat, which is not seen"),
    ([label("boat", False), label("car", False, 0.6)], "shows boat and car that no label names"),
    ([label("boat", False), label("car", True, 0.2, wrong=False)], "shows boat that no label names"),
    ([label("car", True, 0.2, wrong=False), label("boat", False, 0.1, wrong=False)], "says car, which is not seen"),
])  # fmt: skip
def test_the_doubt_in_words(labels, why):
    assert DoubtedImage("a", 1.0, tuple(labels)).why == why


@pytest.fixture
def found():
    images = [DoubtedImage("a", 4.0, (label("scratch", True), label("patch", False, 0.8))),
              DoubtedImage('b, "c"', 1.5, (label("=boat", False, 0.7, wrong=False),))]  # fmt: skip
    return LabelDoubts(images, [NearDuplicate("a", "v", 0.93)], ["rare"])


def test_the_artifact_is_read_as_it_was_written(found):
    assert decode(found.encode()) == found and decode(found.encode()).encode() == found.encode()


def test_decided_labels_are_not_doubted_again(found):
    left = found.undecided({("a", "scratch"): True})
    assert [image.id for image in left.images] == ["a", 'b, "c"'] and left.images[
        0
    ].why == "shows patch that no label names"
    assert [image.id for image in found.undecided({("a", "scratch"): True, ("a", "patch"): False}).images] == ['b, "c"']
    assert left.probably_wrong == 1 and np.isclose(left.images[0].doubt, 1 - np.exp(-4.0) / 0.1)


def test_the_table_is_an_overlay_that_changes_nothing_until_it_is_edited(found, tmp_path):
    path, ids = tmp_path / "doubts.csv", ["a", 'b, "c"', "d"]
    path.write_bytes(overlay_table(found.images, {("d", "patch"): True}))
    assert read_overlay(path, ids) == {("d", "patch"): True}
    text = path.read_text()
    assert 'a,scratch,,1,0.900,"says scratch, looks like patch"' in text
    path.write_text(text.replace("a,scratch,,", "a,scratch,0,").replace("a,patch,,", "a,patch,1,"))
    assert read_overlay(path, ids) == {("d", "patch"): True, ("a", "scratch"): False, ("a", "patch"): True}


def test_a_tenth_is_listed():
    assert [tenth(count) for count in (1, 10, 11, 791)] == [1, 1, 2, 80]
