import json
import math

import numpy as np
import pytest
import timm
import torch

from wsseg.models.boundary import BoundaryNetwork, affinity_loss, boundaries, load_boundary_network
from wsseg.models.weights import network_bytes
from wsseg.saliency.walk import neighbours


def literal_loss(boundary, mask, radius):
    """Return the loss of one image, pair by pair; the path of a pair as `test_walk` has it."""
    from tests.saliency.test_walk import literal_path

    height, width = mask.shape
    terms = {"background": [], "class": [], "unequal": []}
    for dy, dx in neighbours(radius):
        for y in range(height):
            for x in range(width):
                if not (0 <= y + dy < height and 0 <= x + dx < width):
                    continue
                one, other = mask[y, x], mask[y + dy, x + dx]
                if 255 in (one, other):
                    continue
                highest = max(boundary[y + py, x + px] for py, px in literal_path(dy, dx))
                if one == other:
                    terms["class" if one else "background"].append(-math.log(1 + 1e-5 - highest))
                else:
                    terms["unequal"].append(-math.log(highest + 1e-5))
    mean = {name: sum(values) / max(len(values), 1) for name, values in terms.items()}
    return (mean["background"] + mean["class"]) / 4 + mean["unequal"] / 2


def test_the_loss_equals_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    boundary = rng.uniform(0.05, 0.95, (6, 8)).astype(np.float32)
    mask = rng.choice([0, 0, 2, 3, 255], (6, 8))
    found, _ = affinity_loss(torch.from_numpy(boundary)[None], torch.from_numpy(mask)[None], 4)
    assert found.item() == pytest.approx(literal_loss(boundary, mask, 4), rel=1e-4)


def test_unsure_pixels_teach_nothing():
    boundary = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, counts = affinity_loss(boundary, torch.full((1, 5, 5), 255), 3)
    loss.backward()
    assert loss.item() == 0 and not boundary.grad.any() and not counts.any()


def test_pairs_told_right_by_hand():
    """A row of background, class 1, class 1 with a boundary at the first place: paths are two places, one step apart."""
    boundary, mask = torch.tensor([[[0.9, 0.1, 0.2]]]), torch.tensor([[[0, 1, 1]]])
    _, counts = affinity_loss(boundary, mask, 2)
    assert counts.tolist() == [[0, 0], [1, 1], [1, 1]]  # 1-1: below one half; 0-1: above
    _, counts = affinity_loss(1 - boundary, mask, 2)
    assert counts.tolist() == [[0, 0], [0, 1], [1, 1]]  # 0-1: the second place is high now


def test_the_branch_learns_where_classes_meet_and_the_backbone_stays():
    torch.manual_seed(0)
    model = BoundaryNetwork("test_resnet").train()
    before = {n: t.clone() for n, t in model.backbone.state_dict().items()}
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :, 32:] = 2
    mask = torch.zeros(1, 16, 16, dtype=torch.long)
    mask[:, :, 8:] = 1
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        affinity_loss(model(image), mask, 4)[0].backward()
        optimizer.step()
    found = boundaries(model.eval(), image)[0]
    assert found.shape == (16, 16)
    edge, rooms = found[:, 7:9].amax(1).min(), torch.cat([found[:, :5], found[:, 11:]], dim=1).mean()
    assert edge > 5 * rooms
    assert all(torch.equal(t, before[n]) for n, t in model.backbone.state_dict().items())


def test_it_is_kept_and_built_again():
    torch.manual_seed(0)
    model = BoundaryNetwork("test_resnet").eval()
    spec = {"backbone": "test_resnet", "mean": [0.5] * 3, "std": [0.5] * 3, "losses": [1.0]}
    files = {"network.json": json.dumps(spec).encode(), "network.safetensors": network_bytes(model)}
    again, read = load_boundary_network(files.__getitem__, "here")
    image = torch.randn(2, 3, 64, 96)
    assert torch.equal(again(image), model(image)) and again(image).shape == (2, 16, 24) and read.mean == (0.5,) * 3


def test_it_starts_from_the_classifiers_backbone():
    names = set(BoundaryNetwork("tf_efficientnet_lite0").backbone.state_dict())
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).state_dict()
    assert names <= set(whole)
