"""The teacher, a moving average of the network, and CutMix."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsseg.stages.train_segmenter.losses import per_pixel, weighted_mean
from wsseg.stages.train_segmenter.teacher import TaughtNetwork, cutmix, random_boxes, teacher_targets


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
