"""`embed_images`, and the walk and the relabelling that use its vectors."""

import numpy as np
import pytest
import torch

from wsseg.saliency.walk import transition, walked
from wsseg.stages.relabel_masks.relabeling import propagated
from wsseg.stages.walk_seeds.stage import _at


def sides(rows, columns):
    """Return unit vectors of a grid whose left and right halves are orthogonal."""
    vectors = np.zeros((rows, columns, 2), np.float32)
    vectors[:, : columns // 2, 0], vectors[:, columns // 2 :, 1] = 1, 1
    return vectors


def test_the_transition_multiplies_boundaries_and_cosines():
    rng = np.random.default_rng(0)
    boundary = rng.random((4, 5), dtype=np.float32)
    vectors = rng.normal(size=(4, 5, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    found = transition(boundary, 2, 3.0, vectors).toarray()
    weights = np.eye(20)
    for i in range(20):
        for j in range(20):
            (y, x), (v, u) = divmod(i, 5), divmod(j, 5)
            if i != j and (y - v) ** 2 + (x - u) ** 2 < 4:
                cosine = max(0.0, float(vectors[y, x] @ vectors[v, u]))
                weights[i, j] = ((1 - max(boundary[y, x], boundary[v, u])) * cosine) ** 3
    assert np.allclose(found, weights / weights.sum(1, keepdims=True), atol=1e-5)
    assert np.allclose(
        transition(boundary, 2, 3.0).toarray(), transition(boundary, 2, 3.0, np.ones((4, 5, 1), np.float32)).toarray()
    )


def test_a_walk_stays_among_similar_patches():
    maps = np.zeros((1, 6, 8), np.float32)
    maps[0, 2, 1] = 1
    result = walked(maps, np.zeros((6, 8), np.float32), steps=200, vectors=sides(6, 8))
    assert (result[0, :, :4] > 0.9).all() and not result[0, :, 4:].any()


def test_vectors_at_a_finer_grid_are_those_of_their_patch():
    fine = _at(sides(2, 4), (5, 8))
    assert fine.shape == (5, 8, 2) and (fine[:, :4, 0] == 1).all() and (fine[:, 4:, 1] == 1).all()


def test_scores_are_propagated_among_similar_patches_and_keep_their_details():
    scores = np.full((2, 24, 32), 0.5, np.float32)
    scores[1, 8:12, 4:8] = 0.9
    scores[0] = 1 - scores[1]
    result = propagated(scores, sides(6, 8))
    assert np.allclose(result.sum(0), 1, atol=1e-5) and result.dtype == np.float32
    assert (result[1, 18:, :12] > 0.51).all()  # the evidence spreads over the left half
    assert np.allclose(result[1, :, 20:], 0.5, atol=1e-5)
    assert result[1, 9, 5] > result[1, 9, 10]
    noise = np.random.default_rng(0).random((24, 32)).astype(np.float32) * 0.01
    detailed = propagated(np.stack([scores[0] - noise, scores[1] + noise]), sides(6, 8))
    assert np.corrcoef((detailed[1] - result[1])[:, 20:].ravel(), noise[:, 20:].ravel())[0, 1] > 0.9


def test_uniform_scores_stay():
    scores = np.full((3, 8, 8), 1 / 3, np.float32)
    assert np.allclose(propagated(scores, sides(2, 2)), scores, atol=1e-6)


def test_the_stage_writes_vectors_of_length_one(csv_data, tmp_path):
    pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")
    import safetensors.torch

    from tests.models.foundation.tiny import save_dino
    from wsseg.models.foundation.checkpoint import Checkpoint
    from wsseg.running.plan import open_config
    from wsseg.running.sources import Sources
    from wsseg.stages.embed_images.config import Config
    from wsseg.stages.embed_images.stage import EmbedImages
    from wsseg.store.objects import ArtifactStore

    images = Sources(open_config(str(csv_data)).data, ArtifactStore(tmp_path / "store")).get("data.train")
    config = Config(model=Checkpoint(folder=save_dino(tmp_path / "dino", "dinov2")), size=96, rank=8)
    EmbedImages().check(config, {"images": images})
    metrics = EmbedImages().run(config, {"images": images}, tmp_path / "a")
    assert metrics["images"] == 12 and metrics["bytes_per_image"] < 1000
    for item in images.items:
        path = tmp_path / "a" / "embeddings" / f"{item.id}.safetensors"
        vectors = safetensors.torch.load_file(path)["vectors"]
        assert vectors.shape == (4, 6, 8) and vectors.dtype == torch.float16  # 48 x 64 px become 64 x 96
        assert torch.allclose(vectors.float().norm(dim=2), torch.ones(4, 6), atol=2e-3)
