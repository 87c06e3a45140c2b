"""CLIP's maps against literal computations; the model is tiny and random, and its files have the real format."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from wsseg.errors import StageError
from wsseg.models.device import autocast
from wsseg.models.foundation.checkpoint import Checkpoint, load_model
from wsseg.models.foundation.clip import (
    Clip,
    affinities,
    attention_means,
    boxes_of,
    grad_cams,
    log_probabilities,
    refined,
)

CPU = torch.device("cpu")
FLOAT32 = autocast("float32", CPU)


@pytest.fixture(scope="module")
def clip(clip_folder):
    return Clip(Checkpoint(folder=clip_folder), CPU)


@pytest.fixture(scope="module")
def texts(clip):
    return clip.text_embeddings(["red square", "blue square", "grass", "sky", "wall"], ["a clean origami {}."])


def images(*size):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def test_text_embeddings_are_means_over_templates(clip, texts):
    assert texts.shape == (5, 24) and torch.allclose(texts.norm(dim=1), torch.ones(5))
    one, two = ("a clean origami {}.", "a photo of a {}, outdoors.")
    parts = [clip.text_embeddings(["dog"], [template]) for template in (one, two)]
    both = clip.text_embeddings(["dog"], [one, two])
    assert torch.allclose(both, F.normalize(parts[0] + parts[1], dim=1), atol=1e-6)
    assert not torch.allclose(parts[0], parts[1], atol=1e-3)


def test_a_text_equals_the_model_called_directly(clip, texts):
    tokens = clip.tokenizer("a clean origami sky.", return_tensors="pt")
    assert torch.allclose(
        texts[3], F.normalize(clip.model.get_text_features(**tokens).pooler_output[0], dim=0), atol=1e-6
    )


def test_too_long_a_text_is_refused(clip):
    with pytest.raises(StageError, match="too long for the model; expected: at most 77 tokens"):
        clip.text_embeddings(["word " * 80], ["{}"])


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (112, 32)])
def test_the_maps_equal_a_literal_computation_at_any_size(clip, texts, size):
    """The reference runs the whole model, takes gradients of the plain softmax, and loops over patches and layers."""
    present = torch.tensor([[True, True], [False, True]])
    found = clip.maps(images(*size), texts, present, FLOAT32)
    rows, columns = size[0] // 16, size[1] // 16
    assert found.shape == (2, 2, rows, columns)
    vision = clip.model.vision_model
    for n, image in enumerate(images(*size)):
        output = vision(image[None], interpolate_pos_encoding=True, output_attentions=True, output_hidden_states=True)
        assert len(output.attentions) == 10 and output.attentions[0].shape == (
            1,
            4,
            rows * columns + 1,
            rows * columns + 1,
        )
        last = vision.encoder.layers[-1]
        hidden = output.hidden_states[-2].detach()
        tokens = last.layer_norm1(hidden).detach().requires_grad_()
        out = hidden + last.self_attn(hidden_states=tokens)[0]
        out = vision.post_layernorm(out + last.mlp(last.layer_norm2(out)))
        feature = clip.model.visual_projection(out[0, 1:].mean(0))
        kept = [*[c for c in range(2) if present[n, c]], 2, 3, 4]
        logits = clip.model.logit_scale.exp() * texts[kept] @ (feature / feature.norm())
        attention = torch.stack([a[0].mean(0)[1:, 1:] for a in output.attentions[-8:]]).mean(0)
        for _ in range(3):
            attention = attention / attention.sum(0, keepdim=True)
            attention = attention / attention.sum(1, keepdim=True)
        attention = (attention + attention.T) / 2
        affinity = attention @ attention
        for c in range(2):
            if not present[n, c]:
                assert not found[n, c].any()
                continue
            (gradient,) = torch.autograd.grad(
                logits.double().softmax(0)[kept.index(c)], tokens, retain_graph=True
            )  # in float32, the gradient of a probability of 1 vanishes
            weights = gradient[0, 1:].mean(0)
            cam = torch.tensor([max(0.0, float(weights @ token)) for token in tokens[0, 1:].detach()])
            cam = (cam / cam.max().clamp_min(1e-30)).view(rows, columns)
            boxed = (cam * torch.from_numpy(boxes_of(cam.numpy(), 0.4))).flatten()
            expected = torch.tensor([float(affinity[i].detach() @ boxed) for i in range(rows * columns)])
            assert torch.allclose(found[n, c].flatten(), expected / expected.max().clamp_min(1e-30), atol=2e-4)
    peaks, lows = found.amax((2, 3)), found.amin((2, 3))
    assert (peaks == 1).sum() >= 2 and lows[peaks == 1].min() < 0.999  # not all maps are trivial


def test_background_words_and_other_classes_change_the_maps(clip, texts):
    both = torch.tensor([[True, True]] * 2)
    one = torch.tensor([[True, False]] * 2)
    batch = images(64, 64)
    maps = clip.maps(batch, texts, both, FLOAT32)
    assert not torch.allclose(maps, clip.maps(batch, texts[:4], both, FLOAT32), atol=1e-3)
    assert not torch.allclose(maps[:, 0], clip.maps(batch, texts, one, FLOAT32)[:, 0], atol=1e-3)


def test_an_image_has_the_same_maps_alone_and_in_a_batch(clip, texts):
    present = torch.tensor([[True, True], [False, True]])
    together = clip.maps(images(48, 64), texts, present, FLOAT32)
    for n in range(2):
        alone = clip.maps(images(48, 64)[n : n + 1], texts, present[n : n + 1], FLOAT32)
        assert torch.allclose(together[n : n + 1], alone, atol=1e-4)


def test_fused_attention_is_refused_since_it_returns_no_weights(clip, clip_folder):
    fused = load_model(Checkpoint(folder=clip_folder), "CLIPModel")
    assert fused.config._attn_implementation == "sdpa"
    layers = fused.vision_model.encoder.layers
    with pytest.raises(StageError, match="the attention weights are empty"), attention_means(layers):
        fused.vision_model(images(64, 64))
    assert clip.model.config._attn_implementation == "eager"


def test_attention_rows_sum_to_one_and_hooks_are_removed(clip):
    layers = clip.model.vision_model.encoder.layers
    before = [len(layer.self_attn._forward_hooks) for layer in layers]  # transformers has hooks of its own
    with attention_means(layers[-8:]) as means:
        clip.model.vision_model(images(64, 64))
    assert len(means) == 8 and torch.allclose(torch.stack(means).sum(-1), torch.ones(8, 2, 17), atol=1e-5)
    assert [len(layer.self_attn._forward_hooks) for layer in layers] == before


def test_affinities_are_symmetric_and_almost_doubly_stochastic():
    weights = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    affinity = affinities(weights)
    assert affinity.shape == (1, 6, 6) and torch.allclose(affinity, affinity.transpose(1, 2), atol=1e-6)
    assert torch.allclose(affinity.sum(2), torch.ones(1, 6), atol=1e-3)


def test_log_probabilities_equal_the_softmax_and_keep_their_gradient_when_it_is_one():
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]], requires_grad=True)
    both = log_probabilities(logits, torch.tensor([[True, True]]))
    assert torch.allclose(both, logits.log_softmax(1)[:, :2], atol=1e-6)
    one = log_probabilities(logits, torch.tensor([[True, False]]))
    assert torch.allclose(one[:, 0], logits[:, [0, 2, 3]].log_softmax(1)[:, 0], atol=1e-6)
    sure = torch.tensor([[60.0, 0.0, 1.0]], requires_grad=True)
    assert float(sure.softmax(1)[0, 0].detach()) == 1.0
    (gradient,) = torch.autograd.grad(log_probabilities(sure, torch.tensor([[True, False]]))[0, 0], sure)
    assert gradient[0, 0] > 0 > gradient[0, 2] and gradient[0, 1] == 0


def test_boxes_surround_connected_parts():
    found = boxes_of(np.array([[0.9, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0.45, 0], [0.4, 0, 0, 0]], np.float32), 0.4)
    assert found.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]  # a diagonal connects
    assert boxes_of(np.array([[1.0, 0, 1.0]], np.float32), 0.4).tolist() == [[True, False, True]]


def test_what_lies_outside_the_boxes_is_not_propagated():
    cams = torch.tensor([[[[1.0, 0.0, 0.0, 0.3]]]])
    spread = torch.full((1, 4, 4), 0.25)
    assert torch.allclose(refined(cams, spread), torch.ones(1, 1, 1, 4))  # 1/4 of the peak everywhere, over its maximum
    identity = torch.eye(4)[None]
    assert refined(cams, identity).flatten().tolist() == [1, 0, 0, 0]  # 0.3 is below the level
    assert torch.allclose(refined(cams, identity, level=0.2).flatten(), cams.flatten())


def test_a_map_without_evidence_is_zero():
    tokens = torch.ones(1, 5, 3, requires_grad=True)
    cams = grad_cams(tokens, -tokens.sum((1, 2))[:, None], torch.tensor([[True]]), (2, 2))
    assert not cams.any() and not refined(cams, torch.eye(4)[None]).any()
