"""The dense CRF against a brute-force mean field with the full kernel matrix."""

import numpy as np
import pytest

from wsseg.crf.dense_crf import PRESETS, CrfSettings, label_unary, refine
from wsseg.errors import StageError

SETTINGS = CrfSettings(
    gaussian_sxy=2, gaussian_compat=1.5, bilateral_sxy=4, bilateral_srgb=20, bilateral_compat=2.5, iterations=5
)


def kernel(features):
    """Return D^-1/2 exp(-|fi - fj|^2 / 2) D^-1/2 over all pairs of pixels, the reference's symmetric normalisation."""
    distance = ((features[:, None] - features[None]) ** 2).sum(2)
    weights = np.exp(-distance / 2)
    scale = 1 / np.sqrt(weights.sum(1) + 1e-20)
    return scale[:, None] * weights * scale[None]


def brute_force(image, scores, settings):
    """Mean field of Krähenbühl & Koltun (2011), algorithm 1, with Potts compatibility, no approximation."""
    labels, height, width = scores.shape
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    gaussian = kernel(place / settings.gaussian_sxy)
    colour = image.reshape(-1, 3) / settings.bilateral_srgb
    bilateral = kernel(np.concatenate([place / settings.bilateral_sxy, colour], axis=1))
    unary = -np.log(np.maximum(scores, 1e-5)).reshape(labels, -1)
    q = np.exp(-unary) / np.exp(-unary).sum(0)
    for _ in range(settings.iterations):
        message = settings.gaussian_compat * q @ gaussian.T + settings.bilateral_compat * q @ bilateral.T
        energy = unary - message
        q = np.exp(-(energy - energy.min(0)))
        q /= q.sum(0)
    return q.reshape(labels, height, width)


@pytest.fixture
def scene():
    """A 14 x 18 image (H != W): a bright disc on dark, three noisy scores."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:14, :18]
    inside = (rows - 6) ** 2 + (columns - 10) ** 2 < 20
    image = np.where(inside[..., None], (200, 180, 60), (40, 60, 90)).astype(np.uint8)
    image = (image + rng.integers(0, 8, image.shape)).astype(np.uint8)
    scores = rng.random((3, 14, 18)) + 0.3
    scores[1] += inside
    scores[0] += ~inside
    return image, (scores / scores.sum(0)).astype(np.float32)


def test_close_to_brute_force(scene):
    image, scores = scene
    ours, exact = refine(image, scores, SETTINGS), brute_force(image, scores, SETTINGS)
    assert np.abs(ours - exact).mean() < 0.02  # what the lattice's interpolation of the kernels costs
    sure = np.sort(exact, axis=0)[-1] - np.sort(exact, axis=0)[-2] > 0.1
    assert sure.mean() > 0.9 and (ours.argmax(0) == exact.argmax(0))[sure].all()


def test_scores_come_back_as_scores_and_nothing_is_changed_in_place(scene):
    image, scores = scene
    before = image.copy(), scores.copy()
    refined = refine(image, scores, SETTINGS)
    assert refined.shape == scores.shape and np.allclose(refined.sum(0), 1, atol=1e-4)
    assert np.array_equal(image, before[0]) and np.array_equal(scores, before[1])


def test_a_flipped_image_gives_flipped_scores(scene):
    image, scores = scene
    flipped = refine(image[:, ::-1].copy(), scores[:, :, ::-1].copy(), SETTINGS)[:, :, ::-1]
    assert np.abs(flipped - refine(image, scores, SETTINGS)).mean() < 0.02


def test_labels_may_be_permuted(scene):
    image, scores = scene
    order = [2, 0, 1]
    assert np.allclose(refine(image, scores[order], SETTINGS), refine(image, scores, SETTINGS)[order], atol=1e-5)


def test_swapped_sizes_are_refused(scene):
    image, scores = scene
    with pytest.raises(StageError, match=r"the image is \(18, 14, 3\), the scores \(3, 14, 18\)"):
        refine(image.transpose(1, 0, 2), scores, SETTINGS)


def test_one_label_comes_back_as_it_is(scene):
    image, _ = scene
    ones = np.ones((1, 14, 18), dtype=np.float32)
    assert np.array_equal(refine(image, ones, PRESETS["irn"]), ones)


def test_unary_of_labels_by_hand():
    unary = label_unary(np.array([[0, 2]], dtype=np.uint8), 3, 0.7)
    other = -np.log(0.15)
    assert np.allclose(unary[:, 0], [[-np.log(0.7), other], [other, other], [other, -np.log(0.7)]])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_clean_a_noisy_score(scene, name):
    image, _ = scene
    truth = image[..., 0] > 120
    wrong = np.random.default_rng(1).random(truth.shape) < 0.15
    likely = np.where(truth ^ wrong, 0.8, 0.2)
    scores = np.stack([1 - likely, likely]).astype(np.float32)
    assert (refine(image, scores, PRESETS[name]).argmax(0) == truth).mean() > (scores.argmax(0) == truth).mean() + 0.1
