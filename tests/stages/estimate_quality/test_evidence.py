"""Evidence about masks without true masks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.data.reading import inspect_file
from wsseg.models.segmenter import SegmenterSpec
from wsseg.stages.estimate_quality.evidence import Overlap, gather_evidence
from wsseg.types import LabeledImage

SPEC = SegmenterSpec("fpn", "tu-test_resnet", {}, ("red", "blue"), 64, (0.5,) * 3, (0.5,) * 3)


class Halves(nn.Module):
    """Gives the left half of each input the first logits, and the right half the second ones."""

    def __init__(self, left: tuple[float, ...], right: tuple[float, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([left, right]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        halves = self.logits[(torch.arange(images.shape[3]) >= images.shape[3] // 2).long()]  # (W, K + 1)
        return halves.T[None, :, None, :].expand(len(images), -1, images.shape[2], -1) + 0 * images[:, :1]


def evidence(tmp_path, model, mask, class_ids=(1, 2), previous=None, first=None, among_labels=False):
    path = tmp_path / "a.png"
    PILImage.new("RGB", (64, 64)).save(path)
    item = LabeledImage("a", path, class_ids, (64, 64), inspect_file(path).sha256)
    config = SimpleNamespace(batch_size=2, precision="float32")
    sources = [None if m is None else SimpleNamespace(mask=lambda _, m=m: m) for m in (mask, first)]
    return gather_evidence([item], *sources, model, previous, SPEC, among_labels, config, torch.device("cpu"))


def test_overlap_of_masks_by_hand():
    """255 in either mask is not counted."""
    overlap = Overlap.empty(3)
    overlap.add_masks(np.array([[0, 1, 1, 255]], np.uint8), np.array([[0, 1, 0, 1]], np.uint8))
    assert overlap.iou[:2].tolist() == [0.5, 0.5] and np.isnan(overlap.iou[2])


def test_expected_overlap_by_hand():
    """Two pixels of class 1 with probability 0.75, two background pixels that have class 1 with probability 0.25."""
    overlap = Overlap.empty(2)
    one = np.array([[0.75, 0.75, 0.25, 0.25]], np.float32)
    overlap.add_expected(np.array([[1, 1, 0, 0]], np.uint8), np.stack([1 - one, one]))
    assert overlap.iou.tolist() == pytest.approx([1.5 / 2.5, 1.5 / 2.5])


def test_a_sure_network_agrees_with_its_masks_and_contradicts_its_mirror_image(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 1
    found = evidence(tmp_path, Halves((0.0, 20.0, 0.0), (20.0, 0.0, 0.0)), mask)
    assert found["fit"][:2].tolist() == [1.0, 1.0] and np.isnan(found["fit"][2])
    assert found["flip"][:2].tolist() == [0.0, 0.0] and found["scale"][:2].tolist() == [1.0, 1.0]
    assert np.isnan(found["rounds"]).all() and np.isnan(found["first"]).all()
    # the mean of the three views has class 1 with probability 2/3 on the left and 1/3 on the right
    assert found["expected"][1] == pytest.approx((2 / 3) / (1 + 1 / 3), abs=1e-3)


def test_classes_that_the_labels_exclude_count_as_errors(tmp_path):
    """The network sees blue in a red image: red is left in its place if only the labels are possible."""
    network, mask = Halves((0.0, 1.0, 9.0), (0.0, 1.0, 9.0)), np.full((64, 64), 1, np.uint8)
    found = evidence(tmp_path, network, mask, (1,))
    assert found["labels"][1:].tolist() == [0.0, 0.0] and found["fit"][1] == 0
    assert evidence(tmp_path, network, mask, (1,), among_labels=True)["fit"][1] == 1  # as pseudo-masks are made


def test_earlier_masks_and_networks_are_compared(tmp_path):
    mask, first = np.full((64, 64), 2, np.uint8), np.full((64, 64), 2, np.uint8)
    first[:16] = 0
    previous = Halves((0.0, 0.0, 9.0), (9.0, 0.0, 0.0))
    found = evidence(tmp_path, Halves((0.0, 0.0, 9.0), (0.0, 0.0, 9.0)), mask, previous=previous, first=first)
    assert found["rounds"][2] == 0.5 and found["first"][2] == 0.75
