import numpy as np
import pytest

from wsseg.saliency.pixel_adaptive import adapted, neighbour_weights

RNG = np.random.default_rng(0)


def test_weights_equal_the_paper_s_code_pixel_by_pixel():
    image = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    dilations = (1, 2)
    weights = neighbour_weights(image, dilations).numpy()
    pixels = image.astype(np.float64) / 255
    offsets = [(d, dy, dx) for d in dilations for dy in (-d, 0, d) for dx in (-d, 0, d)]

    def at(y, x):
        return pixels[np.clip(y, 0, 4), np.clip(x, 0, 6)]

    for y in range(5):
        for x in range(7):
            deviation = np.std([at(y + dy, x + dx) for _, dy, dx in offsets], axis=0, ddof=1)
            kernel = [
                np.mean(-np.abs(at(y + dy, x + dx) - at(y, x)) / (1e-8 + 0.1 * deviation))
                for _, dy, dx in offsets
                if dy or dx
            ]
            expected = np.exp(kernel) / np.exp(kernel).sum()
            assert np.allclose(weights[:, y, x], expected, atol=1e-5)


def test_scores_fill_the_object_up_to_its_edge():
    image = np.full((40, 60, 3), 40, dtype=np.uint8)
    image[10:30, 20:45] = 220
    truth = image[..., 0] > 100
    seen = np.zeros((40, 60), dtype=np.float32)
    seen[8:28, 24:40] = 0.9  # misses parts of the object and spills over
    scores = np.stack([1 - seen, seen])
    refined = adapted(scores, image)
    assert ((refined[1] > 0.3) == truth).mean() > 0.99 > ((seen > 0.3) == truth).mean()
    assert np.allclose(refined.sum(0), 1, atol=1e-5)


def test_an_even_picture_only_blurs_and_no_iteration_changes_nothing():
    image = np.full((12, 16, 3), 90, dtype=np.uint8)
    scores = RNG.random((2, 12, 16), dtype=np.float32)
    scores /= scores.sum(0)
    assert np.allclose(neighbour_weights(image).numpy(), 1 / 48, atol=1e-6)
    assert (adapted(scores, image, iterations=0) == scores).all()
    assert adapted(scores, image)[0].std() < scores[0].std()


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirrored_picture_gives_mirrored_scores(axis):
    image = RNG.integers(0, 256, (21, 33, 3), dtype=np.uint8)
    scores = RNG.random((3, 21, 33), dtype=np.float32)
    scores /= scores.sum(0)
    mirrored = adapted(np.flip(scores, axis).copy(), np.flip(image, axis - 1).copy())
    assert np.allclose(np.flip(mirrored, axis), adapted(scores, image), atol=1e-5)
