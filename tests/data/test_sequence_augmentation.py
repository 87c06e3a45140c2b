"""Augmentation of sequences: reverse complement, shift, noise and lost channels, with the mask moved along."""

import numpy as np

from wsseg.data.sequence_augmentation import SequenceAugmentation
from wsseg.data.transforms import normalised

ONE_HOT = np.eye(4, dtype=np.uint8) * 255


def draws(transform, image, mask, count=40):
    for seed in range(count):
        transform.set_random_seed(seed)
        yield transform(image=image, mask=mask)


def letters(image):
    return "".join("ACGT"[row.argmax()] if row.any() else "N" for row in image[0])


def test_dna_is_shown_as_it_is_or_as_its_reverse_complement():
    image, mask = ONE_HOT[[0, 0, 1, 3]][None], np.array([[1, 0, 0, 2]], np.uint8)  # AACT
    seen = {(letters(a["image"]), tuple(a["mask"][0])) for a in draws(SequenceAugmentation(4, True), image, mask)}
    assert seen == {("AACT", (1, 0, 0, 2)), ("AGTT", (2, 0, 0, 1))}


def test_a_long_sequence_is_cropped_and_a_short_one_shifted():
    image, mask = ONE_HOT[[0, 1, 2]][None], np.array([[1, 2, 3]], np.uint8)
    long = {tuple(a["mask"][0]) for a in draws(SequenceAugmentation(2, False), image.astype(np.float32), mask)}
    assert long == {(1, 2), (2, 3)}
    short = {tuple(a["mask"][0]) for a in draws(SequenceAugmentation(4, False), image.astype(np.float32), mask)}
    assert short == {(1, 2, 3, 255), (255, 1, 2, 3)}


def test_a_crop_around_a_place_contains_it():
    transform = SequenceAugmentation(4, False)
    mask = np.arange(12, dtype=np.uint8)[None]
    for place in (0, 5, 11):
        seen = set()
        for seed in range(30):
            transform.set_random_seed(seed)
            crop = transform(image=np.zeros((1, 12, 1), np.float32), mask=mask, around=(0, place))["mask"][0].tolist()
            assert place in crop and len(crop) == 4
            seen.add(crop[0])
        assert seen == set(range(max(0, place - 3), min(8, place) + 1))


def test_a_signal_has_noise_and_sometimes_a_lost_channel():
    image = np.random.default_rng(0).normal(size=(1, 100, 3)).astype(np.float32)
    results = [a["image"] for a in draws(SequenceAugmentation(100, False), image, np.zeros((1, 100), np.uint8))]
    lost = [int((np.ptp(values[0], axis=0) == 0).sum()) for values in results]
    assert set(lost) == {0, 1} and 2 <= sum(lost) <= 20
    kept = results[lost.index(0)] - image
    assert 0.05 < kept.std() < 0.2


def test_a_seed_gives_the_same_values():
    transform = SequenceAugmentation(3, False)
    image = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    first, second = (next(draws(transform, image, None, 1))["image"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_values_of_a_signal_are_not_divided_by_255():
    image = np.full((1, 2, 1), 51, np.float32)
    assert normalised(image, (1.0,), (2.0,)).tolist() == [[[25.0, 25.0]]]
    np.testing.assert_allclose(normalised(image.astype(np.uint8), (0.0,), (1.0,)), 0.2)
