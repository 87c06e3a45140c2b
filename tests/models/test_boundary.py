import json
import math

import numpy as np
import pytest
import timm
import torch

from wsseg.models.boundary import BoundaryNetwork, affinity_loss, boundaries, load_boundary_network
from wsseg.models.weights import network_bytes
from wsseg.saliency.walk import neighbours


def loss_by_loops(boundary, mask, radius):
    """Return the loss of one image, computed pair by pair; `literal_path` of `test_walk` gives the path of a pair."""
    from tests.saliency.test_walk import literal_path

    height, width = mask.shape
    terms = {"background": [], "class": [], "unequal": []}
    for dy, dx in neighbours(radius):
        for y in range(height):
            for x in range(width):
                if not (0 <= y + dy < height and 0 <= x + dx < width):
                    continue
                start, end = mask[y, x], mask[y + dy, x + dx]
                if 255 in (start, end):
                    continue
                highest = max(boundary[y + py, x + px] for py, px in literal_path(dy, dx))
                if start == end:
                    terms["class" if start else "background"].append(-math.log(1 + 1e-5 - highest))
                else:
                    terms["unequal"].append(-math.log(highest + 1e-5))
    mean = {name: sum(values) / max(len(values), 1) for name, values in terms.items()}
    return (mean["background"] + mean["class"]) / 4 + mean["unequal"] / 2


def test_the_loss_equals_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    boundary = rng.uniform(0.05, 0.95, (6, 8)).astype(np.float32)
    mask = rng.choice([0, 0, 2, 3, 255], (6, 8))
    loss, _ = affinity_loss(torch.from_numpy(boundary)[None], torch.from_numpy(mask)[None], 4)
    assert loss.item() == pytest.approx(loss_by_loops(boundary, mask, 4), rel=1e-4)


def test_undecided_pixels_are_ignored():
    boundary = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, counts = affinity_loss(boundary, torch.full((1, 5, 5), 255), 3)
    loss.backward()
    assert loss.item() == 0 and not boundary.grad.any() and not counts.any()


def test_counts_of_correct_pairs_by_hand():
    """One row of background, class 1, class 1, with a boundary at the first place."""
    boundary, mask = torch.tensor([[[0.9, 0.1, 0.2]]]), torch.tensor([[[0, 1, 1]]])
    _, counts = affinity_loss(boundary, mask, 2)
    assert counts.tolist() == [[0, 0], [1, 1], [1, 1]]  # equal pair: below 0.5; unequal pair: above
    _, counts = affinity_loss(1 - boundary, mask, 2)
    assert counts.tolist() == [[0, 0], [0, 1], [1, 1]]  # the boundary is now at the second place


def test_the_branch_learns_class_boundaries_and_the_backbone_does_not_change():
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
    boundary = boundaries(model.eval(), image)[0]
    assert boundary.shape == (16, 16)
    edge, inside = boundary[:, 7:9].amax(1).min(), torch.cat([boundary[:, :5], boundary[:, 11:]], dim=1).mean()
    assert edge > 5 * inside
    assert all(torch.equal(t, before[n]) for n, t in model.backbone.state_dict().items())


def test_a_network_is_restored_from_its_files():
    torch.manual_seed(0)
    model = BoundaryNetwork("test_resnet").eval()
    spec = {"backbone": "test_resnet", "mean": [0.5] * 3, "std": [0.5] * 3, "losses": [1.0]}
    files = {"network.json": json.dumps(spec).encode(), "network.safetensors": network_bytes(model)}
    restored, restored_spec = load_boundary_network(files.__getitem__, "here")
    image = torch.randn(2, 3, 64, 96)
    assert torch.equal(restored(image), model(image)) and restored(image).shape == (2, 16, 24)
    assert restored_spec.mean == (0.5,) * 3


def test_the_weights_of_the_classifiers_backbone_have_the_same_names():
    names = set(BoundaryNetwork("tf_efficientnet_lite0").backbone.state_dict())
    backbone = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).state_dict()
    assert names <= set(backbone)
