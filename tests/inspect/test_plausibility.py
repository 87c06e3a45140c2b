import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from wsseg.errors import StageError
from wsseg.inspect.plausibility import (
    best_iou,
    energy_inside,
    histograms,
    pixel_average_precision,
    pointing_game,
)

MAPS = torch.tensor([[[0.0, 1.0, 4.0], [2.0, 2.0, 1.0]], [[5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
INSIDE = torch.tensor([[[0, 0, 1], [0, 1, 1]], [[0, 1, 0], [0, 0, 0]]], dtype=torch.bool)
ALL = torch.ones_like(INSIDE)


def test_pointing_game_by_hand():
    assert pointing_game(MAPS, INSIDE, ALL).tolist() == [1, 0]
    assert pointing_game(MAPS, INSIDE, ALL, tolerance=1).tolist() == [1, 1]
    without_peak = ALL.clone()
    without_peak[0, 0, 2] = False  # 255 there: the next highest is outside, first in reading order
    assert pointing_game(MAPS, INSIDE, without_peak)[0] == 0
    assert pointing_game(MAPS, INSIDE, ~ALL).isnan().all()


def test_energy_by_hand():
    assert energy_inside(MAPS, INSIDE, ALL).tolist() == pytest.approx([7 / 10, 0])
    assert energy_inside(torch.zeros_like(MAPS), INSIDE, ALL).isnan().all()


def test_best_iou_by_hand():
    iou, threshold = best_iou(histograms(MAPS, INSIDE, ALL))
    # >= 1: 3 of 5; >= 2: 2 inside, 1 outside, 3 wanted: 2 / 4; >= 4: 1 / 3
    assert iou[0] == pytest.approx(3 / 5) and threshold[0] <= 0.25
    assert iou[1] == 0
    assert best_iou(histograms(MAPS, torch.zeros_like(INSIDE), ALL))[0].isnan().all()


def test_a_map_that_is_the_mask_is_perfect():
    counts = histograms(INSIDE.float(), INSIDE, ALL)
    assert best_iou(counts)[0].tolist() == [1, 1] and pixel_average_precision(counts).tolist() == [1, 1]
    assert pointing_game(INSIDE.float(), INSIDE, ALL).tolist() == [1, 1]


def test_pxap_equals_scikit_learns_average_precision_on_the_steps():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 256, (3, 20, 30), generator=generator).float()
    maps[:, 0, 0] = 255
    inside = torch.rand(3, 20, 30, generator=generator) < maps / 400
    counted = torch.rand(3, 20, 30, generator=generator) < 0.8
    counts = histograms(maps, inside, counted)
    for n in range(3):
        expected = average_precision_score(inside[n][counted[n]].numpy(), maps[n][counted[n]].numpy())
        assert pixel_average_precision(counts)[n].item() == pytest.approx(expected)
    together = average_precision_score(inside[counted].numpy(), maps[counted].numpy())
    assert pixel_average_precision(counts.sum(0, keepdim=True)).item() == pytest.approx(together)


def test_best_iou_equals_brute_force():
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 256, (15, 12)).astype(np.float32)
    maps[3, 3] = 255
    inside = rng.random((15, 12)) < 0.3
    best, _ = best_iou(histograms(*(torch.from_numpy(a)[None] for a in (maps, inside, np.ones_like(inside)))))
    ious = [((maps >= t) & inside).sum() / ((maps >= t) | inside).sum() for t in range(1, 256)]
    assert best.item() == pytest.approx(max(ious))


def test_signals_of_one_dimension():
    signal, inside = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[False, False, True]])
    counted = torch.ones_like(inside)
    assert pointing_game(signal, inside, counted).item() == 0
    assert pointing_game(signal, inside, counted, tolerance=1).item() == 1
    assert energy_inside(signal, inside, counted).item() == 0.25


@pytest.mark.parametrize("maps", [-MAPS, MAPS * torch.nan, MAPS[:1]])
def test_bad_input_is_named(maps):
    with pytest.raises(StageError, match="plausibility: "):
        histograms(maps, INSIDE, ALL)
