"""Patch embeddings of DINO and CLIP: products that are affinities."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from tests.models.foundation.tiny import save_dino
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.clip import affinities
from wsseg.models.foundation.embeddings import Embedder, factors, reduced

CPU = torch.device("cpu")
IMAGES = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "prefix"), [("dinov2", 1), ("dinov2_with_registers", 5), ("dinov3_vit", 5)])
def test_the_class_token_and_registers_are_dropped_at_any_size(tmp_path, kind, prefix):
    embedder = Embedder(Checkpoint(folder=save_dino(tmp_path, kind)), CPU, "float32")
    assert embedder.patch == 16 and len(embedder.mean) == 3
    vectors = embedder.vectors(IMAGES)
    with torch.no_grad():
        tokens = embedder.model(IMAGES).last_hidden_state
    assert tokens.shape[1] == prefix + 15 and torch.equal(vectors, tokens[:, prefix:])


def test_products_of_clips_factors_are_its_affinities(clip_folder):
    embedder = Embedder(Checkpoint(folder=clip_folder), CPU, "float32")
    vectors = embedder.vectors(IMAGES)
    with torch.no_grad():
        output = embedder.model(IMAGES, interpolate_pos_encoding=True, output_attentions=True)
    expected = affinities(torch.stack([a.mean(1) for a in output.attentions[-8:]]).mean(0))
    assert torch.allclose(vectors @ vectors.transpose(1, 2), expected, atol=1e-4)


def test_factors_of_a_matrix_with_negative_eigenvalues():
    matrix = torch.tensor([[[0.1, 0.9], [0.9, 0.1]]])
    assert torch.allclose(factors(matrix) @ factors(matrix).transpose(1, 2), matrix @ matrix, atol=1e-6)


def test_reduced_vectors_keep_their_cosines():
    vectors = torch.randn(12, 5, generator=torch.Generator().manual_seed(1)) @ torch.randn(5, 40)
    unit = F.normalize(vectors, dim=1)
    small = reduced(vectors, 5)
    assert small.shape == (12, 5) and torch.allclose(small @ small.T, unit @ unit.T, atol=1e-4)
    assert torch.allclose(reduced(vectors, 3).norm(dim=1), torch.ones(12))
    assert reduced(vectors, 100).shape == (12, 40)
