import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsseg.stages.train_segmenter.losses import absent_loss, dice_loss, per_pixel, weighted_mean
from wsseg.stages.train_segmenter.teacher import TaughtNetwork, cutmix, random_boxes, teacher_targets

LOGITS = torch.tensor([[0.0, 2.0], [1.0, -1.0], [0.5, 0.0]]).reshape(1, 3, 1, 2)  # three classes, two pixels


def test_cross_entropy_ignores_undecided_pixels():
    masks = torch.tensor([[[1, 255]]])
    losses = per_pixel(LOGITS, masks, "cross_entropy")
    expected = math.log(math.exp(0) + math.exp(1) + math.exp(0.5)) - 1.0
    assert losses.flatten().tolist() == pytest.approx([expected, 0.0])
    assert float(weighted_mean(losses, (masks != 255).float())) == pytest.approx(expected)


def test_dice_by_hand():
    logits = torch.tensor([[0.0, 2.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.0, 3.0]]).reshape(1, 3, 1, 3)
    masks, weights = torch.tensor([[[1, 0, 255]]]), torch.tensor([[[1.0, 0.5, 1.0]]])
    p = logits.softmax(1)[0, :, 0]
    first = 1 - (2 * p[1, 0] + 1) / (1 + p[1, 0] + 0.5 * p[1, 1] + 1)
    second = 1 - 1 / (p[2, 0] + 0.5 * p[2, 1] + 1)  # no pixel of this class
    assert float(dice_loss(logits, masks, weights)) == pytest.approx(float(first + second) / 2)


def test_dice_is_zero_for_a_perfect_prediction_and_counts_small_classes_alike():
    masks = torch.zeros(1, 8, 8, dtype=torch.int64)
    masks[0, 0, 0], masks[0, 4:] = 1, 2
    perfect = 50 * F.one_hot(masks, 3).permute(0, 3, 1, 2).float()
    weights = torch.ones(1, 8, 8)
    assert float(dice_loss(perfect, masks, weights)) == pytest.approx(0, abs=1e-6)
    without_small = perfect.clone()
    without_small[0, :, 0, 0] = torch.tensor([50.0, 0, 0])
    assert float(dice_loss(without_small, masks, weights)) == pytest.approx(
        0.25, abs=1e-3
    )  # of the smallest possible region


def test_symmetric_by_hand():
    masks = torch.tensor([[[1, 0]]])
    probabilities = LOGITS.softmax(1)[0, :, 0]
    entropy = [-math.log(probabilities[1, 0]), -math.log(probabilities[0, 1])]
    reversed_entropy = [4 * (1 - float(probabilities[1, 0])), 4 * (1 - float(probabilities[0, 1]))]
    expected = [e + 0.5 * r for e, r in zip(entropy, reversed_entropy, strict=True)]
    assert per_pixel(LOGITS, masks, "symmetric").flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_bootstrapped_by_hand():
    logs = LOGITS.log_softmax(1)[0, :, 0, 0]
    expected = 0.8 * -logs[2] + 0.2 * -(logs.exp() * logs).sum()
    assert per_pixel(LOGITS, torch.tensor([[[2, 255]]]), "bootstrapped").flatten().tolist() == pytest.approx(
        [float(expected), 0.0]
    )


@pytest.mark.parametrize("loss", ["symmetric", "bootstrapped"])
def test_wrong_labels_have_smaller_gradients_than_in_cross_entropy(loss):
    def gradient(name: str, label: int) -> float:
        logits = torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
        per_pixel(logits, torch.tensor([[[label]]]), name).sum().backward()
        return float(logits.grad.abs().sum())

    # the network predicts class 0, the label is 1
    assert gradient(loss, 1) < 1.1 * gradient("cross_entropy", 1)
    if loss == "bootstrapped":
        assert gradient(loss, 1) < 0.85 * gradient("cross_entropy", 1)


@pytest.mark.parametrize("loss", ["cross_entropy", "symmetric", "bootstrapped"])
def test_masks_without_decided_pixels_have_a_loss_of_zero(loss):
    logits = LOGITS.clone().requires_grad_()
    masks = torch.full((1, 1, 2), 255)
    total = weighted_mean(per_pixel(logits, masks, loss), (masks != 255).float())
    total.backward()
    assert float(total.detach()) == 0
    assert logits.grad.abs().sum() == 0


def test_absent_classes_by_hand():
    probabilities = LOGITS.softmax(1)
    expected = float(-torch.log(1 - probabilities[0, 2]).mean())
    assert float(absent_loss(LOGITS, torch.tensor([[1.0, 0.0]]))) == pytest.approx(expected, rel=1e-5)
    assert float(absent_loss(LOGITS, torch.ones(1, 2))) == pytest.approx(0, abs=1e-6)


def test_the_teacher_labels_undecided_pixels_with_classes_that_are_present():
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]).T.reshape(1, 3, 1, 2)
    labels, weights = teacher_targets(torch.tensor([[[255, 1]]]), probabilities, torch.tensor([[1.0, 0.0]]))
    assert labels.tolist() == [[[1, 1]]]  # class 2 is most probable, but not in the image
    assert weights.flatten().tolist() == pytest.approx([0.3 / 0.5, (1 + 0.1 / 0.7) / 2])


def test_the_teacher_is_the_moving_average_of_the_student():
    student = nn.Linear(1, 1, bias=False)
    network = TaughtNetwork(student, decay=0.5)
    values = [4.0, 2.0, 8.0, 0.0]
    for value in values:
        nn.init.constant_(student.weight, value)
        network.follow()
    # 4, then averages that keep at most half of the past: (4 + 2) / 2 = 3, (3 + 8) / 2 = 5.5, 5.5 / 2
    assert float(network.teacher.weight) == pytest.approx(2.75)
    assert not any(p.requires_grad for p in network.teacher.parameters())
    assert not network.train().teacher.training


def test_a_checkpoint_contains_teacher_and_steps():
    network = TaughtNetwork(nn.Linear(2, 2), 0.9)
    network.follow()
    assert {"steps", "teacher.weight", "student.weight"} <= set(network.state_dict())


def test_boxes_cover_a_quarter_and_cutmix_pastes_the_next_image():
    torch.manual_seed(0)
    box = random_boxes(50, (8, 12), torch.device("cpu"))
    assert (box.flatten(1).sum(1) == 24).all()
    assert (random_boxes(2000, (8, 12), torch.device("cpu")).float().mean(0) > 0).all()
    images = torch.arange(50.0).reshape(50, 1, 1, 1).expand(50, 3, 8, 12)
    mixed = cutmix(images, box)
    assert (mixed[7][:, box[7]] == 8).all()
    assert (mixed[7][:, ~box[7]] == 7).all()
    assert (mixed[49][:, box[49]] == 0).all()
    assert (cutmix(images[:, 0], box) == mixed[:, 0]).all()


def test_a_taught_network_learns_through_wrong_labels():
    """A linear network learns from labels of which a third are wrong; its teacher is correct nearly everywhere."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    truth = (torch.rand(16, 16, 16, generator=generator) > 0.5).long()
    images = torch.stack([truth.float(), 1 - truth.float()], 1)
    noisy = torch.where(torch.rand(truth.shape, generator=generator) < 0.33, 1 - truth, truth)
    noisy[:, :2] = 255
    network = TaughtNetwork(nn.Conv2d(2, 2, 1), 0.9)
    optimizer = torch.optim.Adam(network.student.parameters(), 0.05)
    for _ in range(60):
        network.follow()
        present = torch.ones(16, 1)
        target, weights = teacher_targets(noisy, network(images, taught=True).softmax(1), present)
        box = random_boxes(16, (16, 16), images.device)
        logits = network(cutmix(images, box))
        loss = weighted_mean(per_pixel(logits, cutmix(target, box), "cross_entropy"), cutmix(weights, box))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network.teacher(images).argmax(1) == truth).float().mean() > 0.99
    assert F.cross_entropy(network.teacher(images), truth) < 0.3  # a network fitted to the noise has 0.45


def test_a_teacher_and_student_that_never_predict_a_rare_class_have_a_loss():
    """With the teacher's probability alone as weight, the loss would vanish."""
    masks = torch.zeros(1, 10, 10, dtype=torch.int64)
    masks[0, :2] = 1
    denial = torch.stack([torch.full((1, 10, 10), 8.0), torch.full((1, 10, 10), -8.0)], 1)
    labels, weights = teacher_targets(masks, denial.softmax(1), torch.ones(1, 1))
    assert weighted_mean(per_pixel(denial, labels, "cross_entropy"), weights) > 1
