"""SAM, SAM 2 and SAM 3 with tiny random weights: sizes, coordinates and the rules that choose masks."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from tests.models.foundation.tiny import save_sam, save_sam2, save_sam3, transformers
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.sam import Sam, Sam3, grid, in_network, stability, without_duplicates

CPU = torch.device("cpu")
IMAGES = [np.random.default_rng(i).integers(0, 255, (30, 50, 3)).astype(np.uint8) for i in range(2)]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return Sam(Checkpoint(folder=save_sam(tmp_path_factory.mktemp("sam"))), CPU, "float32")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return Sam(Checkpoint(folder=save_sam2(tmp_path_factory.mktemp("sam2"))), CPU, "float32")


def test_sam_pads_and_sam_2_stretches(first, second):
    """An image of 30 x 50 px covers 38 of SAM's 64 rows, and all of SAM 2's."""
    embeddings, input_size = first.embed(IMAGES)
    assert len(embeddings) == 2 and input_size == (38, 64)
    embeddings, input_size = second.embed(IMAGES)
    assert len(embeddings) == 2 and input_size == (64, 64)
    middle = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    assert in_network(middle, (38, 64)).tolist() == [[32, 19], [0, 38]]
    assert in_network(middle, (64, 64)).tolist() == [[32, 32], [0, 64]]


def test_the_padding_is_removed_from_masks(first, second):
    rows = torch.linspace(-1, 1, 16).view(1, 16, 1).expand(1, 16, 16)  # positive in the lower half of the input
    found = first.enlarged(rows, (38, 64), (30, 50))
    assert found.shape == (1, 30, 50)
    assert (found[0, :24] < 0).all() and (found[0, 26:] > 0).all()  # row 32 of 38 is row 25 of 30
    found = second.enlarged(rows, (64, 64), (30, 50))
    assert (found[0, :14] < 0).all() and (found[0, 16:] > 0).all()


@pytest.mark.parametrize("name", ["first", "second"])
def test_masks_at_points_equal_the_processor_and_the_model_called_directly(name, request):
    sam = request.getfixturevalue(name)
    embeddings, input_size = sam.embed(IMAGES)
    points = torch.tensor([[0.2, 0.7], [0.6, 0.1], [0.9, 0.9]])
    logits, ious = sam.at_points(embeddings[1], points, input_size)
    assert logits.shape[:2] == (3, 3) and ious.shape == (3, 3)
    cls = transformers.SamProcessor if name == "first" else transformers.Sam2Processor
    pixels = [[[float(x) * 50, float(y) * 30]] for x, y in points]
    inputs = cls(sam.processor)(images=IMAGES[1], input_points=[pixels], return_tensors="pt")
    with torch.no_grad():
        expected = sam.model(**{k: inputs[k] for k in ("pixel_values", "input_points")})
    assert torch.allclose(logits, expected.pred_masks[0], atol=1e-3)
    assert torch.allclose(ious, expected.iou_scores[0], atol=1e-3)
    assert not torch.allclose(logits[0], logits[1], atol=1e-2)


@pytest.mark.parametrize("name", ["first", "second"])
def test_everything_is_sorted_and_has_the_size_asked_for(name, request):
    sam = request.getfixturevalue(name)
    embeddings, input_size = sam.embed(IMAGES)
    found = sam.everything(embeddings[0], input_size, (15, 25), 9, -10.0, -1.0, 1.0)
    assert found.masks.shape[1:] == (15, 25) and found.masks.any((1, 2)).all() and len(found.masks) > 9
    assert (np.diff(found.scores) <= 0).all()
    fewer = sam.everything(embeddings[0], input_size, (15, 25), 9, -10.0, -1.0, 0.5)
    assert 0 < len(fewer.masks) < len(found.masks)
    assert len(sam.everything(embeddings[0], input_size, (15, 25), 9, 100.0, 0.0, 0.7).masks) == 0


def test_the_grid_lies_at_the_centres_of_cells():
    assert grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_stability_is_the_iou_of_two_limits():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[3.0, 2.0, -2.0, -2.0]], [[-2.0, -2.0, -2.0, -2.0]]])
    assert stability(logits).tolist() == pytest.approx([1 / 3, 1, 0])


def test_of_boxes_that_overlap_the_best_is_kept():
    masks = torch.zeros(3, 10, 10, dtype=torch.bool)
    masks[0, :, :5], masks[1, :, :4], masks[2, :, 8:] = True, True, True
    found = without_duplicates(masks, torch.tensor([0.5, 0.9, 0.7]), 0.7)  # the boxes of 0 and 1 have an IoU of 0.8
    assert found.scores.tolist() == pytest.approx([0.9, 0.7]) and found.masks[0, 0].sum() == 4
    assert len(without_duplicates(masks, torch.tensor([0.5, 0.9, 0.7]), 0.85).masks) == 3


def test_sam_3_finds_masks_for_names_and_images_of_a_batch_are_independent(tmp_path):
    sam = Sam3(Checkpoint(folder=save_sam3(tmp_path)), CPU, "float32")
    texts = sam.texts(["red", "a blue box"])
    embeddings = sam.embed(IMAGES)
    found = sam.named(embeddings[1], texts[1], (30, 50), 0.0)
    assert found.masks.shape == (6, 30, 50) and (np.diff(found.scores) <= 0).all()
    inputs = sam.processor(images=IMAGES[1], text="a blue box", return_tensors="pt")
    with torch.no_grad():
        output = sam.model(
            pixel_values=inputs["pixel_values"], input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        )
    scores = (output.pred_logits.sigmoid() * output.presence_logits.sigmoid())[0]
    assert np.allclose(found.scores, scores.sort(descending=True).values, atol=1e-4)
    assert not np.allclose(sam.named(embeddings[1], texts[0], (30, 50), 0.0).scores, found.scores, atol=1e-5)
    assert len(sam.named(embeddings[1], texts[1], (30, 50), 1.0).masks) == 0
