"""Masks that contradict the labels of most images are a problem, and of few images a note."""

import pytest

from wsseg.data.truth.agreement import Pair, notes_on, problem_of
from wsseg.labels import ClassMap

CLASSES = ClassMap(("cat", "dog", "fox"))


def pair(labels, shown, number=0, values=None, border=None, background=700):
    """Return an image with 100 px of each class in its mask."""
    pixels = {0: background, **dict.fromkeys(shown, 100)} if background else dict.fromkeys(shown, 100)
    return Pair(f"{number:03}", tuple(labels), pixels, border or {0: 40}, frozenset(values or pixels))


def problem(pairs, names=CLASSES.names, named=False):
    return problem_of(pairs, names, CLASSES, named)


def test_masks_that_agree():
    pairs = [pair([1], [1]), pair([1, 2], [1, 2]), pair([3], [3]), pair([], [])]
    assert problem(pairs) == "" and notes_on(pairs) == []


def test_labels_may_be_incomplete_and_single_masks_wrong():
    pairs = [pair([1], [1, 2, 3], n) for n in range(6)] + [pair([2], [2], n) for n in range(6, 9)]
    pairs += [pair([2], [1], 9), pair([3], [], 10), pair([], [3], 11)]
    assert problem(pairs) == ""
    assert notes_on(pairs) == [
        "other classes in the mask than in the label: 009",
        "a label, but a mask without classes: 010",
        "no label, but a mask with classes: 011",
    ]


@pytest.mark.parametrize("values", [{0, 255}, {255}])
def test_masks_of_0_and_255(values):
    pairs = [pair([1], [255], n, values) for n in range(3)] + [pair([], [])]
    assert "3 of 3 labelled images have a mask of 0 and 255 only" in problem(pairs)
    assert "v // 255" in problem(pairs)


def test_a_few_masks_of_0_and_255_are_accepted():
    assert problem([pair([1], [255], 0, {0, 255}), *[pair([1], [1], n) for n in range(1, 4)]]) == ""


def test_values_in_another_order_are_named():
    order = {1: 2, 2: 3, 3: 1}  # mask value of each class
    pairs = [pair([k], [order[k]], k) for k in (1, 2, 3)] * 3
    message = problem(pairs)
    assert "the masks of 9 of 9 images contradict the labels: 001 (other classes" in message
    assert 'data.mask_classes = ["fox", "cat", "dog"]' in message


def test_two_exchanged_classes_among_many_right_ones():
    pairs = [pair([1], [1], n) for n in range(20)] + [pair([2], [3], n) for n in range(20, 26)]
    pairs += [pair([3], [2], n) for n in range(26, 32)]
    message = problem(pairs)
    assert "6 of 6 images labelled 'dog' do not contain it, such as 020" in message
    assert 'data.mask_classes = ["cat", "fox", "dog"]' in message


def test_contradictions_that_no_order_explains():
    pairs = [pair([1 + n % 3], [1 + (n * n + 1) % 3], n) for n in range(9)]
    assert "check the values of the masks" in problem(pairs)


def inverted(labels, number, whole):
    """Return an image whose mask is 1 everywhere except on the object."""
    if whole:
        return pair(labels, [1], number, border={1: 40}, background=0)
    return pair(labels, [1], number, border={1: 38, 0: 2}, background=300)


def test_inverted_masks():
    pairs = [inverted([1], 0, False), inverted([1], 1, False), inverted([], 2, True)]
    assert "the masks look inverted" in problem(pairs) and "data.mask_classes" in problem(pairs)
    everywhere = [inverted([1], n, False) for n in range(4)]
    assert "the masks look inverted" in problem(everywhere)
    assert problem(everywhere, named=True) == ""  # the config says what the values mean: a class may lie all around


def test_a_class_that_often_touches_the_border_is_not_an_inversion():
    pairs = [inverted([1], n, False) for n in range(6)] + [pair([1], [1], n) for n in range(6, 9)]
    assert problem(pairs) == ""
    assert problem([*pairs, pair([], [], 9), pair([], [], 10)]) == ""


def test_images_without_a_class_alone_show_an_inversion():
    touching = [pair([1], [1], n, border={1: 20, 0: 20}) for n in range(6)]  # objects that reach the border
    assert "the masks look inverted" in problem([*touching, *[inverted([], n, True) for n in range(6, 9)]])
    assert problem([*touching, inverted([], 6, True)]) == ""  # one such image is a label that is missing


def test_masks_that_do_not_distinguish_the_classes():
    pairs = [pair([1 + n % 2], [1], n) for n in range(6)]
    assert "the masks contain only one class" in problem(pairs)


def test_one_of_two_images_is_not_enough_evidence():
    assert problem([pair([1], [1], 0), pair([2], [1], 1)]) == ""
    assert problem([pair([1], [1], 0), pair([2], [255], 1, {0, 255})]) == ""


def test_an_order_is_named_even_if_the_masks_have_one_class():
    assert 'data.mask_classes = ["dog", "cat"]' in problem_of(
        [pair([1], [2], 0), pair([1], [2], 1), pair([], [], 2)], ("cat", "dog"), ClassMap(("cat", "dog")), True
    )
