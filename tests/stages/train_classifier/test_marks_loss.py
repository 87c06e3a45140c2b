"""The loss on evidence inside marks, its ramp, and the refusal of a network that has collapsed."""

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.data.images import LabeledImages
from wsseg.data.reading import inspect_file
from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.models.classifier import ClassifierSpec, build_classifier, pooled, pooling_weights
from wsseg.stages.train_classifier.config import Config
from wsseg.stages.train_classifier.marks_check import marks_metrics, without_held_out
from wsseg.stages.train_classifier.marks_loss import marks_loss, ramp
from wsseg.stages.train_classifier.training import train
from wsseg.stages.train_segmenter.marks_loss import with_said
from wsseg.types import LabeledImage

VALUES = Config(backbone="test_resnet", weights="none", frozen_levels=0, size=64, epochs=6, batch_size=8, color_jitter=0.0,
                learning_rate=3e-3, scale=(1.0, 1.0), precision="float32")  # fmt: skip


class FixedMarks:
    """Marks by item id; the key is not used."""

    key = "key"

    def __init__(self, masks):
        self.masks, self.ids = masks, sorted(masks)

    def mask(self, item_id):
        return self.masks.get(item_id, np.full((64, 64), 255, np.uint8))


@pytest.fixture
def stamped(tmp_path):
    """Return 96 noisy images, half of them with a faint square of class 1 and a bright stamp in the corner that gives it away."""
    rng = np.random.default_rng(0)
    items, masks = [], {}
    for i in range(96):
        image = rng.integers(60, 190, (64, 64, 3)).astype(np.uint8)
        if i % 2:
            y, x = rng.integers(0, 16), rng.integers(32, 48)
            image[y : y + 16, x : x + 16, 0] = np.minimum(image[y : y + 16, x : x + 16, 0].astype(int) + 60, 255)
            image[44:60, 4:20] = (20, 250, 20)
            mask = np.full((64, 64), 255, np.uint8)
            mask[42:62, 2:22] = 0
            masks[f"{i:03d}"] = mask
        path = tmp_path / f"{i:03d}.png"
        PILImage.fromarray(image).save(path)
        items.append(LabeledImage(path.stem, path, (1,) if i % 2 else (), (64, 64), inspect_file(path).sha256))
    return LabeledImages("train", ClassMap(("square",)), tuple(items), {}, "key"), masks


@pytest.mark.parametrize("form", ["cam", "energy", "input_gradient"])
def test_following_the_loss_takes_the_evidence_out_of_what_is_denied(form):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 2, 3, padding=1, bias=False)
    images = torch.rand(2, 3, 16, 16)
    images[:, :, :6, :6] = 3.0  # what is denied stands out
    marks = torch.full((2, 16, 16), 255)
    marks[:, :6, :6] = 0
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for _ in range(40):
        images.requires_grad_(form == "input_gradient")
        maps = network(images)
        losses.append(marks_loss(form, images, maps, "mean", marks, present, 1.0, 0.0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert 0 <= losses[-1].item() < losses[0].item() <= 1


def test_without_any_mark_in_the_batch_the_loss_is_zero_and_has_a_gradient():
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    nothing = torch.full((2, 8, 8), 255)
    loss = marks_loss("cam", torch.zeros(2, 3, 8, 8), maps, "lse", nothing, torch.ones(2, 3), 1.0, 1.0)
    loss.backward()
    assert loss.item() == 0 and maps.grad.abs().sum() == 0


def test_the_positive_weight_pulls_evidence_into_what_was_marked():
    maps = torch.tensor([[[[1.0, 3.0]]]])
    marks = torch.tensor([[[1, 255]]])
    loss = marks_loss("cam", torch.zeros(1, 3, 1, 2), maps, "mean", marks, torch.ones(1, 1), 1.0, 0.5)
    assert float(loss) == pytest.approx(0.5 * (1 - 1 / 4))


def test_the_weight_rises_over_a_share_of_the_epochs():
    assert [ramp(epoch, 8, 0.5) for epoch in range(8)] == [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]
    assert ramp(0, 8, 0.0) == ramp(0, 1, 0.5) == 1


@pytest.mark.slow
def test_marks_take_the_evidence_of_a_classifier_out_of_a_stamp(stamped, tmp_path):
    images, masks = stamped

    def evidence(marks, out):
        out.mkdir()
        model, spec, _ = train(VALUES, images, out, marks)
        held_out = without_held_out(images, FixedMarks(masks))[1]
        return marks_metrics(VALUES, model.eval(), spec, images, FixedMarks(masks), held_out)

    before = evidence(None, tmp_path / "before")
    after = evidence(FixedMarks(masks), tmp_path / "after")
    assert before["evidence_in_marks"] > 2 * after["evidence_in_marks"]
    assert after["area_of_marks"] == pytest.approx(20 * 20 / 64**2, abs=0.02)


def test_a_network_that_no_longer_tells_the_classes_apart_is_refused(stamped):
    images, masks = stamped
    marks = FixedMarks({name: masks[name] for name in sorted(masks)[:4]})
    learned, held_out = without_held_out(images, marks)
    assert len(held_out) == 8 and not {item.id for item in held_out.items} & {
        *marks.ids,
        *(i.id for i in learned.items),
    }
    spec = ClassifierSpec("test_resnet", ("square",), (0.5,) * 3, (0.5,) * 3, 64)
    collapsed = build_classifier(spec).eval()
    nn.init.zeros_(collapsed.head.weight)
    with pytest.raises(
        StageError, match=r"no longer tells the classes apart: mean AP 0\.\d\d on 8 .* lower classifier.marks_neg"
    ):
        marks_metrics(VALUES, collapsed, spec, learned, marks, held_out)


def test_few_images_are_not_held_out(stamped):
    images, masks = stamped
    learned, held_out = without_held_out(images, FixedMarks(masks))  # 48 images without a mark
    assert len(learned) == 96 and len(held_out) == 0


def test_said_pixels_weigh_more_in_the_segmenter():
    weights = torch.tensor([[[1.0, 0.5, 0.0]]])
    marks = torch.tensor([[[255, 2, 0]]])
    assert with_said(weights, marks, 5.0).tolist() == [[[1.0, 5.0, 5.0]]]
    assert with_said(weights, None, 5.0) is weights


@pytest.mark.parametrize("pooling", ["mean", "lse", "top"])
def test_the_weight_of_a_place_is_the_derivative_of_the_logit(pooling):
    maps = torch.randn(2, 3, 5, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(pooled(maps, pooling).sum(), maps)
    assert torch.allclose(pooling_weights(maps, pooling), expected, atol=1e-6)


def test_a_low_value_that_is_not_pooled_is_no_evidence():
    """With log-sum-exp, -5 at a place that is denied is what a classifier should say; with the mean it lowers the logit."""
    maps = torch.tensor([[[[-5.0, 5.0]]]])
    marks = torch.tensor([[[0, 255]]])
    losses = {
        pooling: marks_loss("cam", torch.zeros(1, 3, 1, 2), maps, pooling, marks, torch.ones(1, 1), 1.0, 0.0).item()
        for pooling in ("mean", "lse")
    }
    assert losses["mean"] == pytest.approx(0.5) and losses["lse"] < 1e-3
